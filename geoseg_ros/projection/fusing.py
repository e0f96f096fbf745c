"""Posed frames to one cloud of voxels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.posed_frames import PosedFrame

_CELLS = 1 << 20  # along each axis on either side of the origin
_PENDING = 2_000_000  # rows of frames that are merged at a time: bounds the memory


@dataclass(frozen=True, eq=False)
class FusedCloud:
    """Attributes:
    xyz: float32 [M, 3], metres, world; mean of the measured points of each voxel, in the order of the grid (x, then y, then z).
    rgb: uint8 [M, 3], mean colour.
    towards: float32 [M, 3], mean unit direction to the cameras that measured it.
    count: int64 [M], measured points.
    shared: share of what the frames measured that at least two of them did, 0 .. 1, by voxels.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    towards: NDArray[np.float32]
    count: NDArray[np.int64]
    shared: float


def fuse_frames(frames: Iterable[PosedFrame], voxel: float, farthest: float = 6.0, least: int = 3, stride: int = 1) -> FusedCloud:
    """The voxels that the depth of frames fills; memory grows with the room, not with the number of frames.

    Args:
        frames: read once.
        voxel: edge length, metres.
        farthest: depth beyond which a measurement is not used, metres: the error of depth cameras grows with its square.
        least: measured points that a voxel must have.
        stride: pixels from one that is used to the next.

    Raises:
        InputError: nothing was measured.
    """
    kept: tuple[NDArray[np.int64], NDArray[np.float64]] = np.zeros(0, np.int64), np.zeros((0, 11))
    waiting: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for frame in frames:
        keys, sums = _grouped(*_measured(frame, voxel, farthest, stride))
        waiting.append((keys, np.column_stack([sums, np.ones(len(keys))])))
        if sum(len(keys) for keys, _ in waiting) > _PENDING:
            kept, waiting = _merged([kept, *waiting]), []
    keys, sums = _merged([kept, *waiting])
    enough = sums[:, 9] >= least
    if not enough.any():
        raise InputError(f"frames: no voxel of {voxel} m has {least} measured points within {farthest} m, expected depth of a room")
    count = sums[enough, 9]
    mean = sums[enough, :9] / count[:, None]
    return FusedCloud(
        mean[:, :3].astype(np.float32),
        np.rint(mean[:, 3:6]).astype(np.uint8),
        mean[:, 6:].astype(np.float32),
        count.astype(np.int64),
        float(sums[sums[:, 10] > 1, 10].sum() / sums[:, 10].sum()),
    )


def back_project(frame: PosedFrame, stride: int = 1) -> NDArray[np.float64]:
    """Points of the pixels of a frame in the world, metres, float64 [ceil(H / stride), ceil(W / stride), 3]; NaN without depth."""
    return np.asarray(_in_camera(frame, stride) @ frame.pose[:3, :3].T + frame.pose[:3, 3])


def measured_points(frame: PosedFrame, farthest: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points of the pixels with a depth below ``farthest`` metres in the camera's optical frame, float32 [K, 3], and colours [K, 3]."""
    with np.errstate(invalid="ignore"):
        use = frame.depth < farthest
    return _in_camera(frame)[use].astype(np.float32), frame.rgb[use]


def _in_camera(frame: PosedFrame, stride: int = 1) -> NDArray[np.float64]:
    depth = frame.depth[::stride, ::stride].astype(np.float64)
    v, u = np.mgrid[0 : frame.depth.shape[0] : stride, 0 : frame.depth.shape[1] : stride]
    return np.asarray(np.stack([u, v, np.ones(u.shape)], axis=-1) @ np.linalg.inv(frame.intrinsics).T * depth[..., None])


def _measured(frame: PosedFrame, voxel: float, farthest: float, stride: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cell and (x, y, z, r, g, b, direction to the camera, 1) of each measured point."""
    depth = frame.depth[::stride, ::stride]
    with np.errstate(invalid="ignore"):
        use = depth < farthest
    points = back_project(frame, stride)[use]
    cell = np.floor(points / voxel)
    if len(cell) and np.abs(cell).max() >= _CELLS:
        raise InputError(f"{frame.name}: a point is {np.abs(points).max():.3g} m away, too far for voxels of {voxel} m")
    x, y, z = (cell.astype(np.int64) + _CELLS).T
    towards = frame.pose[:3, 3] - points
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
    return (x << 42) | (y << 21) | z, np.column_stack([points, frame.rgb[::stride, ::stride][use], towards, np.ones(len(points))])


def _grouped(keys: NDArray[np.int64], rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct keys, rising, and the sums of their rows."""
    if not len(keys):
        return keys, rows
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(rows[order], first, axis=0)


def _merged(parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return _grouped(np.concatenate([keys for keys, _ in parts]), np.concatenate([rows for _, rows in parts]))
