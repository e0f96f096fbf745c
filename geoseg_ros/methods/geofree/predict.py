"""Labels of new clouds and images from a trained network and its bank. Results are deterministic and do not depend on other items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, stack
from geoseg_ros.methods.geofree.mgcm import squash
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground
from geoseg_ros.methods.geofree.samplers import matched
from geoseg_ros.packs.calibration import p_value

SPREAD = 20  # nearest points of a foreground sample that are foreground, too
STRONGEST = 20  # patches with the highest scores, whose mean is the presence score of an image


@dataclass(frozen=True)
class CloudPrediction:
    """Prediction for one cloud of M points.

    Attributes:
        score: float32 [M], -1 .. 1, above 0 for foreground; -1 at invalid points.
        presence: presence score: cosine of the sampled foreground with the object prototype of the images, minus its largest cosine with a
            negative.
        p: p-value: probability that an item without the target scores as high; 1 if the bank has no null items.
        fused: whether the bank's images were used.
    """

    score: NDArray[np.float32]
    presence: float
    p: float
    fused: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool [M], True for foreground."""
        return self.score > 0


@dataclass(frozen=True)
class ImagePrediction:
    """Predictions for V images.

    Attributes:
        mask: float32 [V, h, w], soft mask, 0 .. 1, above 0.5 for foreground.
        presence: float64 [V], presence score: mean score of the 20 patches with the highest scores.
        p: float64 [V], p-value as for clouds.
        fused: whether the bank's clouds were used.
    """

    mask: NDArray[np.float32]
    presence: NDArray[np.float64]
    p: NDArray[np.float64]
    fused: bool


@torch.inference_mode()
def predict_clouds(network: CosegNetwork, clouds: Sequence[PreparedCloud], bank: Bank, batch: int = 8) -> list[CloudPrediction]:
    """Score every point of clouds.

    Args:
        network: a trained network; it is put into evaluation mode.
        clouds: clouds prepared with the network's number of points.
        bank: bank of the training set.
        batch: clouds that are processed together.
    """
    network.eval()
    config = network.config
    device = next(network.parameters()).device
    bank = bank.to(device)
    fused, scored = network.fused and len(bank.patches) > 0, config.sampler.choose == "scores"
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
        scores = network.point_scores(foreground, features.background).float().cpu().numpy() if scored else None
        drawn = matched(samples.simplified_o, points).cpu().numpy()
        for k, cloud in enumerate(part):
            score = np.full(cloud.size, -1, np.float32)
            if scores is None:
                score[cloud.rows] = spread_samples(cloud.whole, cloud.points, drawn[k])
            else:
                share = scores[k] if cloud.groups is None else best_of_groups(scores[k], cloud.groups)
                mask = squash(torch.from_numpy(share)[None])[0].numpy()
                score[cloud.rows] = nearest_score(cloud.whole, cloud.points, 2 * mask - 1)
            result.append(CloudPrediction(score, float(presence[k]), float(p[k]), fused))
    return result


@torch.inference_mode()
def predict_images(network: CosegNetwork, images: ImageTokens, bank: Bank, batch: int = 16) -> ImagePrediction:
    """Masks of images after the fusion with the clouds of the bank; arguments as in :func:`predict_clouds`."""
    network.eval()
    device = next(network.parameters()).device
    bank = bank.to(device)
    fused = network.fused and len(bank.key_points) > 0
    masks, presences = [], []
    for start in range(0, len(images), batch):
        part = images.select(slice(start, start + batch)).to(device)
        features = network.images(part.tokens, part.cls, bank.coarse_mean, part.evidence)
        presences.append(features.score.topk(min(STRONGEST, features.score.shape[1]), dim=1).values.mean(1))
        if fused:
            columns = bank.key_points.flatten(0, 1).expand(len(part), -1, -1)
            enhanced = network.enhanced_images(features, columns, len(bank.key_points))
            features = network.images(enhanced, part.cls, bank.final_mean, part.evidence)
        masks.append(features.mask)
    presence = torch.cat(presences).double().cpu().numpy()
    mask = torch.cat(masks).unflatten(1, images.grid).float().cpu().numpy()
    return ImagePrediction(mask, presence, p_value(presence, bank.null_images.cpu().numpy()), fused)


def with_presence_scores(
    network: CosegNetwork,
    bank: Bank,
    clouds: Sequence[PreparedCloud],
    images: ImageTokens | None,
    null_clouds: Sequence[PreparedCloud] = (),
    null_images: ImageTokens | None = None,
) -> Bank:
    """The bank with presence scores of the items of the set, and of null items, for split conformal p-values.

    Args:
        network: a trained network.
        bank: its bank.
        clouds, images: items of the set.
        null_clouds, null_images: items that do not show the target.
    """

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


def spread_samples(
    points: NDArray[np.float32], sampled: NDArray[np.float32], matched: NDArray[np.int64], k: int = SPREAD
) -> NDArray[np.float32]:
    """Label points near foreground samples as foreground (Yang et al.).

    The k nearest sampled points of each foreground sample are foreground. Every point of the cloud takes the label of its nearest sampled
    point.

    Args:
        points: float32 [M, 3], the cloud.
        sampled: float32 [N, 3], points that the network was given, in the same frame.
        matched: int64 [m], indices of the foreground samples in ``sampled``.
        k: number of nearest points.

    Returns:
        float32 [M], 1 for foreground, else -1.
    """
    tree = cKDTree(sampled)
    chosen = np.zeros(len(sampled), bool)
    chosen[tree.query(sampled[np.unique(matched)], min(k, len(sampled)))[1].reshape(-1)] = True
    return np.where(chosen[tree.query(points)[1]], 1, -1).astype(np.float32)


def nearest_score(points: NDArray[np.float32], sampled: NDArray[np.float32], score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score float32 [M] of ``points`` [M, 3], each taken from the nearest of ``sampled`` [N, 3] with scores ``score`` [N]."""
    return np.asarray(score[cKDTree(sampled).query(points)[1]], np.float32)


def best_of_groups(score: NDArray[np.float32], groups: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replace the score of every point by the mean score of its best group.

    Args:
        score: float32 [N].
        groups: bool [G, N], membership of the points in G groups, none of which is empty.

    Returns:
        float32 [N]; points of no group get the lowest of all scores.
    """
    if not len(groups):
        return score
    means = groups @ score / groups.sum(1)
    best = np.where(groups, means[:, None], -np.inf).max(0)
    return np.where(groups.any(0), best, score.min()).astype(np.float32)
