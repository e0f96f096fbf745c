"""Figures of segmentation and of presence, in plain numpy, with their edge cases defined.

``predicted`` and ``truth`` are bool arrays of one shape, pixels of an image or points of a cloud. Shapes that differ raise ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Counts:
    """Pixels or points: found and true, found but not true, true but not found, neither."""

    tp: int
    fp: int
    fn: int
    tn: int

    def iou(self) -> float:
        """Intersection over union, tp / (tp + fp + fn); 1 where both are empty. J of the co-segmentation literature for one image."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else 1.0

    def accuracy(self) -> float:
        """P as the co-segmentation literature mostly means it: share of all pixels, foreground and background, that are right."""
        total = self.tp + self.fp + self.fn + self.tn
        return (self.tp + self.tn) / total if total else 1.0

    def precision(self) -> float:
        """P read as precision, tp / (tp + fp). Nothing found: 1 where there was nothing, else 0."""
        found = self.tp + self.fp
        return self.tp / found if found else float(self.fn == 0)


def count(predicted: Mask, truth: Mask, counted: Mask | None = None) -> Counts:
    """Counts of one item; only where ``counted`` holds, if given."""
    for name, array in (("predicted", predicted), ("counted", truth if counted is None else counted)):
        if array.shape != truth.shape:
            raise ValueError(f"{name}: expected the shape {truth.shape} of the truth, got {array.shape}")
    if counted is not None:
        predicted, truth = predicted[counted], truth[counted]
    tp, found, true = (int(np.count_nonzero(a)) for a in (predicted & truth, predicted, truth))
    return Counts(tp, found - tp, true - tp, truth.size - found - true + tp)


def iou(predicted: Mask, truth: Mask) -> float:
    """:meth:`Counts.iou` of one item."""
    return count(predicted, truth).iou()


def mean(values: Sequence[float]) -> float:
    """Mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def micro_iou(items: Sequence[Counts]) -> float:
    """IoU over all pixels or points of all items together (the metric of Yang et al., ICCV 2021); NaN of no items."""
    if not items:
        return float("nan")
    return Counts(*(sum(getattr(c, name) for c in items) for name in ("tp", "fp", "fn", "tn"))).iou()


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Probability that a positive item scores above a negative one, ties counting half (area under the ROC curve); NaN if a side is empty.

    Args:
        positive: [p] scores of items that show the target.
        negative: [n] scores of items that do not. Infinities are allowed, NaN is not.
    """
    positive, negative = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if np.isnan(positive).any() or np.isnan(negative).any():
        raise ValueError("scores: expected numbers, got NaN")
    if not positive.size or not negative.size:
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum()) / (2 * positive.size * negative.size)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean over items of |confidence - share correct| of their bin (Guo et al., ICML 2017); NaN of nothing.

    Args:
        confidence: [n] in 0 .. 1. correct: bool [n]. bins: of equal width; 1.0 belongs to the last.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.shape != correct.shape:
        raise ValueError(f"confidence: expected the shape {correct.shape} of correct, got {confidence.shape}")
    if not confidence.size:
        return float("nan")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence: expected numbers in 0 .. 1")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, confidence, bins) - np.bincount(place, correct, bins)
    return float(np.abs(gap).sum() / confidence.size)


def bootstrap(
    values: ArrayLike, statistic: Statistic | None = None, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval over items (Efron, 1979). Deterministic by seed; (NaN, NaN) of no items.

    Args:
        values: [n, ...], one row per item.
        statistic: from resampled items [r, n, ...] to [r]; None is the mean of values [n].
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(resamples, len(values)))]
    results = drawn.mean(axis=1) if statistic is None else statistic(drawn)
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def grouped_interval(groups: Sequence[ArrayLike], *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over groups of each group's mean: items are drawn within their group.

    Args:
        groups: values [n_g] of each group; empty groups are left out.
    """
    rng = np.random.default_rng(seed)
    filled = [np.asarray(group, np.float64) for group in groups if np.size(group)]
    if not filled:
        return float("nan"), float("nan")
    means = np.mean([group[rng.integers(len(group), size=(resamples, len(group)))].mean(axis=1) for group in filled], axis=0)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def micro_interval(items: Sequence[Counts], *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """:func:`bootstrap` of :func:`micro_iou`: items are drawn, their pixels or points stay together."""

    def ratio(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        both, either = drawn.sum(axis=1).T
        return np.where(either > 0, both / np.maximum(either, 1), 1.0)

    pairs = np.array([(c.tp, c.tp + c.fp + c.fn) for c in items], np.float64).reshape(-1, 2)
    return bootstrap(pairs, ratio, seed=seed, resamples=resamples, level=level)
