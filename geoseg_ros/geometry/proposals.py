"""Object proposals: what stands off the large planes; whole, its parts that stand out, and joined across small gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.neighbours import connected_parts
from geoseg_ros.geometry.nested_parts import nested_parts
from geoseg_ros.geometry.planes import Plane
from geoseg_ros.settings import Settings, setting

_CRUMB = 3  # times the smallest object: borders of smaller pieces count less
_SAME = 0.9  # two sets with an intersection over union above this are one proposal


@dataclass(frozen=True)
class ProposalConfig(Settings):
    """Which sets of points are proposed as objects."""

    max_proposals: int = setting(32, "largest number of proposals", range=(0, 10_000))
    radius: float = setting(2.5, "points nearer to each other than this are connected", unit="voxels", range=(0.0, 1000.0))
    bridge: float = setting(8.0, "two clusters nearer than this are also proposed as one; 0: never", unit="voxels", range=(0.0, 1000.0))
    min_voxels: int = setting(20, "smaller sets are no object", unit="voxels", range=(1, 1_000_000))
    concave: float = setting(
        0.1,
        "a part of a cluster is proposed if its border is by this deeper than any within it: more concave (the sine of the bend), or"
        " between more different colours (0 .. 1)",
        range=(0.0, 2.0),
    )
    leftover: float = setting(
        3.0,
        "what lies this near to a large plane, and about it or below, is what noise left over of it, and no proposal; 0: all are",
        unit="voxels",
        range=(0.0, 1000.0),
    )


def object_proposals(
    xyz: NDArray[np.float32],
    normal: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None,
    plane: NDArray[np.int64],
    planes: Sequence[Plane],
    superpoint: NDArray[np.int64],
    edges: NDArray[np.int64],
    voxel: float,
    config: ProposalConfig | None = None,
) -> list[NDArray[np.int64]]:
    """Sets of voxels that may be one object each; sets may contain one another.

    1. Clusters: Euclidean connected components of the voxels on no plane.
    2. Parts of a cluster that stand out by concave borders and by colour (:mod:`geoseg_ros.geometry.nested_parts`): objects that touch.
    3. Pairs: two clusters with a small gap, for objects that an occluder or their own rim (a bowl) splits.

    What noise leaves over of a plane is no proposal.

    If there are more than ``max_proposals``, the largest are kept; a pair counts with the size of its smaller cluster.

    Args:
        xyz, normal: float32 [M, 3]; rgb: uint8 [M, 3] or None; plane: int [M], -1 = on no plane; superpoint: int [M].
        planes: the planes.
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
    # a superpoint may lie in two clusters: its pieces are the units
    unit = np.unique(cluster * (superpoint.max(initial=0) + 1) + superpoint, return_inverse=True)[1]
    colour = None if rgb is None else rgb[free]
    parts = nested_parts(xyz, normal, colour, unit, near, config.concave, _CRUMB * config.min_voxels)
    band = config.leftover * voxel
    parts, clusters = (
        _off_planes(xyz, planes, sorted((s for s in sets if len(s) >= config.min_voxels), key=_size_order), band)
        for sets in (parts, _sets(cluster))
    )
    pairs = _pairs(xyz, clusters, config.bridge * voxel)
    # stable: a cluster goes before the part that is all of it
    candidates = sorted([(len(s), s) for s in clusters + parts] + pairs, key=lambda candidate: -candidate[0])
    return [free[s] for s in sorted(_distinct(candidates, len(free), config.max_proposals), key=_size_order)]


def _distinct(candidates: Sequence[tuple[int, NDArray[np.int64]]], count: int, most: int) -> list[NDArray[np.int64]]:
    """The first candidates that differ from those before: a part that is nearly its whole cluster, or a pair with a very small one, adds
    nothing."""
    chosen: list[NDArray[np.int64]] = []
    inside = np.zeros(count, bool)
    for _, candidate in candidates:
        if len(chosen) == most:
            break
        inside[candidate] = True
        alike = [other for other in chosen if _SAME * len(other) < len(candidate) < len(other) / _SAME]
        if not any(_same(len(candidate), inside, other) for other in alike):
            chosen.append(candidate)
        inside[candidate] = False
    return chosen


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


def _off_planes(xyz: NDArray[np.float32], planes: Sequence[Plane], sets: list[NDArray[np.int64]], band: float) -> list[NDArray[np.int64]]:
    """The sets that are no leftovers of a plane: nine tenths within ``band`` metres of it, and half of it not above a third of that.

    What lies flat on a plane is above it; what its noise leaves over is about it, and the rim of a table below.
    """
    heights = [(xyz @ plane.normal.astype(np.float32) - np.float32(plane.offset)) for plane in planes] if band > 0 else []
    kept = []
    for members in sets:
        for height in heights:
            own = height[members]
            if np.count_nonzero(np.abs(own) <= band) >= 0.9 * len(own) and np.count_nonzero(own <= band / 3) >= 0.5 * len(own):
                break
        else:
            kept.append(members)
    return kept


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


def _sets(label: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The points of each label."""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.cumsum(np.bincount(label))[:-1]) if len(label) else []


def _size_order(points: NDArray[np.int64]) -> tuple[int, int]:
    return -len(points), int(points[0])


def _same(size: int, inside: NDArray[np.bool_], other: NDArray[np.int64]) -> bool:
    """Whether two sets have an intersection over union above ``_SAME``: one of ``size`` points, marked in ``inside``, and ``other``."""
    common = np.count_nonzero(inside[other])
    return common > _SAME * (size + len(other) - common)
