"""Object proposals: what stands off the large planes; whole, cut along concave creases, and joined across small gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.geometry.neighbours import connected_parts
from geoseg_ros.geometry.superpoints import edge_concavity
from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class ProposalConfig(Settings):
    """Which sets of points are proposed as objects."""

    max_proposals: int = setting(32, "largest number of proposals", range=(0, 10_000))
    radius: float = setting(2.5, "points nearer to each other than this are connected", unit="voxels", range=(0.0, 1000.0))
    bridge: float = setting(8.0, "two clusters nearer than this are also proposed as one; 0: never", unit="voxels", range=(0.0, 1000.0))
    min_voxels: int = setting(
        20,
        "smaller sets are no object; a smaller part of a cluster goes to the neighbour with the longest border",
        unit="voxels",
        range=(1, 1_000_000),
    )
    concave: float = setting(
        0.15,
        "a cluster is cut along borders between superpoints that are more concave than this on average (the sine of the bend)",
        range=(0.0, 2.0),
    )


def object_proposals(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    plane: NDArray[np.int64],
    superpoint: NDArray[np.int64],
    edges: NDArray[np.int64],
    voxel: float,
    config: ProposalConfig | None = None,
) -> list[NDArray[np.int64]]:
    """Sets of voxels that may be one object each; sets may contain one another.

    1. Clusters: Euclidean connected components of the voxels on no plane.
    2. Parts: a cluster cut along concave borders between its superpoints (Stein et al., CVPR 2014), for things that touch.
    3. Pairs: two clusters with a small gap, for things that an occluder or their own rim (a bowl) splits.

    Where there are too many, the larger stay; a pair counts as its smaller cluster.

    Args:
        xyz, normal: float32 [M, 3]; plane: int [M], -1 = on no plane; superpoint: int [M].
        edges: int64 [E, 2], k-NN graph.
        voxel: voxel edge, metres.

    Returns:
        Sorted int64 voxel indices per proposal, the largest proposal first (ties: smallest first index first).
    """
    config = config or ProposalConfig()
    free = np.flatnonzero(plane < 0)
    position = np.full(len(xyz), -1)
    position[free] = np.arange(len(free))
    near = position[edges]
    near = near[(near >= 0).all(axis=1)]
    xyz, normal, superpoint = xyz[free], normal[free], superpoint[free]
    near = near[np.linalg.norm(xyz[near[:, 0]] - xyz[near[:, 1]], axis=1) <= config.radius * voxel]

    cluster = connected_parts(len(free), near)
    clusters = _sets(cluster, config.min_voxels)
    parts = _sets(_convex_parts(xyz, normal, superpoint, cluster, near, config), config.min_voxels)
    pairs = _pairs(xyz, clusters, config.bridge * voxel)
    # stable: a cluster goes before the part that is all of it
    candidates = sorted([(len(s), s) for s in clusters + parts] + pairs, key=lambda candidate: -candidate[0])
    chosen: list[NDArray[np.int64]] = []
    for _, candidate in candidates:
        # a part that is nearly its whole cluster, or a pair with a crumb, adds nothing
        if len(chosen) < config.max_proposals and not any(_same(candidate, other) for other in chosen):
            chosen.append(candidate)
    return [free[s] for s in sorted(chosen, key=_size_order)]


def _convex_parts(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    superpoint: NDArray[np.int64],
    cluster: NDArray[np.int64],
    near: NDArray[np.int64],
    config: ProposalConfig,
) -> NDArray[np.int64]:
    """Part id of every point: its cluster cut along concave borders."""
    # a superpoint may lie in two clusters: its pieces are the units
    unit = np.unique(cluster * (superpoint.max(initial=0) + 1) + superpoint, return_inverse=True)[1]
    units = int(unit.max(initial=-1)) + 1
    crossing = near[unit[near[:, 0]] != unit[near[:, 1]]]
    _, side = edge_concavity(xyz, normal, crossing)
    ends = np.sort(unit[crossing], axis=1)
    border, inverse, length = np.unique(ends[:, 0] * units + ends[:, 1], return_inverse=True, return_counts=True)
    first, second = border // max(units, 1), border % max(units, 1)
    joined = np.bincount(inverse, side, len(border)) / np.maximum(length, 1) >= -config.concave
    part = connected_parts(units, np.stack([first, second], axis=1)[joined])
    # crumbs along a crease are no part
    size = np.bincount(part[unit])
    for i in np.argsort(-length, kind="stable"):
        a, b = part[first[i]], part[second[i]]
        if a != b and min(size[a], size[b]) < config.min_voxels:
            keep, drop = (a, b) if size[a] >= size[b] else (b, a)
            size[keep] += size[drop]
            part[part == drop] = keep
    return part[unit]


def _pairs(xyz: NDArray[np.float32], clusters: list[NDArray[np.int64]], reach: float) -> list[tuple[int, NDArray[np.int64]]]:
    """(size of the smaller, union) for every two clusters with a gap of at most ``reach`` metres."""
    if len(clusters) < 2 or reach <= 0:
        return []
    low = np.stack([xyz[c].min(axis=0) for c in clusters])
    high = np.stack([xyz[c].max(axis=0) for c in clusters])
    apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
    trees = {}
    unions = []
    for a, b in np.argwhere(np.triu(apart <= reach, 1)):  # clusters are sorted: a is the larger
        if a not in trees:
            trees[a] = cKDTree(xyz[clusters[a]])
        smaller = xyz[clusters[b]]
        smaller = smaller[((smaller >= low[a] - reach) & (smaller <= high[a] + reach)).all(axis=1)]
        if len(smaller) and np.isfinite(trees[a].query(smaller, distance_upper_bound=reach)[0]).any():
            unions.append((len(clusters[b]), np.sort(np.concatenate([clusters[a], clusters[b]]))))
    return unions


def _sets(label: NDArray[np.int64], min_size: int) -> list[NDArray[np.int64]]:
    """The points of each label with at least ``min_size``, the largest first."""
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label))[:-1]) if len(label) else []
    return sorted((group for group in groups if len(group) >= min_size), key=_size_order)


def _size_order(points: NDArray[np.int64]) -> tuple[int, int]:
    return -len(points), int(points[0])


def _same(a: NDArray[np.int64], b: NDArray[np.int64], share: float = 0.9) -> bool:
    """Whether the intersection over union of two sets of distinct indices is above ``share``."""
    if min(len(a), len(b)) <= share * max(len(a), len(b)):
        return False
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common > share * (len(a) + len(b) - common)
