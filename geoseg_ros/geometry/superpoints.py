"""Superpoints: the graph-based segmentation of Felzenszwalb & Huttenlocher (IJCV 2004) on a k-NN graph of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class SuperpointConfig(Settings):
    """How points are merged into superpoints."""

    scale: float = setting(
        0.1, "constant k of Felzenszwalb & Huttenlocher, an edge weight times points; larger gives larger superpoints", range=(0.0, 1000.0)
    )
    min_size: int = setting(20, "smaller superpoints are merged into a neighbour", unit="voxels", range=(1, 1_000_000))
    colour_weight: float = setting(
        0.05, "weight of the colour difference (0 .. 1) beside the bend between normals (0 .. 2)", range=(0.0, 100.0)
    )


def edge_concavity(
    xyz: NDArray[np.float32], normal: NDArray[np.float32], edges: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How the surface bends along each edge.

    Args:
        xyz, normal: float32 [M, 3].
        edges: int64 [E, 2].

    Returns:
        bend float32 [E], 1 - n_i . n_j, 0..2; side float32 [E], (n_j - n_i) . d_ij with the unit vector d_ij from i to j:
        positive where the edge is convex, negative where it is concave (Stein et al., CVPR 2014, eq. 1).
    """
    xyz, normal = np.require(xyz, np.float32, ["C", "W"]), np.require(normal, np.float32, ["C", "W"])
    return _bends(xyz, normal, np.require(edges, np.int64, ["C", "W"]))


def edge_weights(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    plane: NDArray[np.int64],
    edges: NDArray[np.int64],
    colour_weight: float,
) -> NDArray[np.float32]:
    """Dissimilarity of the ends of each edge.

    It is 1 - n_i . n_j, squared where the edge is convex, because objects are mostly convex (Karpathy et al., ICRA 2013); plus
    ``colour_weight`` times the RMS colour difference (0..1). Within one plane the bend counts as zero, because it is noise; across the
    border of a plane the weight is infinite.

    Args:
        xyz, normal: float32 [M, 3].
        rgb: uint8 [M, 3] or None.
        plane: int [M], plane of each point, -1 = none.
        edges: int64 [E, 2].
        colour_weight: see :class:`SuperpointConfig`.

    Returns:
        float32 [E], >= 0.
    """
    xyz, normal = np.require(xyz, np.float32, ["C", "W"]), np.require(normal, np.float32, ["C", "W"])
    colour = np.zeros((1, 3), np.uint8) if rgb is None else np.require(rgb, np.uint8, ["C", "W"])
    plane, edges = np.require(plane, np.int64, ["C", "W"]), np.require(edges, np.int64, ["C", "W"])
    return _weights(xyz, normal, colour, plane, edges, 0.0 if rgb is None else float(colour_weight))


def segment_graph(count: int, edges: NDArray[np.int64], weight: NDArray[np.float32], scale: float, min_size: int) -> NDArray[np.int64]:
    """Felzenszwalb & Huttenlocher's segmentation.

    Edges are taken by rising weight (ties by index). One merges its two components where it is not above
    min(Int(C) + scale / |C|) of both; Int(C) is the weight that merged C last. At the end, components below ``min_size`` are merged over
    their lightest edges.

    Args:
        count: number of points M.
        edges: int64 [E, 2].
        weight: float32 [E], >= 0; an infinite one never merges.
        scale, min_size: see :class:`SuperpointConfig`.

    Returns:
        int64 [M], ids 0.. in order of first occurrence.
    """
    weight = np.require(weight, np.float32, ["C", "W"])
    return _segment(count, np.require(edges, np.int64, ["C", "W"]), weight, _rising(weight.view(np.uint32)), float(scale), min_size)


def superpoints(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    plane: NDArray[np.int64],
    edges: NDArray[np.int64],
    config: SuperpointConfig | None = None,
) -> NDArray[np.int64]:
    """Superpoint of every point; a pure function of its arguments.

    Args:
        xyz, normal: float32 [M, 3].
        rgb: uint8 [M, 3] or None.
        plane: int [M], plane of each point, -1 = none; no superpoint crosses the border of a plane.
        edges: int64 [E, 2], k-NN graph.
        config: settings of superpoints.

    Returns:
        int64 [M], ids 0.. in order of first occurrence.
    """
    config = config or SuperpointConfig()
    weight = edge_weights(xyz, normal, rgb, plane, edges, config.colour_weight)
    return segment_graph(len(xyz), edges, weight, config.scale, config.min_size)


@compiled
def _bend(xyz, normal, a, b):  # noqa: ANN001, ANN202
    """(bend, side) of the edge from a to b, see :func:`edge_concavity`."""
    length = cosine = turn = np.float32(0)
    for axis in range(3):
        step = xyz[b, axis] - xyz[a, axis]
        length += step * step
        cosine += normal[a, axis] * normal[b, axis]
        turn += (normal[b, axis] - normal[a, axis]) * step
    return max(np.float32(1) - cosine, np.float32(0)), turn / max(np.sqrt(length), np.float32(1e-12))


@compiled
def _bends(xyz, normal, edges):  # noqa: ANN001, ANN202
    bend, side = np.empty(len(edges), np.float32), np.empty(len(edges), np.float32)
    for e in range(len(edges)):
        bend[e], side[e] = _bend(xyz, normal, edges[e, 0], edges[e, 1])
    return bend, side


@compiled
def _weights(xyz, normal, rgb, plane, edges, colour_weight):  # noqa: ANN001, ANN202
    weight = np.empty(len(edges), np.float32)
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        if plane[a] != plane[b]:
            weight[e] = np.inf
            continue
        bend, side = _bend(xyz, normal, a, b)
        cost = np.float64(bend * bend if side > 0 else bend) if plane[a] < 0 else 0.0
        if colour_weight > 0:
            squares = 0
            for channel in range(3):
                difference = np.int64(rgb[a, channel]) - np.int64(rgb[b, channel])
                squares += difference * difference
            cost += colour_weight * np.sqrt(squares / 3.0) / 255.0
        weight[e] = cost
    return weight


@compiled
def _rising(bits):  # noqa: ANN001, ANN202
    """The order, int64 [E], in which non-negative float32 numbers rise, ties by index, from their ``bits``: a radix sort."""
    order, other = np.arange(len(bits)), np.empty(len(bits), np.int64)
    for shift in (0, 11, 22):
        start = np.zeros(2049, np.int64)
        for e in range(len(bits)):
            start[((bits[e] >> shift) & 2047) + 1] += 1
        for digit in range(2048):
            start[digit + 1] += start[digit]
        for e in range(len(bits)):
            digit = (bits[order[e]] >> shift) & 2047
            other[start[digit]] = order[e]
            start[digit] += 1
        order, other = other, order
    return order


@compiled
def _segment(count, edges, weight, order, scale, min_size):  # noqa: ANN001, ANN202
    parent, size, bound = np.arange(count), np.ones(count, np.int64), np.full(count, scale)
    between = order.copy()  # the edges that are left between two components
    found = len(between)
    for last in (False, True):  # in the last pass, components that are too small are merged whatever the weight
        todo, found = found, 0
        for k in range(todo):
            e = between[k]
            cost = np.float64(weight[e])
            if cost == np.inf:
                break
            a, b = edges[e, 0], edges[e, 1]
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a == b:
                continue
            if (min(size[a], size[b]) < min_size) if last else (cost <= bound[a] and cost <= bound[b]):
                if size[a] < size[b]:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                bound[a] = cost + scale / size[a]
            else:
                between[found] = e
                found += 1
    label, parts = np.full(count, -1), 0
    for i in range(count):
        root = i
        while parent[root] != root:
            root = parent[root]
        if label[root] < 0:
            label[root] = parts
            parts += 1
        parent[i] = root  # keeps later walks short
    for i in range(count):
        label[i] = label[parent[i]]
    return label
