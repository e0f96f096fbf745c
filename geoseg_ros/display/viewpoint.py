"""Viewpoints for drawing clouds, and the points that are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.cameras import PerspectiveCamera, camera_matrix, camera_pose, view_rotation

_TILT_BODY, _TILT_OPTICAL = 52.0, 15.0  # degrees that the drawing camera looks down
NEAR = 0.1  # of the median depth; nearer points would hide the others
_CEILING = 2.1  # metres above the floor; what is higher would hide the room
_CORRELATION = 0.3  # of rows and columns with the directions of the points; between one and none of a pinhole camera and a spinning sensor


@dataclass(frozen=True)
class Axes:
    """Unit vectors in the frame of a cloud. Attributes: up, forward float64 [3]; optical: x right, y down, z forward (REP 103)."""

    up: NDArray[np.float64]
    forward: NDArray[np.float64]
    optical: bool


def axes_of(cloud: Cloud) -> Axes:
    """The axes of a cloud's frame, inferred from its organisation: optical for a pinhole camera, else body (REP 103).

    The rows and columns of a depth camera go along y / z and x / z; those of a spinning LiDAR, which may be organised too, do not.
    """
    optical = Axes(np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0]), True)
    body = Axes(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), False)
    valid = np.flatnonzero(cloud.valid())
    if cloud.shape is None or min(cloud.shape) < 2 or not len(valid):
        return body
    some = valid[:: max(1, len(valid) // 10_000)]
    x, y, z = cloud.xyz[some].astype(np.float64).T
    row, column = np.divmod(some, cloud.shape[1])
    ahead = z > 0
    if ahead.mean() < 0.99:
        return body
    x, y, row, column = (x / z)[ahead], (y / z)[ahead], row[ahead], column[ahead]
    return optical if min(_correlation(x, column), _correlation(y, row)) > _CORRELATION else body


def _correlation(a: NDArray[np.floating], b: NDArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def below_ceiling(cloud: Cloud, axes: Axes) -> NDArray[np.bool_]:
    """The points that are drawn, bool [N]: valid, and in a body frame not higher above the floor than a room's furniture."""
    keep = cloud.valid()
    if not axes.optical and keep.any():
        level = cloud.xyz @ axes.up.astype(np.float32)
        keep &= level < np.percentile(level[keep], 1) + _CEILING
    return keep


def overview(xyz: NDArray[np.floating], axes: Axes, size: tuple[int, int]) -> PerspectiveCamera:
    """A camera behind and above the sensor that has nearly all points in its picture.

    Args:
        xyz: [N >= 1, 3], finite, metres.
        axes: of the frame of the points.
        size: width and height of the picture, pixels.
    """
    xyz = np.asarray(xyz, np.float64)
    tilt = np.deg2rad(_TILT_OPTICAL if axes.optical else _TILT_BODY)
    rotation = view_rotation(np.cos(tilt) * axes.forward - np.sin(tilt) * axes.up, axes.up)
    middle = np.median(xyz, axis=0)
    local = (xyz - middle) @ rotation.T
    # the camera stands off by the extent of the cloud; the focal length is what makes nearly all points fit
    distance = 1.6 * float(np.percentile(np.linalg.norm(local, axis=1), 98)) + 1e-6
    depth = local[:, 2] + distance
    near = depth > NEAR * np.median(depth)
    plane = local[near, :2] / depth[near, None]
    low, high = np.percentile(plane, (0.5, 99.5), axis=0)
    focal = float((0.94 * np.array(size) / np.maximum(high - low, 1e-6)).min())
    centre = np.array(size) / 2 - focal * (low + high) / 2
    return PerspectiveCamera(camera_pose(rotation, middle - distance * rotation[2]), camera_matrix(focal, centre), size)
