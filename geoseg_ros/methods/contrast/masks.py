"""Masks at the size of the image, from evidence per token."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.methods.contrast.config import CosegConfig

SURE = 0.6  # share of an image's strongest evidence above which a pixel is target whatever its colour
UNLIKELY = -0.05  # evidence, in cosine, below which a pixel is background whatever its colour
CUT_SIDE = 320  # longer side, in pixels, at which GrabCut runs, so that its time does not grow with the image
COLOURS = 5  # components of GrabCut's colour models
REACH = 1 / 8  # of the longer side: the background within about this distance explains the colour of a pixel
SHADE = (0.35, 1.1)  # brightness of a pixel relative to the background that explains it; below 1: in shadow
TINT = 0.08  # largest deviation of a colour channel from its mean change, as a natural logarithm, in shadow


def guided_filter(guide: NDArray[np.float32], source: NDArray[np.float32], radius: int, epsilon: float = 1e-3) -> NDArray[np.float32]:
    """Edge-aware smoothing (He et al., "Guided Image Filtering", ECCV 2010).

    Args:
        guide: float32 [H, W, 3], colour in 0 .. 1.
        source: float32 [H, W], to be smoothed.
        radius: of the window, pixels.
        epsilon: regularisation, in squared units of ``guide``.

    Returns:
        float32 [H, W].
    """
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(array: NDArray) -> NDArray[np.float32]:
        return np.asarray(cv2.boxFilter(array, -1, window), np.float32)

    mean_guide, mean_source = mean(guide), mean(source)
    covariance = mean(guide * source[..., None]) - mean_guide * mean_source[..., None]
    a, b, c, d, e, f = (
        mean(guide[..., i] * guide[..., j]) - mean_guide[..., i] * mean_guide[..., j] + np.float32(epsilon if i == j else 0)
        for i in range(3)
        for j in range(i, 3)
    )
    # the inverse of the symmetric [[a, b, c], [b, d, e], [c, e, f]] by its cofactors: a general solver takes several times as long
    cofactors = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    aa, ab, ac, bb, bc, cc = cofactors
    x, y, z = np.moveaxis(covariance, 2, 0)
    determinant = a * aa + b * ab + c * ac
    slope = np.stack([aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z], 2) / determinant[..., None]
    offset = mean_source - (slope * mean_guide).sum(-1)
    return np.asarray((mean(slope) * guide).sum(-1) + mean(offset), np.float32)


def upsample(evidence: NDArray[np.float32], image: NDArray[np.uint8], radius: int) -> NDArray[np.float32]:
    """Evidence per token [h, w] at the size of ``image`` [H, W, 3], fitted to its edges by the guided filter where ``radius`` > 0."""
    height, width = image.shape[:2]
    full = np.asarray(cv2.resize(np.ascontiguousarray(evidence, np.float32), (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if radius == 0:
        return full
    return guided_filter(image.astype(np.float32) / np.float32(255), full, radius)


def cut_out(image: NDArray[np.uint8], evidence: NDArray[np.float32], margin: float, rounds: int) -> NDArray[np.bool_] | None:
    """Segment the target along the colour borders of the image by GrabCut (Rother et al., 2004), seeded by the evidence. Deterministic.

    Pixels with more than ``SURE`` of the strongest evidence are fixed as target, those below ``UNLIKELY`` as background. The others start
    on the side of their evidence, and their colours decide; those that look like the background around, or like its shadow, start as
    background and are never fixed as target.

    Args:
        image: uint8 RGB [H, W, 3].
        evidence: float32 [H, W].
        margin: evidence above which a pixel starts as target.
        rounds: of fitting the colour models and cutting.

    Returns:
        bool [H, W], or None where one side has too few pixels for a colour model.
    """
    best = max(float(evidence.max()), margin)
    trimap = np.full(evidence.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[evidence > margin] = cv2.GC_PR_FGD
    trimap[evidence < UNLIKELY] = cv2.GC_BGD
    trimap[evidence > max(margin, SURE * best)] = cv2.GC_FGD
    trimap[(evidence > margin) & like_background(image, evidence < 0)] = cv2.GC_PR_BGD
    target = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if min(np.count_nonzero(target), np.count_nonzero(~target)) < COLOURS:
        return None
    cv2.setRNGSeed(0)  # GrabCut's k-means draws from the generator of the thread
    models = np.zeros((1, 13 * COLOURS)), np.zeros((1, 13 * COLOURS))
    cv2.grabCut(np.ascontiguousarray(image[..., ::-1]), trimap, None, *models, rounds, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD))


def like_background(image: NDArray[np.uint8], background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels whose colour is that of the background around, or that of the background in shadow: darker, but not of another colour.

    Args:
        image: uint8 RGB [H, W, 3].
        background: bool [H, W], pixels that are background.

    Returns:
        bool [H, W]; all False without background.
    """
    height, width = background.shape
    colour = image.astype(np.float32) + 1
    weight = background.astype(np.float32)[..., None]
    step = min(8, height, width)  # the mean of the surroundings is smooth: it is computed on a coarser grid
    coarse = cv2.resize(np.dstack([colour * weight, weight]), (width // step, height // step), interpolation=cv2.INTER_AREA)
    around = cv2.GaussianBlur(coarse, (0, 0), REACH * max(height, width) / step, borderType=cv2.BORDER_CONSTANT)
    around = np.asarray(cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR))
    known = around[..., 3] > 1e-4
    change = np.log(colour) - np.log(np.maximum(around[..., :3] / np.maximum(around[..., 3:], 1e-4), 1))
    brightness = change.mean(2)
    tint = np.abs(change - brightness[..., None]).max(2)
    return np.asarray(known & (tint < TINT) & (brightness > np.log(SHADE[0])) & (brightness < np.log(SHADE[1])))


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

    Each pixel is labelled with the present concept of the largest evidence, where that is above ``image_margin``. With ``cut_rounds`` each
    concept is then refined along the colours of the image, within the pixels where no other concept has more evidence.

    Args:
        evidence: float32 [C, h, w], per token.
        present: bool [C].
        image: uint8 RGB [H, W, 3], as the backbone got it.
        size: (height, width) of the mask.
        config: settings of masks.

    Returns:
        uint8 [height, width]: 1 + the index of the concept, 0 = none.
    """
    numbers = np.flatnonzero(present)
    if not len(numbers):
        return np.zeros(size, np.uint8)
    fine = np.stack([upsample(evidence[concept], image, config.guide_radius) for concept in numbers])
    winner = fine.argmax(0)
    scale = min(1.0, CUT_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # signed values are interpolated instead of labels, so that borders are smooth at any size
    sides = []
    for k, own in enumerate(fine):
        side = own - np.float32(config.image_margin)
        if config.cut_rounds:
            held = np.where(winner == k, own, np.float32(2 * UNLIKELY))
            held = np.asarray(cv2.resize(held, small.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
            cut = cut_out(np.asarray(small, np.uint8), held, config.image_margin, config.cut_rounds)
            side = side if cut is None else cut.astype(np.float32) - np.float32(0.5)
        sides.append(cv2.resize(side, size[::-1], interpolation=cv2.INTER_LINEAR))
    full = np.stack(sides)
    mask = np.where(full.max(0) > 0, numbers[full.argmax(0)] + 1, 0).astype(np.uint8)
    return drop_small(mask, config.min_share)
