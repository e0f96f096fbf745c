"""From evidence per token to a mask of the image's own size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def guided_filter(guide: NDArray[np.float32], source: NDArray[np.float32], radius: int, epsilon: float = 1e-3) -> NDArray[np.float32]:
    """Edge-aware smoothing of ``source`` [H, W] after the colour ``guide`` [H, W, 3] in 0 .. 1 (He et al., Guided Image Filtering, 2010)."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.boxFilter(array, -1, window)

    mean_guide, mean_source = mean(guide), mean(source)
    covariance = mean(guide * source[..., None]) - mean_guide * mean_source[..., None]
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    second = mean(np.stack([guide[..., i] * guide[..., j] for i, j in pairs[:4]], -1)), mean(
        np.stack([guide[..., i] * guide[..., j] for i, j in pairs[4:]], -1)
    )
    moments = np.concatenate(second, -1)
    sigma = np.empty((*source.shape, 3, 3), np.float32)
    for at, (i, j) in enumerate(pairs):
        value = moments[..., at] - mean_guide[..., i] * mean_guide[..., j] + (epsilon if i == j else 0)
        sigma[..., i, j] = sigma[..., j, i] = value
    slope = np.linalg.solve(sigma, covariance[..., None])[..., 0]
    offset = mean_source - (slope * mean_guide).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)


def upsample(evidence: NDArray[np.float32], image: NDArray[np.uint8], radius: int) -> NDArray[np.float32]:
    """Evidence per token [h, w] at the size of the working ``image`` [H, W, 3], snapped to its edges where ``radius`` > 0."""
    height, width = image.shape[:2]
    full = cv2.resize(np.ascontiguousarray(evidence, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if radius == 0:
        return full
    return guided_filter(image.astype(np.float32) / 255, full, radius)


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
