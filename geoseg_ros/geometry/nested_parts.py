"""Nested parts of a surface: superpoints joined step by step, the least creased border first (a hierarchy of regions)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.superpoints import edge_concavity


def nested_parts(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    unit: NDArray[np.int64],
    near: NDArray[np.int64],
    stands_out: float,
    small: int,
) -> list[NDArray[np.int64]]:
    """The unions of neighbouring units that stand out from what is around them.

    The depth of a border is its mean concavity (the sine of the bend; convex bends count against it), plus the RMS difference (0 .. 1) of
    the mean colours on its sides. The shallowest border is opened first, and what it parted is one from then on; the border of a piece
    with fewer than ``small`` points counts less, by the square of their ratio, so that crumbs do not stand out. A union stands out if the
    border over which it is joined with others is by ``stands_out`` deeper than the deepest one within it. What is connected with nothing
    else always does.

    Args:
        xyz, normal: float32 [M, 3]; rgb: uint8 [M, 3] or None.
        unit: int64 [M], superpoint of each point, 0..
        near: int64 [E, 2], points that touch.

    Returns:
        Indices of the points of each, int64, sorted.
    """
    count = int(unit.max(initial=-1)) + 1
    size = np.bincount(unit, minlength=count)
    crossing = near[unit[near[:, 0]] != unit[near[:, 1]]]
    ends = np.sort(unit[crossing], axis=1)
    border, inverse, length = np.unique(ends[:, 0] * max(count, 1) + ends[:, 1], return_inverse=True, return_counts=True)
    first, second = np.divmod(border, max(count, 1))
    depth = np.bincount(inverse, -edge_concavity(xyz, normal, crossing)[1], len(border)).astype(np.float64)
    if rgb is not None:
        mean = np.stack([np.bincount(unit, rgb[:, channel], count) for channel in range(3)], axis=1) / np.maximum(size, 1)[:, None]
        depth += length * np.sqrt(np.mean((mean[first] - mean[second]) ** 2, axis=1)) / 255
    parent, joined, size = _join(first, second, depth, length, size, float(small))
    start = _places(parent, size)
    order = np.argsort(start[unit], kind="stable")
    ends_at = np.where(parent < 0, np.inf, joined[parent])
    return [np.sort(order[start[k] : start[k] + size[k]]) for k in np.flatnonzero(ends_at - joined > stands_out)]


@compiled
def _join(first, second, depth, length, size, small):  # noqa: ANN001, ANN202
    """Join units over their borders, the shallowest first; ties by index.

    Args:
        first, second: int64 [B], ends of the borders. depth: float64 [B], sum over the edges of a border; length: int64 [B], their number.
        size: int64 [U], points of each unit.

    Returns:
        parent int64 [K], the union that each of the units and unions becomes part of, -1 for none; a union has a larger number than its
        parts. joined float64 [K], depth of the deepest border that was opened within it, 0 for a unit. size int64 [K].
    """
    units = len(size)
    first, second, depth, length = first.copy(), second.copy(), depth.copy(), length.copy()
    parent, joined, sizes = np.full(2 * units, -1), np.zeros(2 * units), np.zeros(2 * units, np.int64)
    sizes[:units] = size
    known = np.full(2 * units, -1)  # border of the new union with each neighbour
    borders, new = len(first), units
    while borders > 0:
        best, least = 0, np.inf
        for e in range(borders):
            cost = depth[e] / length[e] * min(1.0, min(sizes[first[e]], sizes[second[e]]) / small) ** 2
            if cost < least:
                best, least = e, cost
        a, b = first[best], second[best]
        parent[a] = parent[b] = new
        joined[new] = max(least, joined[a], joined[b])
        sizes[new] = sizes[a] + sizes[b]
        kept = 0
        for e in range(borders):
            x, y = first[e], second[e]
            mine, other = x in (a, b), y in (a, b)
            if mine and other:
                continue
            if mine or other:
                rest = y if mine else x
                if known[rest] >= 0:
                    depth[known[rest]] += depth[e]
                    length[known[rest]] += length[e]
                    continue
                known[rest] = kept
                x, y = rest, new
            first[kept], second[kept], depth[kept], length[kept] = x, y, depth[e], length[e]
            kept += 1
        for e in range(kept):
            if second[e] == new:
                known[first[e]] = -1
        borders = kept
        new += 1
    return parent[:new], joined[:new], sizes[:new]


@compiled
def _places(parent, size):  # noqa: ANN001, ANN202
    """Where the points of each unit or union begin, int64 [K], when they are ordered so that each lies in one piece."""
    start, taken, after = np.zeros(len(parent), np.int64), np.zeros(len(parent), np.int64), 0
    for k in range(len(parent) - 1, -1, -1):
        if parent[k] < 0:
            start[k] = after
            after += size[k]
        else:
            start[k] = taken[parent[k]]
            taken[parent[k]] += size[k]
        taken[k] = start[k]
    return start
