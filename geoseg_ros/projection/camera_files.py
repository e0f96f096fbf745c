"""Intrinsics and poses from the files of posed RGB-D recordings, and from the numbers of a camera_info.

ScanNet and 7-Scenes write matrices as text, one file per pose; TUM writes one trajectory file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.projection.cameras import PerspectiveCamera, rigid

MAX_BYTES = 64 << 20  # of a text file; a trajectory of a million poses has this size
_MATRIX_SIZES = {9: (3, 3), 16: (4, 4)}
_IDENTITY = np.eye(4)

FilePath = str | os.PathLike[str]


def camera_from_info(
    size: tuple[int, int], k: Sequence[float], p: Sequence[float] = (), pose: NDArray[np.floating] = _IDENTITY
) -> PerspectiveCamera:
    """A camera from the numbers of a sensor_msgs/CameraInfo.

    Args:
        size: width and height in pixels.
        k: 9 numbers, row-major, of the camera as it is; its distortion is ignored.
        p: 12 numbers, row-major, of the rectified camera, which is used where it has a focal length.
        pose: [4, 4], camera to world, metres.

    Raises:
        InputError: another count of numbers, no focal length, or not a pose.
    """
    if len(k) != 9 or len(p) not in (0, 12):
        raise InputError(f"camera_info: expected 9 numbers k and 12 numbers p, got {len(k)} and {len(p)}")
    matrix = np.array(k, np.float64).reshape(3, 3)
    if len(p) and p[0] != 0:
        matrix = np.array(p, np.float64).reshape(3, 4)[:, :3]
    return PerspectiveCamera(np.asarray(pose, np.float64), matrix, size)


def read_intrinsics(path: FilePath) -> NDArray[np.float64]:
    """Intrinsics K float64 [3, 3] from a text file.

    The file holds a 3x3 matrix (7-Scenes), a 4x4 matrix (ScanNet's ``intrinsic_color.txt``), or the numbers fx, fy, cx, cy, which may be
    followed by distortion (TUM). What follows a ``#`` is a comment.

    Raises:
        InputError: the file cannot be read, or holds anything else.
    """
    rows = _rows(path)
    numbers = np.concatenate([np.zeros(0), *rows])
    if len(numbers) in _MATRIX_SIZES and len(rows) > 1:
        matrix = numbers.reshape(_MATRIX_SIZES[len(numbers)])[:3, :3]
    elif len(rows) == 1 and 4 <= len(numbers) <= 9:
        fx, fy, cx, cy = numbers[:4]
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    else:
        raise InputError(f"{path}: expected intrinsics as a 3x3 or 4x4 matrix or as fx fy cx cy, found {len(numbers)} numbers")
    try:
        return PerspectiveCamera(_IDENTITY, matrix, (1, 1)).intrinsics
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_pose(path: FilePath) -> NDArray[np.float64]:
    """A pose float64 [4, 4], camera to world, metres, from a text file with a 4x4 matrix (7-Scenes, ScanNet).

    Raises:
        InputError: the file cannot be read or holds no pose; ScanNet marks frames whose pose is not known by infinite numbers.
    """
    numbers = np.concatenate([np.zeros(0), *_rows(path)])
    if len(numbers) != 16:
        raise InputError(f"{path}: expected a pose of 4x4 numbers, found {len(numbers)}")
    try:
        return rigid(numbers.reshape(4, 4))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_trajectory(path: FilePath) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stamps float64 [N], seconds, and poses float64 [N, 4, 4], camera to world, from a trajectory file of the TUM RGB-D layout.

    Its lines are ``stamp tx ty tz qx qy qz qw``; what follows a ``#`` is a comment.

    Raises:
        InputError: the file cannot be read, or a line is something else.
    """
    rows = _rows(path)
    for number, row in enumerate(rows, 1):
        if len(row) != 8 or not np.isfinite(row).all() or not np.linalg.norm(row[4:]) > 1e-6:
            raise InputError(f"{path}: pose {number}: expected stamp tx ty tz qx qy qz qw, all finite, the quaternion not zero")
    table = np.stack(rows) if rows else np.zeros((0, 8))
    poses = np.tile(_IDENTITY, (len(table), 1, 1))
    if len(table):
        poses[:, :3, :3] = Rotation.from_quat(table[:, 4:]).as_matrix()
    poses[:, :3, 3] = table[:, 1:4]
    return table[:, 0].copy(), poses


def _rows(path: FilePath) -> list[NDArray[np.float64]]:
    """The numbers of every line that has some."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected a text file of at most {MAX_BYTES >> 20} MB")
        text = Path(path).read_text("ascii")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a text file of numbers") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        try:
            row = np.array([float(word) for word in words])
        except ValueError:
            raise InputError(f"{path}: line {number}: expected numbers") from None
        if len(row):
            rows.append(row)
    return rows
