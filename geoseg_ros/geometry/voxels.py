"""Voxel grid down-sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from geoseg_ros.errors import InputError

_LADDER = np.array([1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0])  # per decade
_FINEST = 1e-5  # of the extent of a cloud: what is nearer together is one place


@dataclass(frozen=True)
class VoxelGrid:
    """The occupied voxels, ordered by grid cell (x, then y, then z).

    Attributes:
        xyz: float32 [M, 3], metres, mean of the points of each voxel.
        rgb: uint8 [M, 3], mean colour, or None.
        inverse: int64 [N], voxel of each input point, -1 for the points left out.
        count: int64 [M], points per voxel.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None
    inverse: NDArray[np.int64]
    count: NDArray[np.int64]


def voxel_downsample(
    xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None, voxel: float, use: NDArray[np.bool_] | None = None
) -> VoxelGrid:
    """Mean position and colour of the points in each cell of a grid with its corner at the origin.

    Args:
        xyz: float32 [N, 3], metres.
        rgb: uint8 [N, 3] or None.
        voxel: edge length, metres, > 0.
        use: bool [N], the points to take; default: the finite ones.

    Raises:
        InputError: the extent is more than 2^62 voxels.
    """
    if use is None:
        use = np.asarray(np.isfinite(xyz).all(axis=1))
    everything = bool(np.all(use))
    points = xyz if everything else xyz[use]
    cell = _cell_keys(points, voxel)
    inner, count = _rank(cell)
    # bincount adds in point order, so the means do not depend on how the sort breaks ties
    means = np.stack([np.bincount(inner, points[:, axis], len(count)) for axis in range(3)], axis=1) / count[:, None]
    colour = None
    if rgb is not None:
        taken = rgb if everything else rgb[use]
        sums = np.stack([np.bincount(inner, taken[:, channel], len(count)) for channel in range(3)], axis=1)
        colour = np.round(sums / count[:, None]).astype(np.uint8)
    if everything:
        inverse = inner
    else:
        inverse = np.full(len(xyz), -1, np.int64)
        inverse[use] = inner
    return VoxelGrid(means.astype(np.float32), colour, inverse, count)


def choose_voxel(xyz: NDArray[np.float32], budget: int, sample: int = 30_000) -> float:
    """An edge length, metres, at which ``xyz`` (float32 [N, 3], finite) fills about ``budget`` voxels, at most half of its distinct places.

    Half, so that a sparse cloud still shares voxels and the size says something about its density; of the distinct places, because
    some drivers and data sets fill a cloud up by repeating its points. The size is a step of a fixed ladder (1, 1.2, 1.5, 2 ... x 10^k),
    so similar frames get the same grid.
    """
    if len(xyz) < 2:
        return 0.01
    points = xyz[:: max(1, len(xyz) // sample)]
    extent = float(np.max(points.max(axis=0) - points.min(axis=0)))
    if extent <= 0:
        return 0.01
    finest = _FINEST * extent
    drawn = xyz[np.random.default_rng(0).integers(0, len(xyz), sample)] if len(xyz) > sample else xyz
    places = _places(drawn, len(xyz), finest)
    if places < len(xyz):
        points = drawn  # repeated points come at a stride
    target = max(1.0, min(budget, places / 2))
    # A sample touches fewer voxels than the cloud; aim at what it sees of `target` equally filled ones.
    fill = len(points) / target
    aim = target * -np.expm1(-fill) if len(points) < len(xyz) else target
    voxel = extent / 100
    for _ in range(8):
        ratio = _occupied(points, voxel) / aim
        if abs(np.log(ratio)) < 0.05:
            break
        # on surfaces the count falls with the square of the size; few distinct places never reach it
        voxel = float(np.clip(voxel * ratio**0.5, finest, 2 * extent))
    decade = 10.0 ** np.floor(np.log10(voxel))
    steps = np.append(_LADDER, 10.0) * decade
    return float(f"{steps[np.searchsorted(steps, voxel * 0.97)]:.6g}")


def _places(points: NDArray[np.float32], total: int, finest: float) -> float:
    """About how many distinct places ``total`` points have, of which ``points`` were drawn at random; ``total``, if nearly as many."""

    def expected(places: float) -> float:
        """How many of them as many draws meet."""
        return -places * float(np.expm1(-len(points) / places)) if len(points) < total else places

    seen, most = _occupied(points, finest), 0.9 * total
    return float(brentq(lambda places: expected(places) - seen, seen, most)) if seen < expected(most) else total


def _occupied(points: NDArray[np.float32], voxel: float) -> int:
    cell = np.sort(_cell_keys(points, voxel))
    return 1 + int(np.count_nonzero(cell[1:] != cell[:-1]))


def _cell_keys(points: NDArray[np.float32], voxel: float) -> NDArray[np.int64]:
    """One int64 per point that orders the grid cells by x, y, z."""
    if not len(points):
        return np.zeros(0, np.int64)
    # per column: contiguous and without [N, 3] temporaries
    columns = [np.floor(points[:, axis] / np.float64(voxel)) for axis in range(3)]
    lows = [c.min() for c in columns]
    sizes = [int(c.max() - low) + 1 for c, low in zip(columns, lows, strict=True)]
    if sizes[0] * sizes[1] * sizes[2] >= 1 << 62:
        raise InputError(f"voxel: {voxel} m is too small for a cloud of {max(sizes) * voxel:.3g} m")
    keys = (columns[0] - lows[0]).astype(np.int64)
    for axis in (1, 2):
        keys *= sizes[axis]
        keys += (columns[axis] - lows[axis]).astype(np.int64)
    return keys


def _rank(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rank of each key among the distinct keys, count of each distinct key)."""
    n = len(keys)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.empty(n, bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    rank = np.empty(n, np.int64)
    rank[order] = np.cumsum(first) - 1
    return rank, np.diff(np.append(np.flatnonzero(first), n))
