"""Superpoints: the graph-based segmentation of Felzenszwalb & Huttenlocher (IJCV 2004) on a k-NN graph of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.neighbours import connected_parts
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

    Returns:
        bend float32 [E], 1 - n_i . n_j, 0..2; side float32 [E], (n_j - n_i) . d_ij with the unit vector d_ij from i to j:
        positive where the edge is convex, negative where it is concave (Stein et al., CVPR 2014, eq. 1).
    """
    a, b = edges[:, 0], edges[:, 1]
    step = np.take(xyz, b, axis=0) - np.take(xyz, a, axis=0)  # take: several times quicker than xyz[b]
    step /= np.maximum(np.sqrt(np.einsum("ij,ij->i", step, step)), 1e-12)[:, None]
    from_normal, to_normal = np.take(normal, a, axis=0), np.take(normal, b, axis=0)
    bend = 1 - np.einsum("ij,ij->i", from_normal, to_normal)
    side = np.einsum("ij,ij->i", to_normal - from_normal, step)
    return np.maximum(bend, 0), side


def edge_weights(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    plane: NDArray[np.int64],
    edges: NDArray[np.int64],
    colour_weight: float,
) -> NDArray[np.float32]:
    """Dissimilarity float32 [E]: 1 - n_i . n_j, squared where the edge is convex, because things are mostly convex
    (Karpathy et al., ICRA 2013), zero within one plane; plus ``colour_weight`` times the RMS colour difference (0..1)."""
    bend, side = edge_concavity(xyz, normal, edges)
    weight = np.where(side > 0, bend * bend, bend)
    weight[plane[edges[:, 0]] >= 0] = 0  # no edge crosses a plane's border: what still bends on a plane is noise
    if rgb is not None and colour_weight > 0:
        shade = rgb.astype(np.float32)
        difference = (np.take(shade, edges[:, 0], axis=0) - np.take(shade, edges[:, 1], axis=0)) / 255
        weight = weight + colour_weight * np.sqrt(np.einsum("ij,ij->i", difference, difference) / np.float32(3))
    return weight.astype(np.float32)


def segment_graph(count: int, edges: NDArray[np.int64], weight: NDArray[np.float32], scale: float, min_size: int) -> NDArray[np.int64]:
    """Felzenszwalb & Huttenlocher's segmentation, exactly, in about one Python step per point instead of one per edge.

    Edges are taken by rising weight (ties by index). One merges its two components where it is not above
    min(Int(C) + scale / |C|) of both; Int(C) is the weight that merged C last. A component whose bound lies below the
    current weight can never grow again, and an edge inside a component never acts: both kinds are removed in bulk between
    the blocks of the loop. Edges of weight zero (most edges of a plane without colour) always merge, so they go first, in bulk
    as well. At the end, components below ``min_size`` are merged over their lightest edges.

    Args:
        count: number of points M.
        edges: int64 [E, 2].
        weight: float32 [E], >= 0.

    Returns:
        int64 [M], ids 0.. in order of first occurrence.
    """
    order = np.argsort(weight, kind="stable")
    edges, cost = edges[order], weight[order].astype(np.float64)
    free = int(np.searchsorted(cost, 0, side="right"))
    part = connected_parts(count, edges[:free])
    edges = part[edges]  # from here on between the parts
    size = np.bincount(part)
    bound = scale / size
    parent = np.arange(len(size))
    first, second, cost = edges[free:, 0], edges[free:, 1], cost[free:]
    block = max(count, 1024)
    while len(first):
        stop = min(block, len(first))
        _merge_block(parent, size, bound, first[:stop], second[:stop], cost[:stop], scale)
        parent = _flatten(parent)
        a, b = parent[first[stop:]], parent[second[stop:]]
        now = cost[stop - 1]
        live = (a != b) & (bound[a] >= now) & (bound[b] >= now)
        first, second, cost = a[live], b[live], cost[stop:][live]
    _merge_small(parent, size, edges, min_size)
    return first_occurrence_ids(_flatten(parent)[part])


def superpoints(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    plane: NDArray[np.int64],
    edges: NDArray[np.int64],
    config: SuperpointConfig | None = None,
) -> NDArray[np.int64]:
    """Superpoint of every point, int64 [M], ids 0.. in order of first occurrence; a pure function of its arguments.

    Args:
        xyz, normal: float32 [M, 3].
        rgb: uint8 [M, 3] or None.
        plane: int [M], plane of each point, -1 = none; no superpoint crosses the border of a plane.
        edges: int64 [E, 2], k-NN graph.
    """
    config = config or SuperpointConfig()
    edges = edges[plane[edges[:, 0]] == plane[edges[:, 1]]]
    weight = edge_weights(xyz, normal, rgb, plane, edges, config.colour_weight)
    return segment_graph(len(xyz), edges, weight, config.scale, config.min_size)


def first_occurrence_ids(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber labels 0.. in the order in which they first occur."""
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _merge_block(
    parent: NDArray[np.int64],
    size: NDArray[np.int64],
    bound: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    cost: NDArray[np.float64],
    scale: float,
) -> None:
    """The sequential part; updates parent, size, bound. Plain lists: indexing them is several times faster than arrays."""
    up, sizes, bounds = parent.tolist(), size.tolist(), bound.tolist()
    for a, b, w in zip(first.tolist(), second.tolist(), cost.tolist(), strict=True):
        while up[a] != a:
            up[a] = a = up[up[a]]
        while up[b] != b:
            up[b] = b = up[up[b]]
        if a != b and w <= bounds[a] and w <= bounds[b]:
            if sizes[a] < sizes[b]:
                a, b = b, a
            up[b] = a
            sizes[a] += sizes[b]
            bounds[a] = w + scale / sizes[a]
    parent[:], size[:], bound[:] = up, sizes, bounds


def _merge_small(parent: NDArray[np.int64], size: NDArray[np.int64], edges: NDArray[np.int64], min_size: int) -> None:
    roots = _flatten(parent)
    a, b = roots[edges[:, 0]], roots[edges[:, 1]]
    small = (a != b) & ((size[a] < min_size) | (size[b] < min_size))
    up, sizes = roots.tolist(), size.tolist()
    for x, y in zip(a[small].tolist(), b[small].tolist(), strict=True):
        while up[x] != x:
            x = up[x]
        while up[y] != y:
            y = up[y]
        if x != y and (sizes[x] < min_size or sizes[y] < min_size):
            if sizes[x] < sizes[y]:
                x, y = y, x
            up[y] = x
            sizes[x] += sizes[y]
    parent[:] = up


def _flatten(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every entry to its root, by pointer doubling."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return parent
        parent = above
