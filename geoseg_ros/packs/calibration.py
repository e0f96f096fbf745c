"""Calibrated decisions about presence: split conformal p-values against null items."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

TAIL = 0.2


def p_value(score: ArrayLike, null: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability that a null item scores at least ``score``.

    Within the null sample it is the conformal rank (1 + #{null >= score}) / (1 + n), which cannot fall below 1 / (n + 1). Beyond the top
    ``TAIL`` share of the sample it is an exponential tail with the mean excess of that share (peaks over threshold), at most the rank.

    Args:
        score: any shape.
        null: [n], scores of items known not to show the concept; with n = 0 the result is 1.

    Returns:
        float64, the shape of ``score``, 0 < p <= 1.
    """
    score = np.asarray(score, np.float64)
    n = len(null)
    if n == 0:
        return np.ones(score.shape)
    ordered = np.sort(np.asarray(null, np.float64))
    rank = (1 + n - np.searchsorted(ordered, score, side="left")) / (1 + n)
    if n < 8:
        return rank
    in_tail = int(np.ceil(TAIL * n))
    threshold = ordered[n - in_tail - 1]
    excess = max(float((ordered[n - in_tail :] - threshold).mean()), 1e-6)
    # (1 + in_tail) / (1 + n) is the rank just above the threshold; the bound keeps p above 0
    tail = (1 + in_tail) / (1 + n) * np.exp(-np.clip((score - threshold) / excess, 0, 600))
    return np.where(score > threshold, np.minimum(rank, tail), rank)


def step_down(p: ArrayLike, candidates: ArrayLike, tries: int) -> NDArray[np.float64]:
    """p-values corrected for the number of candidates (Holm's step-down with Sidak's correction).

    The best of n independent candidates is corrected for n, the second best for n - 1, and so on. The probability that any null candidate
    falls below a level is then at most that level.

    Args:
        p: any shape.
        candidates: [k], p-values of candidates that do not overlap.
        tries: number of such candidates; n = max(k, ``tries``, 1).

    Returns:
        float64, the shape of ``p``.
    """
    p = np.minimum(np.asarray(p, np.float64), np.nextafter(1.0, 0.0))
    ordered = np.sort(np.asarray(candidates, np.float64))
    count = max(len(ordered), tries, 1)

    def corrected(value: NDArray[np.float64], better: NDArray[np.int64]) -> NDArray[np.float64]:
        return -np.expm1(np.maximum(count - better, 1) * np.log1p(-value))  # 1 - (1 - p) ** n, exact for small p too

    steps = np.maximum.accumulate(corrected(np.minimum(ordered, np.nextafter(1.0, 0.0)), np.arange(len(ordered))))
    better = np.searchsorted(ordered, p, side="left")
    return np.maximum(corrected(p, better), np.append(0.0, steps)[better])
