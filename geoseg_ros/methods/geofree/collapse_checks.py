"""Checks of a network in training that need no labels: whether it has collapsed, and a criterion to choose weights by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.methods.geofree.decode import competitive
from geoseg_ros.methods.geofree.inputs import ImageTokens
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, draw_columns
from geoseg_ros.methods.geofree.samplers import matched

FOREGROUND = (0.02, 0.9)  # share of the decode beyond which nothing is segmented any more
SAME = 1e-3  # spread of the presence scores below which all items count as alike
TURN = 2.0  # radians about the up axis


@dataclass(frozen=True)
class Check:
    """One check of a fixed subset of a set.

    Attributes:
        foreground: mean share of the points decoded as foreground.
        presence_deviation: standard deviation over clouds of cosine(y_obj^o, p_o) - cosine(y_obj^b, p_o).
        silhouette: of the clusters {y_obj^o} and {y_obj^b} under the cosine distance, -1 .. 1.
        agreement: mean IoU of the decode of a cloud and of the same cloud turned about the up axis.
    """

    foreground: float
    presence_deviation: float
    silhouette: float
    agreement: float

    @property
    def criterion(self) -> float:
        """What a checkpoint is chosen by: separated kinds, and masks that do not depend on the heading."""
        return self.silhouette + self.agreement

    def warnings(self) -> list[str]:
        """Signs of a collapse, one line each."""
        found = []
        low, high = FOREGROUND
        if not low <= self.foreground <= high:
            found.append(f"foreground share {self.foreground:.3f} outside {low} .. {high}")
        if self.presence_deviation < SAME:
            found.append("every cloud has the same presence score")
        return found


def turned_about_z(points: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Points [B, N, 3] turned about z by angles [B] in radians; further channels stay as they are."""
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    x, y = points[:, :, 0], points[:, :, 1]
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], dim=2), points[:, :, 2:]], dim=2)


def silhouette(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean silhouette (Rousseeuw 1987) of two clusters of vectors [n, C] and [m, C], n, m >= 2, cosine distance."""
    vectors = F.normalize(torch.cat([first, second]).float(), dim=1)
    distance = 1 - vectors @ vectors.T
    label = torch.arange(len(vectors), device=vectors.device) >= len(first)
    same = label[:, None] == label
    own = (distance * same).sum(1) / (same.sum(1) - 1)
    other = (distance * ~same).sum(1) / (~same).sum(1)
    return float(((other - own) / torch.maximum(own, other).clamp_min(1e-9)).mean())


@torch.inference_mode()
def check_collapse(network: CosegNetwork, points: torch.Tensor, images: ImageTokens) -> Check:
    """Check a network in evaluation mode on points [B, N, 3], B >= 2, and images; its mode is restored."""
    mode = network.training
    network.eval()
    masks, objects, backgrounds, prototype = _decode(network, points, images)
    turned, _, _, _ = _decode(network, turned_about_z(points, torch.full((len(points),), TURN, device=points.device)), images)
    network.train(mode)
    presence = F.cosine_similarity(objects, prototype) - F.cosine_similarity(backgrounds, prototype)
    overlap = [(a & b).sum() / np.maximum((a | b).sum(), 1) for a, b in zip(masks, turned, strict=True)]
    share = float(np.mean([m.mean() for m in masks]))
    return Check(share, float(presence.std()), silhouette(objects, backgrounds), float(np.mean(overlap)))


def _decode(
    network: CosegNetwork, points: torch.Tensor, images: ImageTokens
) -> tuple[list[NDArray[np.bool_]], torch.Tensor, torch.Tensor, torch.Tensor]:
    clouds = network.clouds(points)
    features = network.images(images.tokens, images.cls, evidence=images.evidence)
    foreground = Foreground(clouds.foreground)
    if network.fused:
        shown = torch.arange(len(points), device=points.device)[:, None] + torch.arange(network.config.gcsf.r_img, device=points.device)
        against = None if images.against is None else network.against(images.against)
        foreground = network.fused_clouds(clouds, draw_columns(features, shown % len(images), against))
    points = clouds.points
    samples = network.samples(foreground, clouds.background, points)
    extracted = network.extract(samples)
    masks = []
    index = [matched(q, points) for q in (samples.simplified_o, samples.simplified_b)]
    for k, cloud in enumerate(points):
        chosen = [cloud[i[k]].cpu().numpy() for i in index]
        masks.append(competitive(cloud.cpu().numpy(), *chosen) > 0)
    prototype = F.normalize(network.pooled(features, features, detach=True).object, dim=1).mean(0, keepdim=True)
    return masks, network.cloud_object(extracted[2].embedding), network.cloud_object(extracted[3].embedding), prototype
