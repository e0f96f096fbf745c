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


def graph_edges(index: NDArray[np.int64], k: int | None = None) -> NDArray[np.int64]:
    """The undirected edges of a k-NN graph.

    Args:
        index: int64 [M, K], from :func:`knn`.
        k: how many of the neighbours count, the point itself included; default: all.

    Returns:
        int64 [E, 2], each edge once, first < second, in lexicographic order.
    """
    index = np.require(index, np.int64, ["C", "W"])
    return _edges(index, min(k or index.shape[1], index.shape[1]))


def connected_parts(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected component of each of ``count`` points joined by ``edges``, int64 [E, 2].

    Returns:
        int64 [count], ids 0.. in order of first occurrence.
    """
    return _components(count, np.require(edges, np.int64, ["C", "W"]))


@compiled
def _edges(index, k):  # noqa: ANN001, ANN202
    count = len(index)
    listed = np.zeros(count + 1, np.int64)  # before each point: how often a lower point has an upper one as its neighbour
    start = np.zeros(count + 1, np.int64)  # room for the edges of each lower end
    for i in range(count):
        for s in range(1, k):
            listed[max(i, index[i, s]) + 1] += i < index[i, s]
            start[min(i, index[i, s]) + 1] += i != index[i, s]
    for i in range(count):
        listed[i + 1] += listed[i]
        start[i + 1] += start[i]
    lower, free = np.empty(listed[count], np.int32), listed.copy()
    for i in range(count):
        for s in range(1, k):
            if index[i, s] > i:
                lower[free[index[i, s]]] = i
                free[index[i, s]] += 1
    upper, free = np.empty(start[count], np.int32), start.copy()
    for high in range(count):  # by rising upper end, so that the edges of each lower end are in order
        for slot in range(listed[high], listed[high + 1]):
            low = lower[slot]
            upper[free[low]] = high
            free[low] += 1
        for s in range(1, k):
            low = index[high, s]
            if low < high and (free[low] == start[low] or upper[free[low] - 1] != high):
                upper[free[low]] = high
                free[low] += 1
    found = 0
    for low in range(count):
        found += free[low] - start[low]
    edges = np.empty((found, 2), np.int64)
    found = 0
    for low in range(count):
        for slot in range(start[low], free[low]):
            edges[found, 0], edges[found, 1] = low, upper[slot]
            found += 1
    return edges


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
