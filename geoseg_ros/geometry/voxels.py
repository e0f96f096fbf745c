"""Voxel grid down-sampling, and the choice of the voxel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled, in_parts
from geoseg_ros.errors import InputError

_LADDER = np.array([1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0])  # per decade
_FINEST = 1e-5  # share of the extent of a cloud below which points count as one place
_BITS = 1 << 28  # a grid of more cells is sorted: a bit per cell would take more than 32 MiB


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
    inverse, found = _ranks(*_keys(xyz, use, voxel, _bounds(xyz, use)))
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
        self._use = np.ones(len(xyz), np.bool_)
        self._bounds = _bounds(self.xyz, self._use)
        self.extent = float((self._bounds[1] - self._bounds[0]).max())

    def occupied(self, voxel: float) -> int:
        """Number of voxels of this edge, metres, that hold a point."""
        keys, cells = _keys(self.xyz, self._use, voxel, self._bounds)
        if cells <= _BITS:
            return int(_before(_marks(keys, cells))[-1])
        keys.sort()
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


def _keys(xyz: NDArray[np.float32], use: NDArray[np.bool_], voxel: float, bounds: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
    """Number the cells of a grid over ``bounds`` [2, 3] by x, then y, then z.

    Returns:
        int64 [N], the number of each point's cell, -1 = not in use; how many cells there are.

    Raises:
        InputError: more than 2^62 cells.
    """
    lows, highs = np.floor(bounds / np.float64(voxel))
    sizes = [int(size) + 1 for size in highs - lows]
    cells = sizes[0] * sizes[1] * sizes[2]
    if cells >= 1 << 62:
        raise InputError(f"voxel: {voxel} m is too small for a cloud of {max(sizes) * voxel:.3g} m")
    keys = np.empty(len(xyz), np.int64)

    def number(first: int, end: int) -> None:
        _number(xyz[first:end], use[first:end], float(voxel), lows, np.array(sizes), keys[first:end])

    in_parts(len(xyz), number, least=50_000)
    return keys, cells


def _ranks(keys: NDArray[np.int64], cells: int) -> tuple[NDArray[np.int64], int]:
    """Where the key of each point, see :func:`_keys`, stands among the different ones, int64 [N], -1 stays; how many these are."""
    if cells <= _BITS:
        marks = _marks(keys, cells)
        before = _before(marks)
        _replace(keys, marks, before)
        return keys, int(before[-1])
    found, ranks = np.unique(keys, return_inverse=True)
    without = int(found[0] < 0)
    return ranks - without, len(found) - without


@compiled
def _bounds(xyz, use):  # noqa: ANN001, ANN202
    """Least and greatest coordinates of the points in use, float32 [2, 3]; zeros without any."""
    least_x = least_y = least_z = np.float32(np.inf)
    most_x = most_y = most_z = np.float32(-np.inf)
    for i in range(len(xyz)):
        if use[i]:
            x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
            least_x, least_y, least_z = min(least_x, x), min(least_y, y), min(least_z, z)
            most_x, most_y, most_z = max(most_x, x), max(most_y, y), max(most_z, z)
    bounds = np.zeros((2, 3), np.float32)
    if least_x <= most_x:
        bounds[0, 0], bounds[0, 1], bounds[0, 2] = least_x, least_y, least_z
        bounds[1, 0], bounds[1, 1], bounds[1, 2] = most_x, most_y, most_z
    return bounds


@compiled
def _number(xyz, use, voxel, lows, sizes, keys):  # noqa: ANN001, ANN202
    for i in range(len(xyz)):
        keys[i] = -1
        if use[i]:
            key = np.int64(np.floor(xyz[i, 0] / voxel) - lows[0])
            key = key * sizes[1] + np.int64(np.floor(xyz[i, 1] / voxel) - lows[1])
            keys[i] = key * sizes[2] + np.int64(np.floor(xyz[i, 2] / voxel) - lows[2])


@compiled
def _marks(keys, cells):  # noqa: ANN001, ANN202
    """A bit per cell, which is set where a point lies: uint64 [cells / 64, rounded up]."""
    marks = np.zeros((cells + 63) // 64, np.uint64)
    for i in range(len(keys)):
        if keys[i] >= 0:
            marks[keys[i] >> 6] |= np.uint64(1) << np.uint64(keys[i] & 63)
    return marks


@compiled
def _ones(word):  # noqa: ANN001, ANN202
    """Number of bits that are set in a uint64."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _before(marks):  # noqa: ANN001, ANN202
    """Number of bits that are set before each word, and in all: int64 [words + 1]."""
    before = np.zeros(len(marks) + 1, np.int64)
    for w in range(len(marks)):
        before[w + 1] = before[w] + _ones(marks[w])
    return before


@compiled
def _replace(keys, marks, before):  # noqa: ANN001, ANN202
    """Replace each key >= 0 by the number of cells before its own where a point lies."""
    for i in range(len(keys)):
        if keys[i] >= 0:
            word, bit = keys[i] >> 6, np.uint64(keys[i] & 63)
            keys[i] = before[word] + _ones(marks[word] & ((np.uint64(1) << bit) - np.uint64(1)))


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
