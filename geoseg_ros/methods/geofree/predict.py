"""Masks of new clouds and images from a trained network and its bank; deterministic, one item never depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.decode import best_of_groups, competitive, knn20, nearest_score
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, stack
from geoseg_ros.methods.geofree.mgcm import squash
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground
from geoseg_ros.methods.geofree.samplers import matched
from geoseg_ros.packs.calibration import p_value

STRONGEST = 20  # patches whose mean score speaks for the presence in an image


@dataclass(frozen=True)
class CloudPrediction:
    """Of one cloud.

    Attributes:
        score: float32 [size of the input], -1 .. 1; -1 at invalid points.
        presence: cosine of the sampled foreground with the images' object prototype, minus that of the most similar negative.
        p: chance that an item without the concept scores so high; 1 where the bank has no null items.
        fused: whether images took part.
    """

    score: NDArray[np.float32]
    presence: float
    p: float
    fused: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool [size of the input]: foreground."""
        return self.score > 0


@dataclass(frozen=True)
class ImagePrediction:
    """Of V images.

    Attributes:
        mask: soft mask float32 [V, h, w], 0 .. 1; foreground above 0.5.
        presence: float64 [V], mean raw correlation of the strongest 20 patches. p: float64 [V], as for clouds.
        fused: whether clouds took part.
    """

    mask: NDArray[np.float32]
    presence: NDArray[np.float64]
    p: NDArray[np.float64]
    fused: bool


@torch.inference_mode()
def predict_clouds(network: CosegNetwork, clouds: Sequence[PreparedCloud], bank: Bank, batch: int = 8) -> list[CloudPrediction]:
    """Decide every point of clouds or proposals (see :func:`geoseg_ros.methods.geofree.inputs.prepare_cloud`)."""
    network.eval()
    config = network.config
    device = next(network.parameters()).device
    bank = bank.to(device)
    fused = network.fused and len(bank.patches) > 0
    alone = config.sampler.mutual == "released" or len(bank.partners_o) == 0  # a cloud is its own partner then
    step = 1 if alone else batch
    result: list[CloudPrediction] = []
    for start in range(0, len(clouds), step):
        part = clouds[start : start + step]
        points = stack(part).to(device)
        features = network.clouds(points, None if alone else bank.partners(config.sampler.partners, len(points)))
        points = features.points
        foreground = network.fused_clouds(features, bank.columns(len(points))) if fused else Foreground(features.foreground)
        samples = network.samples(foreground, features.background, points)
        objects = F.normalize(network.cloud_object(network.extractor(samples.projected_o).embedding), dim=1)
        presence = (objects @ bank.object - (objects @ bank.negatives.T).amax(1)).double().cpu().numpy()
        p = p_value(presence, bank.null_clouds.cpu().numpy())
        scored = config.decode in ("scores", "proposals")
        raw = network.point_scores(foreground, features.background).float().cpu().numpy() if scored else np.zeros(0)
        index = [matched(q, points).cpu().numpy() for q in (samples.simplified_o, samples.simplified_b)]
        for k, cloud in enumerate(part):
            score = np.full(cloud.size, -1, np.float32)
            if scored:
                share = raw[k] if cloud.groups is None or config.decode == "scores" else best_of_groups(raw[k], cloud.groups)
                mask = squash(torch.from_numpy(share)[None])[0].numpy()
                score[cloud.rows] = nearest_score(cloud.whole, cloud.points, 2 * mask - 1)
            elif config.decode == "knn20":
                score[cloud.rows] = knn20(cloud.whole, cloud.points, index[0][k])
            else:
                score[cloud.rows] = competitive(cloud.whole, cloud.points[index[0][k]], cloud.points[index[1][k]])
            result.append(CloudPrediction(score, float(presence[k]), float(p[k]), fused))
    return result


@torch.inference_mode()
def predict_images(network: CosegNetwork, images: ImageTokens, bank: Bank, batch: int = 16) -> ImagePrediction:
    """Masks of images; with ``mask_from = final`` after the fusion with the bank's clouds."""
    network.eval()
    device = next(network.parameters()).device
    bank = bank.to(device)
    fused = network.fused and len(bank.key_points) > 0 and network.config.mask_from == "final"
    masks, presences = [], []
    for start in range(0, len(images), batch):
        part = images.select(slice(start, start + batch)).to(device)
        features = network.images(part.tokens, part.cls, bank.coarse(), part.evidence)
        presences.append(features.score.topk(min(STRONGEST, features.score.shape[1]), dim=1).values.mean(1))
        if fused:
            columns = bank.key_points.flatten(0, 1).expand(len(part), -1, -1)
            enhanced = network.enhanced_images(features, columns, len(bank.key_points))
            features = network.images(enhanced, part.cls, bank.final(), part.evidence)
        masks.append(features.mask)
    presence = torch.cat(presences).double().cpu().numpy()
    mask = torch.cat(masks).unflatten(1, images.grid).float().cpu().numpy()
    return ImagePrediction(mask, presence, p_value(presence, bank.null_images.cpu().numpy()), fused)


def calibrated(
    network: CosegNetwork,
    bank: Bank,
    clouds: Sequence[PreparedCloud],
    images: ImageTokens | None,
    null_clouds: Sequence[PreparedCloud] = (),
    null_images: ImageTokens | None = None,
) -> Bank:
    """The bank with presence scores: of the set's own items and of items that do not show the concept (split conformal p-values)."""

    def cloud_scores(items: Sequence[PreparedCloud]) -> torch.Tensor:
        return torch.tensor([prediction.presence for prediction in predict_clouds(network, items, bank)], dtype=torch.float32)

    def image_scores(items: ImageTokens | None) -> torch.Tensor:
        if items is None or not len(items):
            return torch.zeros(0)
        return torch.from_numpy(predict_images(network, items, bank).presence.astype(np.float32))

    return replace(
        bank,
        own_clouds=cloud_scores(clouds),
        own_images=image_scores(images),
        null_clouds=cloud_scores(null_clouds),
        null_images=image_scores(null_images),
    )
