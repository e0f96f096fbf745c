"""k nearest neighbours, and the graph that they span."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.kdtree import nearest


def knn(xyz: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` nearest points of every point, itself first.

    Args:
        xyz: float32 [M, 3], finite, M >= 1. Where k > M, k is M.

    Returns:
        distance float32 [M, k] in metres, ascending; index int64 [M, k]. Equal distances are ordered by index.
    """
    return nearest(np.require(xyz, np.float32, ["C", "W"]), min(k, len(xyz)))


def graph_edges(distance: NDArray[np.float32], index: NDArray[np.int64], radius: float = np.inf) -> NDArray[np.int64]:
    """The undirected edges of a k-NN graph.

    Args:
        distance: float32 [M, k] and
        index: int64 [M, k], from :func:`knn`.
        radius: longer edges, metres, are left out.

    Returns:
        int64 [E, 2], each edge once, first < second, in lexicographic order.
    """
    return _edges(np.require(distance, np.float32, ["C", "W"]), np.require(index, np.int64, ["C", "W"]), float(radius))


def connected_parts(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected component of each of ``count`` points joined by ``edges``, int64 [E, 2].

    Returns:
        int64 [count], ids 0.. in order of first occurrence.
    """
    return _components(count, np.require(edges, np.int64, ["C", "W"]))


@compiled
def _edges(distance, index, radius):  # noqa: ANN001, ANN202
    count, k = index.shape
    start = np.zeros(count + 1, np.int64)  # first edge of each lower end
    for i in range(count):
        for s in range(1, k):
            if distance[i, s] <= radius and index[i, s] != i:
                start[min(i, index[i, s]) + 1] += 1
    for i in range(count):
        start[i + 1] += start[i]
    upper = np.empty(start[count], np.int64)
    free = start[:count].copy()
    for i in range(count):
        for s in range(1, k):
            if distance[i, s] <= radius and index[i, s] != i:
                low, high = min(i, index[i, s]), max(i, index[i, s])
                # insertion by rising upper end; what comes from later points is in order already
                slot = free[low]
                free[low] += 1
                while slot > start[low] and upper[slot - 1] > high:
                    upper[slot] = upper[slot - 1]
                    slot -= 1
                upper[slot] = high
    edges = np.empty((len(upper), 2), np.int64)
    found = 0
    for low in range(count):
        for slot in range(start[low], start[low + 1]):
            if slot == start[low] or upper[slot] != upper[slot - 1]:
                edges[found, 0], edges[found, 1] = low, upper[slot]
                found += 1
    return edges[:found].copy()


@compiled
def _components(count, edges):  # noqa: ANN001, ANN202
    parent = np.arange(count)
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)  # so every root is the first point of its component
    label = np.empty(count, np.int64)
    parts = 0
    for i in range(count):
        if parent[i] == i:
            label[i] = parts
            parts += 1
        else:
            label[i] = label[parent[i]]
    return label
