"""Perspective and orthographic cameras: projection of points to pixels.

A camera has a pose and a 3x3 matrix of intrinsics. Its axes are those of an optical frame (REP 103): x to the right, y down, z forward.
Pixel coordinates are (u, v), to the right and down; whole numbers are the centres of pixels, as in OpenCV and ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.poses import rigid

MAX_PIXELS = 100_000_000

Floats = NDArray[np.float64]
AnyCamera = TypeVar("AnyCamera", bound="Camera")


@dataclass(frozen=True, eq=False)
class Camera:
    """Base class of the two kinds of cameras.

    Attributes:
        pose: float64 [4, 4], camera to world, metres. Axes that are not quite orthonormal, as in files with few digits, are replaced by
            the nearest rotation.
        intrinsics: float64 [3, 3], upper triangular with last row (0, 0, 1). Perspective: K in pixels, (u, v, 1) z = K (x, y, z).
            Orthographic: pixels per metre, (u, v, 1) = K (x, y, 1).
        size: width and height in pixels.
        perspective: True for a pinhole camera, False for an orthographic one.

    Raises:
        InputError: not a pose, not intrinsics, or no size.
    """

    pose: Floats
    intrinsics: Floats
    size: tuple[int, int]
    perspective: ClassVar[bool]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pose", rigid(self.pose))
        object.__setattr__(self, "intrinsics", _checked_intrinsics(self.intrinsics))
        width, height = self.size
        if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
            raise InputError(f"camera size: expected 1 to {MAX_PIXELS} pixels, got {width} x {height}")

    @property
    def position(self) -> Floats:
        """float64 [3], metres, where the camera is in the world."""
        return self.pose[:3, 3]

    @property
    def rotation(self) -> Floats:
        """float64 [3, 3], world to camera; its rows are the directions right, down and forward in the world."""
        return self.pose[:3, :3].T

    def pixel_size(self, depth: Any) -> Any:
        """Metres per pixel at depths in metres, a number or an array."""
        return (depth if self.perspective else 0 * depth + 1) / self.intrinsics[0, 0]

    def to_camera(self, xyz: ArrayLike) -> Floats:
        """World points [..., 3] in the camera's axes; the third coordinate is the depth."""
        with np.errstate(invalid="ignore"):  # points that are not finite stay so
            return (np.asarray(xyz, np.float64) - self.position) @ self.pose[:3, :3]

    def project(self, xyz: ArrayLike) -> tuple[Floats, Floats]:
        """Project points to pixel coordinates.

        Args:
            xyz: [..., 3], metres, world.

        Returns:
            Pixels float64 [..., 2], and depths float64 [...], metres along the optical axis. The pixels of points that are not in front
            of the camera, or not finite, are NaN, which lie in no image; see :meth:`contains`.
        """
        local = self.to_camera(xyz)
        depth = local[..., 2]
        with np.errstate(invalid="ignore"):
            scale = np.where(depth > 0, depth if self.perspective else 1.0, np.nan)[..., None]
            return local[..., :2] / scale @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2], depth

    def contains(self, pixels: ArrayLike) -> NDArray[np.bool_]:
        """bool [...]: whether pixel coordinates [..., 2] lie in the image, whose borders are half a pixel outside the outer centres."""
        pixels = np.asarray(pixels)
        return np.asarray(((pixels >= -0.5) & (pixels < np.array(self.size) - 0.5)).all(axis=-1))


class PerspectiveCamera(Camera):
    """A pinhole camera without distortion."""

    perspective = True


class OrthographicCamera(Camera):
    """A camera whose rays are parallel."""

    perspective = False


def camera_matrix(focal: float, centre: Sequence[float] | NDArray[np.floating]) -> Floats:
    """Intrinsics float64 [3, 3] of square pixels. Args: focal: pixels (orthographic: pixels per metre). centre: principal point, pixels."""
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], np.float64)


def camera_pose(rotation: NDArray[np.floating], position: NDArray[np.floating]) -> Floats:
    """A pose float64 [4, 4], camera to world.

    Args:
        rotation: [3, 3], its rows are the directions right, down and forward in the world. position: [3], metres.
    """
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.asarray(rotation).T, position
    return pose


def view_rotation(forward: ArrayLike, up: ArrayLike) -> Floats:
    """Rows right, down and forward, float64 [3, 3], of a camera that looks along ``forward`` with ``up`` upright in the picture.

    Looking straight up or down no direction is upright; then a fixed one of the world's axes takes the place of ``up``.

    Args:
        forward: [3], unit. up: [3], unit.
    """
    forward, up = np.asarray(forward, np.float64), np.asarray(up, np.float64)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-3:
        right = np.cross(forward, np.eye(3)[np.abs(up).argmin()])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _checked_intrinsics(intrinsics: ArrayLike) -> Floats:
    matrix = np.array(intrinsics, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise InputError("intrinsics: expected a finite 3x3 matrix with positive focal lengths")
    if matrix[1, 0] != 0 or (matrix[2] != (0, 0, 1)).any():
        raise InputError("intrinsics: expected an upper triangular matrix with the last row 0 0 1")
    return matrix
