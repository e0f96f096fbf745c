"""Exact k nearest neighbours within one cloud: a balanced k-d tree with tight boxes, compiled.

The tree is an implicit heap: node ``i`` has the children ``2 i + 1`` and ``2 i + 2``, all leaves lie on one level, and a node holds a
contiguous range of the points in tree order. A query starts in the leaf of its own point and climbs to the root, so it visits only a small
part of the tree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled, in_parts

_LEAF = 12  # points in a leaf at most


def nearest(xyz: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` nearest points of every point: itself first, the others by distance, ties by index.

    Args:
        xyz: float32 [M, 3], C-contiguous, writeable, finite, M >= 1.
        k: 1 .. M.

    Returns:
        distance float32 [M, k], ascending; index int64 [M, k].
    """
    levels = 0
    while len(xyz) > _LEAF << levels:
        levels += 1
    order, points, start, box = _build(xyz, levels)
    distance, index = np.empty((len(xyz), k), np.float32), np.empty((len(xyz), k), np.int64)

    def query(first: int, end: int) -> None:
        _query(order, points, start, box, levels, first, end, distance, index)

    in_parts(1 << levels, query, least=64)
    return distance, index


@compiled
def _select(xyz, order, low, high, middle, axis):  # noqa: ANN001, ANN202
    """Reorder ``order[low:high]`` so that the coordinates before ``middle`` are at most, and those after at least, the one there."""
    left, right = low, high - 1
    while left < right:
        a, b, c = xyz[order[left], axis], xyz[order[(left + right) // 2], axis], xyz[order[right], axis]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while xyz[order[i], axis] < pivot:
                i += 1
            while xyz[order[j], axis] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return


@compiled
def _build(xyz, levels):  # noqa: ANN001, ANN202
    """(order, points in tree order, first point of each leaf and the end, box of each node) of the tree of ``levels`` splits."""
    count, leaves = len(xyz), 1 << levels
    order = np.arange(count)
    box = np.empty((2 * leaves - 1, 6))
    start = np.zeros(2 * leaves, np.int64)  # of every node of the current level
    start[1] = count
    for level in range(levels + 1):
        nodes = 1 << level
        for n in range(nodes - 1, -1, -1):  # from the back, because the children need twice the room
            low, high, node = start[n], start[n + 1], nodes - 1 + n
            widest, axis = -1.0, 0
            for a in range(3):
                least = most = np.float64(xyz[order[low], a])
                for i in range(low + 1, high):
                    value = np.float64(xyz[order[i], a])
                    least, most = min(least, value), max(most, value)
                box[node, a], box[node, 3 + a] = least, most
                if most - least > widest:
                    widest, axis = most - least, a
            if level < levels:
                middle = (low + high) // 2
                _select(xyz, order, low, high, middle, axis)
                start[2 * n + 2], start[2 * n + 1] = high, middle

    points = np.empty((count, 3))
    for i in range(count):
        for a in range(3):
            points[i, a] = xyz[order[i], a]
    return order, points, start, box


@compiled
def _outside(box, node, x, y, z):  # noqa: ANN001, ANN202
    """Squared distance from a place to the box of a node."""
    dx = max(box[node, 0] - x, 0.0, x - box[node, 3])
    dy = max(box[node, 1] - y, 0.0, y - box[node, 4])
    dz = max(box[node, 2] - z, 0.0, z - box[node, 5])
    return dx * dx + dy * dy + dz * dz


@compiled
def _query(order, points, start, box, levels, first, end, distance, index):  # noqa: ANN001, ANN202
    """Fill the rows of ``distance`` and ``index``, see :func:`nearest`, of the points in the leaves ``first`` to ``end`` - 1."""
    leaves, k = 1 << levels, distance.shape[1]
    # The best so far, the nearest last: the bits of the squared distance above those of the index. Non-negative floats are ordered as their
    # bits are, so one comparison of integers decides by distance, then by index, and the insertion below needs no branch.
    best = np.empty(k, np.int64)
    squared = np.empty(1, np.float32)
    bits = squared.view(np.int32)
    stack = np.empty(2 * levels + 2, np.int64)
    for leaf in range(first, end):
        for i in range(start[leaf], start[leaf + 1]):
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            for s in range(k):
                best[s] = 0x7F800000FFFFFFFF  # infinitely far
            limit = np.float32(np.inf)
            done = leaves - 1 + leaf
            stack[0] = done
            top = 1
            while True:
                while top > 0:
                    top -= 1
                    node = stack[top]
                    if _outside(box, node, x, y, z) > limit:
                        continue
                    if node < leaves - 1:
                        stack[top], stack[top + 1] = 2 * node + 1, 2 * node + 2
                        top += 2
                        continue
                    for j in range(start[node - leaves + 1], start[node - leaves + 2]):
                        dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                        squared[0] = dx * dx + dy * dy + dz * dz
                        if squared[0] <= limit:
                            found = (np.int64(bits[0]) << 32) | order[j]
                            if j == i:
                                found = np.int64(-1)  # itself comes first, also before points at the same place
                            for s in range(k - 1):
                                best[s] = max(min(best[s], found), best[s + 1])
                            best[k - 1] = min(best[k - 1], found)
                            bits[0] = max(best[0], 0) >> 32
                            limit = squared[0]
                if done == 0:
                    break
                stack[0] = done + 1 if done % 2 else done - 1  # the other child
                top = 1
                done = (done - 1) // 2
            row = order[i]
            distance[row, 0], index[row, 0] = 0.0, row
            for s in range(1, k):
                bits[0] = best[k - 1 - s] >> 32
                distance[row, s] = np.sqrt(squared[0])
                index[row, s] = best[k - 1 - s] & 0xFFFFFFFF
    return distance, index
