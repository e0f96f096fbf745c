"""From evidence per token to a mask of the image's own size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.coseg.config import CosegConfig


def guided_filter(guide: NDArray[np.float32], source: NDArray[np.float32], radius: int, epsilon: float = 1e-3) -> NDArray[np.float32]:
    """Edge-aware smoothing of ``source`` [H, W] after the colour ``guide`` [H, W, 3] in 0 .. 1 (He et al., Guided Image Filtering,
    2010)."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(array: NDArray) -> NDArray[np.float32]:
        return np.asarray(cv2.boxFilter(array, -1, window), np.float32)

    mean_guide, mean_source = mean(guide), mean(source)
    covariance = mean(guide * source[..., None]) - mean_guide * mean_source[..., None]
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    moments = [mean(guide[..., i] * guide[..., j]) for i, j in pairs]
    sigma = np.empty((*source.shape, 3, 3), np.float32)
    for at, (i, j) in enumerate(pairs):
        value = moments[at] - mean_guide[..., i] * mean_guide[..., j] + (epsilon if i == j else 0)
        sigma[..., i, j] = sigma[..., j, i] = value
    slope = np.linalg.solve(sigma, covariance[..., None])[..., 0]
    offset = mean_source - (slope * mean_guide).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)


def upsample(evidence: NDArray[np.float32], image: NDArray[np.uint8], radius: int) -> NDArray[np.float32]:
    """Evidence per token [h, w] at the size of the working ``image`` [H, W, 3], snapped to its edges where ``radius`` > 0."""
    height, width = image.shape[:2]
    full = np.asarray(cv2.resize(np.ascontiguousarray(evidence, np.float32), (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if radius == 0:
        return full
    return guided_filter(image.astype(np.float32) / np.float32(255), full, radius)


def drop_small(mask: NDArray[np.uint8], min_share: float) -> NDArray[np.uint8]:
    """``mask`` of label ids without the connected parts that cover less than ``min_share`` of the picture."""
    least = min_share * mask.size
    if least <= 1:
        return mask
    result = np.zeros_like(mask)
    for label in np.unique(mask[mask > 0]):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        keep = stats[:, cv2.CC_STAT_AREA] >= least
        keep[0] = False
        result[keep[parts]] = label
    return result


def label_mask(
    evidence: NDArray[np.float32], present: NDArray[np.bool_], image: NDArray[np.uint8], size: tuple[int, int], config: CosegConfig
) -> NDArray[np.uint8]:
    """Mask of label ids.

    Args:
        evidence: [C, h, w] per token. present: bool [C]. image: the working image uint8 [H, W, 3]. size: (height, width) of the mask.

    Returns:
        uint8 ``size``: 1 + the concept with the largest evidence where that is above ``image_margin``, else 0.
    """
    if not present.any():
        return np.zeros(size, np.uint8)
    # the evidence is interpolated, not the labels, so that borders are smooth at any size
    full = np.full((len(evidence), *size), -np.inf, np.float32)
    for concept in np.flatnonzero(present):
        fine = upsample(evidence[concept], image, config.guide_radius)
        full[concept] = cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    best = full.argmax(0)
    mask = np.where(full.max(0) > config.image_margin, best + 1, 0).astype(np.uint8)
    return drop_small(mask, config.min_share)
