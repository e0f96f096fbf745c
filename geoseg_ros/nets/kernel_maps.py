"""Which voxels a sparse convolution brings together: the row of the neighbour at every offset of its kernel, at several strides.

A voxel is found by an int64 key that orders voxels by batch, x, y, z. In a sorted list of keys all partners at one offset are found in one
pass, since the keys wanted are sorted too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.errors import InputError

MARGIN = 2  # empty cells around every axis of the key, so that no offset of a 5-kernel wraps into another row of cells


@dataclass(frozen=True)
class KernelMap:
    """Neighbours of every output row.

    Attributes:
        table: int32 [rows out, offsets], row of the input at each offset, in the order of a dense kernel [kx, ky, kz]; the number of input
            rows where the neighbour is not occupied.
        back: int32 [rows in, offsets], the same for the gradient: row of the output that each input row reaches by each offset.
    """

    table: torch.Tensor
    back: torch.Tensor


@dataclass(frozen=True)
class Interpolation:
    """Trilinear weights of voxels at a stride, at the centres of the voxels at stride 1.

    Attributes:
        index: int64 [n, 8], rows at the stride.
        weight: float32 [n, 8], >= 0, sum 1; 0 where the neighbour is not occupied.
    """

    index: torch.Tensor
    weight: torch.Tensor


@dataclass
class _Level:
    """Occupied cells at one stride. Attributes: coords [m, 4]; keys [m] sorted; order [m] rows by key; strides of x, y, z in the key."""

    coords: NDArray[np.int64]
    keys: NDArray[np.int64]
    order: NDArray[np.int64]
    strides: NDArray[np.int64]


@dataclass
class VoxelPyramid:
    """The occupied voxels at strides 1, 2, 4 ..., and the kernel maps between them, each made once when it is first wanted.

    Args:
        coords: int64 [n, 4], batch and voxel numbers x, y, z; each voxel once, in any order.
        device: of the maps.

    Raises:
        InputError: wrong shape or type, a voxel that stands twice, or an extent too large for the keys.
    """

    coords: torch.Tensor
    device: torch.device
    _levels: list[_Level] = field(default_factory=list)
    _parents: list[NDArray[np.int64]] = field(default_factory=list)  # row at the next stride of each row
    _same: dict[tuple[int, int], KernelMap] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or self.coords.is_floating_point():
            raise InputError(f"coords: expected integers [n, 4] (batch, x, y, z), got {self.coords.dtype} {list(self.coords.shape)}")
        level = _level(self.coords.detach().cpu().numpy().astype(np.int64))
        if (level.keys[1:] == level.keys[:-1]).any():
            raise InputError("coords: a voxel stands twice; expected each occupied voxel once")
        self._levels.append(level)

    def rows(self, level: int) -> int:
        """Number of occupied voxels at stride 2^level."""
        return len(self._at(level).keys)

    def same(self, level: int, size: int) -> KernelMap:
        """Map of a convolution with an odd kernel of ``size`` that keeps the occupied voxels (submanifold), at stride 2^level."""
        if (level, size) not in self._same:
            if size // 2 > MARGIN:
                raise ValueError(f"kernel {size} is larger than {2 * MARGIN + 1}")
            table = torch.from_numpy(_neighbours(self._at(level), size)).to(self.device)
            self._same[level, size] = KernelMap(table, table.flip(1))  # whose neighbour at o I am is my neighbour at -o
        return self._same[level, size]

    def down(self, level: int) -> KernelMap:
        """Map of a convolution of kernel 2 and stride 2 from stride 2^level to 2^(level + 1)."""
        here, parent, rows = self._at(level), self._parent(level), self.rows(level + 1)
        corner = (here.coords[:, 1:] & 1) @ np.array([4, 2, 1])
        table, back = np.full((rows, 8), len(parent), np.int32), np.full((len(parent), 8), rows, np.int32)
        table[parent, corner] = np.arange(len(parent))
        back[np.arange(len(parent)), corner] = parent
        return KernelMap(torch.from_numpy(table).to(self.device), torch.from_numpy(back).to(self.device))

    def interpolation(self, level: int) -> Interpolation:
        """From stride 2^level, level >= 1, to stride 1. The weights of occupied neighbours are scaled up to the sum 1."""
        neighbours = self.same(level, 3).table.cpu().numpy()
        parent = self._parent(0)
        for step in range(1, level):
            parent = self._parent(step)[parent]
        place = (self._levels[0].coords[:, 1:] & ((1 << level) - 1)) + 0.5
        shift = place / (1 << level) - 0.5  # of the voxel's centre from that of the cell around it, in cells: -.5 .. .5
        index, weight = _corners(neighbours, parent, shift)
        return Interpolation(torch.from_numpy(index).to(self.device), torch.from_numpy(weight).to(self.device))

    def _at(self, level: int) -> _Level:
        while len(self._levels) <= level:
            last = self._levels[-1]
            halved = last.coords.copy()
            halved[:, 1:] >>= 1  # an arithmetic shift: rounds down below zero too
            all_of = _level(halved)
            first = np.append(True, all_of.keys[1:] != all_of.keys[:-1])
            parent = np.empty(len(halved), np.int64)
            parent[all_of.order] = np.cumsum(first) - 1
            kept = all_of.order[first]
            self._levels.append(_Level(halved[kept], all_of.keys[first], np.arange(len(kept)), all_of.strides))
            self._parents.append(parent)
        return self._levels[level]

    def _parent(self, level: int) -> NDArray[np.int64]:
        self._at(level + 1)
        return self._parents[level]


def _level(coords: NDArray[np.int64]) -> _Level:
    """Keys of all ``coords``, sorted; equal ones stay."""
    low = coords.min(0) if len(coords) else np.zeros(4, np.int64)
    high = coords.max(0) if len(coords) else np.zeros(4, np.int64)
    sizes = [int(h) - int(b) + 1 + 2 * MARGIN for b, h in zip(low, high, strict=True)]
    if sizes[0] * sizes[1] * sizes[2] * sizes[3] >= 1 << 62:
        raise InputError(f"coords: an extent of {' x '.join(map(str, sizes[1:]))} voxels is too large")
    strides = np.array([sizes[2] * sizes[3], sizes[3], 1])
    keys = (coords[:, 0] - low[0]) * (sizes[1] * strides[0]) + (coords[:, 1:] - low[1:] + MARGIN) @ strides
    order = np.argsort(keys, kind="stable")
    return _Level(coords, keys[order], order, strides)


def _neighbours(level: _Level, size: int) -> NDArray[np.int32]:
    """:attr:`KernelMap.table` of an odd kernel."""
    offsets = np.array(list(product(range(-(size // 2), size // 2 + 1), repeat=3)))
    count = len(level.keys)
    table = np.full((len(offsets), count), count, np.int32)  # one offset after the other: what is written is near together
    table[len(offsets) // 2] = np.arange(count)
    deltas = offsets @ level.strides
    for place in range(len(offsets) // 2 + 1, len(offsets)):  # the keys of these offsets are positive
        _link(table[place], table[-1 - place], level.keys, level.order, deltas[place])
    return np.ascontiguousarray(table.T)


@compiled
def _link(there, back, keys, order, delta):  # noqa: ANN001, ANN202
    """Enter the pairs with keys[j] = keys[i] + delta: j for i and, at the mirror image of the offset, i for j; keys ascend, delta > 0."""
    j = 0
    for i in range(len(keys)):
        wanted = keys[i] + delta
        while j < len(keys) and keys[j] < wanted:
            j += 1
        if j == len(keys):
            break
        if keys[j] == wanted:
            there[order[i]] = order[j]
            back[order[j]] = order[i]


@compiled
def _corners(neighbours, parent, shift):  # noqa: ANN001, ANN202
    """Rows and weights of the 8 cells around places ``shift`` [n, 3] off the centre of cell ``parent`` [n]; neighbours [m, 27]."""
    index, weight = np.empty((len(parent), 8), np.int64), np.empty((len(parent), 8), np.float32)
    for i in range(len(parent)):
        total = 0.0
        for c in range(8):
            place, share = 13, 1.0  # 13: the cell itself
            for a in range(3):
                part = abs(shift[i, a])
                if (c >> a) & 1:
                    step = 9 if a == 0 else 3 if a == 1 else 1
                    place += step if shift[i, a] > 0 else -step
                    share *= part
                else:
                    share *= 1 - part
            row = neighbours[parent[i], place]
            found = row < len(neighbours)
            index[i, c] = row if found else 0
            weight[i, c] = share if found else 0
            total += weight[i, c]
        for c in range(8):
            weight[i, c] /= total
    return index, weight
