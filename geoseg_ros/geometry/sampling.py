"""Fixed-size subsets of a cloud, and the normalised frame of point networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def farthest_points(xyz: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Farthest-point sampling (Gonzalez 1985), deterministic.

    The first point is the one farthest from the centroid; each next one is the farthest from those taken. Ties go to the lower index,
    so every prefix of the result is itself such a subset.

    Args:
        xyz: float32 [N, 3], finite, N >= 1.
        count: points wanted, >= 1.

    Returns:
        int64 [count]. With fewer than ``count`` points the order of all N is repeated.
    """
    if len(xyz) == 0:
        raise ValueError("xyz: expected at least one point")
    taken = min(count, len(xyz))
    columns = np.ascontiguousarray(xyz.T, np.float32)
    order = np.empty(taken, np.int64)
    order[0] = np.argmax(((columns - columns.mean(axis=1, keepdims=True)) ** 2).sum(axis=0))
    nearest = np.full(len(xyz), np.inf, np.float32)
    for k in range(1, taken):
        x, y, z = columns[:, order[k - 1]]
        np.minimum(nearest, (columns[0] - x) ** 2 + (columns[1] - y) ** 2 + (columns[2] - z) ** 2, out=nearest)
        nearest[order[k - 1]] = -1  # never twice, even where points coincide
        order[k] = np.argmax(nearest)
    return np.resize(order, count)


def unit_sphere(xyz: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The cloud moved and scaled into the unit sphere around the origin.

    Args:
        xyz: float32 [N, 3], finite, N >= 1, metres.

    Returns:
        float32 [N, 3], the farthest point at distance 1; the centroid float32 [3], metres; the scale, metres per unit (> 0).
    """
    centre = xyz.mean(axis=0, dtype=np.float64).astype(np.float32)
    moved = xyz - centre
    scale = max(float(np.sqrt((moved.astype(np.float64) ** 2).sum(axis=1).max())), 1e-9)
    return (moved / np.float32(scale)).astype(np.float32), centre, scale
