"""What every network for whole clouds offers, so that a trainer need not know which one it trains.

::

    clouds = [network.prepare(xyz, rgb) for xyz, rgb in frames]  # numpy, may run in a loader's process
    batch = network.collate(clouds).to(device)
    features = network(*batch.inputs)                            # float32 [rows, dim], one row per occupied voxel
    of_points = features[batch.inverse]                          # one row per point that was put in
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.voxels import voxel_downsample


@dataclass(frozen=True)
class VoxelCloud:
    """The occupied voxels of a cloud with the means of what was measured in them, ordered by x, y, z.

    Attributes:
        cell: int64 [n, 3], number of the voxel on each axis; voxel k covers [k, k + 1) edges.
        xyz: float32 [n, 3], metres, mean of the points of each voxel.
        rgb: float32 [n, 3], mean colour 0..255, or None.
        intensity: float32 [n, 1] or None.
        normal: float32 [n, 3], mean of the normals, not of unit length; or None.
        inverse: int64 [N], voxel of each point, -1 where a coordinate is not finite.
    """

    cell: NDArray[np.int64]
    xyz: NDArray[np.float32]
    rgb: NDArray[np.float32] | None
    intensity: NDArray[np.float32] | None
    normal: NDArray[np.float32] | None
    inverse: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedCloud:
    """One cloud as a network wants it.

    Attributes:
        arrays: by name, what :meth:`PointNetwork.collate` needs.
        rows: n, number of rows of features that this cloud will have.
        inverse: int64 [N], row of each point of the cloud, -1 for the points that have none.
    """

    arrays: dict[str, np.ndarray]
    rows: int
    inverse: NDArray[np.int64]


@dataclass(frozen=True)
class PointBatch:
    """Several clouds, ready for the network.

    Attributes:
        inputs: what the network's ``forward`` takes, in its order.
        inverse: int64 [N], row of each point of all clouds in turn, -1 for the points that have none.
        rows: number of rows of each cloud; the rows of a cloud are contiguous, and the clouds keep their order.
        points: number of points of each cloud.
    """

    inputs: tuple[torch.Tensor, ...]
    inverse: torch.Tensor
    rows: tuple[int, ...]
    points: tuple[int, ...]

    def to(self, device: torch.device | str) -> PointBatch:
        """The same batch on ``device``."""
        return PointBatch(tuple(t.to(device) for t in self.inputs), self.inverse.to(device), self.rows, self.points)


class PointNetwork(Protocol):
    """A network with one feature per occupied voxel of a cloud. Every implementation is a ``torch.nn.Module``.

    Clouds stand upright: z points against gravity. Whoever knows the up axis of a scene turns the cloud before.

    Attributes:
        dim: width of a feature.
        voxel: edge length, metres, that the network was made for.
    """

    dim: int
    voxel: float

    @property
    def config(self) -> dict[str, int | float]:
        """The arguments that make such a network again; JSON values."""
        ...

    def prepare(
        self,
        xyz: NDArray[np.float32],
        rgb: NDArray[np.uint8] | None = None,
        intensity: NDArray[np.float32] | None = None,
        normal: NDArray[np.float32] | None = None,
    ) -> PreparedCloud:
        """Points float32 [N, 3], metres, and what was measured at them (uint8 [N, 3], float32 [N], unit float32 [N, 3]).

        Raises:
            InputError: no finite point, arrays of different lengths, or a channel without which this network cannot do.
        """
        ...

    def collate(self, clouds: Sequence[PreparedCloud]) -> PointBatch:
        """Put one or more clouds together; none of them sees another in the network."""
        ...

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """:attr:`PointBatch.inputs` -> float32 [rows, dim]."""
        ...


def voxel_cloud(
    xyz: NDArray[np.float32],
    voxel: float,
    rgb: NDArray[np.uint8] | None = None,
    intensity: NDArray[np.float32] | None = None,
    normal: NDArray[np.float32] | None = None,
) -> VoxelCloud:
    """Average the points of every voxel of edge ``voxel``, metres; see :class:`PointNetwork` for the arrays.

    Raises:
        InputError: no finite point, arrays of different lengths, a value that is not finite, or a voxel too small for the cloud.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"xyz: expected [N, 3], got {list(xyz.shape)}")
    if not voxel > 0:
        raise InputError(f"voxel: expected a length > 0 m, got {voxel}")
    for name, values, shape in (("rgb", rgb, xyz.shape), ("intensity", intensity, xyz.shape[:1]), ("normal", normal, xyz.shape)):
        if values is not None and values.shape != shape:
            raise InputError(f"{name}: expected {list(shape)}, one per point, got {list(values.shape)}")
    grid = voxel_downsample(xyz, None, voxel)
    if not len(grid.xyz):
        raise InputError("cloud: no point with finite coordinates")
    used = grid.inverse >= 0
    row = grid.inverse[used]
    member = np.empty(len(grid.xyz), np.int64)  # some point of each voxel: a mean may round into the next one
    member[row] = np.flatnonzero(used)
    cell = np.floor(xyz[member].astype(np.float64) / voxel).astype(np.int64)

    def mean(name: str, values: NDArray | None) -> NDArray[np.float32] | None:
        if values is None:
            return None
        columns = values.reshape(len(values), -1)[used]
        sums = np.stack([np.bincount(row, column, len(cell)) for column in columns.T], 1)
        if not np.isfinite(sums).all():
            raise InputError(f"{name}: a value is not finite")
        return (sums / grid.count[:, None]).astype(np.float32)

    return VoxelCloud(cell, grid.xyz, mean("rgb", rgb), mean("intensity", intensity), mean("normal", normal), grid.inverse)


def collate_inverse(clouds: Sequence[PreparedCloud]) -> torch.Tensor:
    """:attr:`PointBatch.inverse` of several clouds."""
    starts = np.cumsum([0, *(c.rows for c in clouds)])
    return torch.from_numpy(np.concatenate([np.where(c.inverse < 0, -1, c.inverse + s) for c, s in zip(clouds, starts, strict=False)]))


@torch.no_grad()
def point_features(
    network: PointNetwork, xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Unit features float32 [N, dim] of points, zeros where a point has none; the network in the mode that it is in."""
    batch = network.collate([network.prepare(xyz, rgb)]).to(device)
    rows = torch.nn.functional.normalize(network(*batch.inputs).float(), dim=1)
    return torch.where(batch.inverse[:, None] >= 0, rows[batch.inverse.clamp_min(0)], 0.0).cpu()
