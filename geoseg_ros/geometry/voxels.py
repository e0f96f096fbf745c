"""Voxel grid down-sampling, and the choice of the voxel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.errors import InputError

_LADDER = np.array([1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0])  # per decade
_FINEST = 1e-5  # share of the extent of a cloud below which points count as one place


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

    Returns:
        The occupied voxels. Sums are taken in the order of the points, so equal input gives equal bytes.

    Raises:
        InputError: the extent is more than 2^62 voxels.
    """
    if use is None:
        use = np.asarray(np.isfinite(xyz).all(axis=1))
    xyz, use = np.require(xyz, np.float32, ["C", "W"]), np.require(use, np.bool_, ["C", "W"])
    lows, sizes = _layout(_bounds(xyz, use), voxel)
    keys, found, inverse = _group(xyz, use, float(voxel), lows, sizes)
    order = np.argsort(keys[:found])
    rank = np.full(found + 1, -1)  # the last, where -1 points to, is for the points left out
    rank[order] = np.arange(found)
    inverse = rank[inverse]
    sums, count = _sums(xyz, inverse, found)
    means = sums / count[:, None]
    colour = None
    if rgb is not None:
        sums, _ = _sums(np.require(rgb, np.uint8, ["C", "W"]), inverse, found)
        colour = np.round(sums / count[:, None]).astype(np.uint8)
    return VoxelGrid(means.astype(np.float32), colour, inverse, count)


def choose_voxel(xyz: NDArray[np.float32], budget: int, use: NDArray[np.bool_] | None = None, sample: int = 30_000) -> float:
    """An edge length at which a cloud fills about ``budget`` voxels, at most half of its distinct places.

    Half, so that a sparse cloud still shares voxels and the size says something about its density; of the distinct places, because
    some drivers and data sets fill a cloud up by repeating its points. The size is a step of a fixed ladder (1, 1.2, 1.5, 2 ... x 10^k),
    so similar frames get the same grid.

    Args:
        xyz: float32 [N, 3], metres.
        budget: voxels.
        use: bool [N], the points to take, finite; default: all.
        sample: number of points that the estimate uses.

    Returns:
        Metres, > 0.
    """
    index = np.arange(len(xyz)) if use is None else np.flatnonzero(use)
    total = len(index)
    if total < 2:
        return 0.01
    even = _Sample(np.take(xyz, index[:: max(1, total // sample)], axis=0))  # take: several times quicker than xyz[...]
    if even.extent <= 0:
        return 0.01
    finest = _FINEST * even.extent
    drawn = even
    if total > sample:
        drawn = _Sample(np.take(xyz, index[np.random.default_rng(0).integers(0, total, sample)], axis=0))
    places = _places(drawn.occupied(finest), len(drawn.xyz), total)
    chosen = drawn if places < total else even
    target = max(1.0, min(budget, places / 2))
    # A sample fills fewer voxels than the cloud; aim at the number that it fills of `target` equally filled ones.
    fill = len(chosen.xyz) / target
    aim = target * -np.expm1(-fill) if len(chosen.xyz) < total else target
    voxel = even.extent / 100
    for _ in range(8):
        ratio = chosen.occupied(voxel) / aim
        if abs(np.log(ratio)) < 0.05:
            break
        # on surfaces the count falls with the square of the size; few distinct places never reach it
        voxel = float(np.clip(voxel * ratio**0.5, finest, 2 * even.extent))
    decade = 10.0 ** np.floor(np.log10(voxel))
    steps = np.append(_LADDER, 10.0) * decade
    return float(f"{steps[np.searchsorted(steps, voxel * 0.97)]:.6g}")


class _Sample:
    """Points whose occupied voxels are counted at several sizes."""

    def __init__(self, xyz: NDArray[np.float32]) -> None:
        self.xyz = np.require(xyz, np.float32, ["C", "W"])
        self._bounds = _bounds(self.xyz, np.ones(len(xyz), np.bool_))
        self.extent = float((self._bounds[1] - self._bounds[0]).max())

    def occupied(self, voxel: float) -> int:
        """Number of voxels of this edge, metres, that hold a point."""
        keys = np.sort(_keys(self.xyz, float(voxel), *_layout(self._bounds, voxel)))
        return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))


def _places(met: int, draws: int, total: int) -> float:
    """About how many distinct places ``total`` points have, if ``draws`` of them at random meet ``met``; ``total`` where nearly as many."""

    def expected(places: float) -> float:
        """How many of them as many draws meet."""
        return -places * float(np.expm1(-draws / places)) if draws < total else places

    most = 0.9 * total
    if met >= expected(most):
        return total
    from scipy.optimize import brentq  # rarely needed, and slow to import

    return float(brentq(lambda places: expected(places) - met, met, most))


def _layout(bounds: NDArray[np.float32], voxel: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(lowest cell, cells) per axis of a grid over ``bounds`` [2, 3].

    Raises:
        InputError: more than 2^62 cells.
    """
    lows, highs = np.floor(bounds / np.float64(voxel))
    sizes = [int(size) + 1 for size in highs - lows]
    if sizes[0] * sizes[1] * sizes[2] >= 1 << 62:
        raise InputError(f"voxel: {voxel} m is too small for a cloud of {max(sizes) * voxel:.3g} m")
    return lows, np.array(sizes)


@compiled
def _bounds(xyz, use):  # noqa: ANN001, ANN202
    """Least and greatest coordinates of the points in use, float32 [2, 3]; zeros without any."""
    bounds = np.zeros((2, 3), np.float32)
    first = True
    for i in range(len(xyz)):
        if use[i]:
            for a in range(3):
                value = xyz[i, a]
                if first or value < bounds[0, a]:
                    bounds[0, a] = value
                if first or value > bounds[1, a]:
                    bounds[1, a] = value
            first = False
    return bounds


@compiled
def _key(xyz, i, voxel, lows, sizes):  # noqa: ANN001, ANN202
    """A number >= 0 that orders the cells by x, y, z: that of the cell of point ``i``."""
    key = np.int64(np.floor(xyz[i, 0] / voxel) - lows[0])
    key = key * sizes[1] + np.int64(np.floor(xyz[i, 1] / voxel) - lows[1])
    return key * sizes[2] + np.int64(np.floor(xyz[i, 2] / voxel) - lows[2])


@compiled
def _keys(xyz, voxel, lows, sizes):  # noqa: ANN001, ANN202
    keys = np.empty(len(xyz), np.int64)
    for i in range(len(xyz)):
        keys[i] = _key(xyz, i, voxel, lows, sizes)
    return keys


@compiled
def _group(xyz, use, voxel, lows, sizes):  # noqa: ANN001, ANN202
    """Number the occupied cells as they are met.

    Returns:
        keys int64 [>= found], one per cell, ordered as the cells are by x, y, z; found; id int64 [N] of each point, -1 = not in use.
    """
    bits = 16
    keys = np.empty(1 << (bits - 1), np.int64)
    table = np.full(1 << bits, -1, np.int32)  # open addressing: cell ids at the hashed place of their key or behind it
    found = 0
    last, current = np.int64(-1), np.int64(-1)
    cell = np.full(len(xyz), -1)
    for i in range(len(xyz)):
        if not use[i]:
            continue
        key = _key(xyz, i, voxel, lows, sizes)
        if key != last:  # neighbours in a scan mostly share a voxel
            last = key
            place = _hashed(key, bits)
            while table[place] >= 0 and keys[table[place]] != key:
                place = (place + 1) & (len(table) - 1)
            if table[place] < 0:
                table[place] = found
                keys[found] = key
                found += 1
            current = np.int64(table[place])
            if found == len(keys):
                bits += 1
                keys = np.append(keys, np.empty_like(keys))
                table = np.full(1 << bits, -1, np.int32)
                for c in range(found):
                    place = _hashed(keys[c], bits)
                    while table[place] >= 0:
                        place = (place + 1) & (len(table) - 1)
                    table[place] = c
        cell[i] = current
    return keys, found, cell


@compiled
def _hashed(key, bits):  # noqa: ANN001, ANN202
    """Multiplicative hashing with the golden ratio (Knuth, The Art of Computer Programming, 6.4): 0 .. 2^bits - 1."""
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))


@compiled
def _sums(values, cell, cells):  # noqa: ANN001, ANN202
    """Sum of ``values`` [N, 3] per cell, float64 [cells, 3], and their number, int64 [cells]; -1 belongs to none."""
    sums, count = np.zeros((cells, 3)), np.zeros(cells, np.int64)
    for i in range(len(values)):
        c = cell[i]
        if c >= 0:
            count[c] += 1
            for a in range(3):
                sums[c, a] += values[i, a]
    return sums, count
