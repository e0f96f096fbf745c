"""Object proposals: what stands off the large planes; whole, cut along concave creases, and joined across small gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.neighbours import connected_parts
from geoseg_ros.geometry.superpoints import edge_concavity
from geoseg_ros.settings import Settings, setting

_SAME = 0.9  # two sets with an intersection over union above this are one proposal


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
    2. Parts: a cluster cut along concave borders between its superpoints (Stein et al., CVPR 2014), for objects that touch.
    3. Pairs: two clusters with a small gap, for objects that an occluder or their own rim (a bowl) splits.

    If there are more than ``max_proposals``, the largest are kept; a pair counts with the size of its smaller cluster.

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
    xyz, normal, superpoint = np.take(xyz, free, axis=0), np.take(normal, free, axis=0), superpoint[free]
    near = _links(xyz, np.require(edges, np.int64, ["C", "W"]), position, float(config.radius * voxel))

    cluster = connected_parts(len(free), near)
    clusters = _sets(cluster, config.min_voxels)
    parts = _sets(_convex_parts(xyz, normal, superpoint, cluster, near, config), config.min_voxels)
    pairs = _pairs(xyz, clusters, config.bridge * voxel)
    # stable: a cluster goes before the part that is all of it
    candidates = sorted([(len(s), s) for s in clusters + parts] + pairs, key=lambda candidate: -candidate[0])
    chosen: list[NDArray[np.int64]] = []
    inside = np.zeros(len(free), bool)
    for _, candidate in candidates:
        if len(chosen) == config.max_proposals:
            break
        inside[candidate] = True
        # a part that is nearly its whole cluster, or a pair with a very small one, adds nothing
        alike = [other for other in chosen if _SAME * len(other) < len(candidate) < len(other) / _SAME]
        if not any(_same(len(candidate), inside, other) for other in alike):
            chosen.append(candidate)
        inside[candidate] = False
    return [free[s] for s in sorted(chosen, key=_size_order)]


def membership(proposals: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.float32]:
    """Proposals as rows: float32 [P, M], 1 at the voxels of each of P sets of indices into M = ``count`` voxels, else 0."""
    member = np.zeros((len(proposals), count), np.float32)
    for row, voxels in zip(member, proposals, strict=True):
        row[voxels] = 1
    return member


def overlaps(proposals: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.float32]:
    """How much proposals contain of each other: float32 [P, P], the share of each (row) that lies in each other.

    None may be empty. Arguments as of :func:`membership`.
    """
    member = membership(proposals, count)
    return member @ member.T / np.maximum(member.sum(1, keepdims=True), 1)


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
    # small pieces along a crease are no part
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
    unions = []
    for a, b in np.argwhere(np.triu(apart <= reach, 1)):  # clusters are sorted: a is the larger
        facing = [xyz[clusters[c]] for c in (a, b)]
        for side, other in ((0, b), (1, a)):
            within = (facing[side] >= low[other] - reach) & (facing[side] <= high[other] + reach)
            facing[side] = facing[side][within[:, 0] & within[:, 1] & within[:, 2]]
        if _touch(facing[0], facing[1], float(reach)):
            unions.append((len(clusters[b]), np.sort(np.concatenate([clusters[a], clusters[b]]))))
    return unions


@compiled
def _links(xyz, edges, position, reach):  # noqa: ANN001, ANN202
    """The edges of at most ``reach`` metres whose ends both have a ``position`` >= 0, int64 [E', 2], between positions."""
    links, found = np.empty_like(edges), 0
    for e in range(len(edges)):
        a, b = position[edges[e, 0]], position[edges[e, 1]]
        if a >= 0 and b >= 0:
            dx, dy, dz = xyz[a, 0] - xyz[b, 0], xyz[a, 1] - xyz[b, 1], xyz[a, 2] - xyz[b, 2]
            if np.sqrt(dx * dx + dy * dy + dz * dz) <= reach:
                links[found, 0], links[found, 1] = a, b
                found += 1
    return links[:found].copy()


@compiled
def _touch(first, second, reach):  # noqa: ANN001, ANN202
    """Whether a point of ``first`` [A, 3] lies within ``reach`` metres of one of ``second`` [B, 3]."""
    for i in range(len(first)):
        x, y, z = first[i, 0], first[i, 1], first[i, 2]
        least = np.inf
        for j in range(len(second)):
            dx, dy, dz = second[j, 0] - x, second[j, 1] - y, second[j, 2] - z
            least = min(least, dx * dx + dy * dy + dz * dz)
        if least <= reach * reach:
            return True
    return False


def _sets(label: NDArray[np.int64], min_size: int) -> list[NDArray[np.int64]]:
    """The points of each label with at least ``min_size``, the largest first."""
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label))[:-1]) if len(label) else []
    return sorted((group for group in groups if len(group) >= min_size), key=_size_order)


def _size_order(points: NDArray[np.int64]) -> tuple[int, int]:
    return -len(points), int(points[0])


def _same(size: int, inside: NDArray[np.bool_], other: NDArray[np.int64]) -> bool:
    """Whether two sets have an intersection over union above ``_SAME``: one of ``size`` points, marked in ``inside``, and ``other``."""
    common = np.count_nonzero(inside[other])
    return common > _SAME * (size + len(other) - common)
