"""Points sampled by super-voxel: each has as many as its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest_remainder(size: NDArray[np.integer], total: int) -> NDArray[np.int64]:
    """Seats int64 [S] of sets of ``size`` [S], in proportion to it; their sum is ``total``, or all points where there are fewer."""
    total = min(total, int(size.sum()))
    exact = total * size / max(int(size.sum()), 1)
    seats = np.floor(exact).astype(np.int64)
    order = np.argsort(seats - exact, kind="stable")  # largest remainder first
    seats[order[: total - int(seats.sum())]] += 1
    return seats


def sample_by_set(group: NDArray[np.int64], total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows, rising, of ``total`` points: of each set of ``group`` int64 [N] as many as its share, at random."""
    _, place, size = np.unique(group, return_inverse=True, return_counts=True)
    shuffled = rng.permutation(len(group))
    order = shuffled[np.argsort(place[shuffled], kind="stable")]
    rank = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)  # within its set
    return np.sort(order[rank < largest_remainder(size, total)[place[order]]])
