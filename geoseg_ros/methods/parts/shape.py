"""One object as few points in an upright frame of its own, in which objects of a kind can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.poses import upright
from geoseg_ros.geometry.voxels import choose_voxel, voxel_downsample

BUDGET = 600  # points that are aimed at
LEAST = 30  # points of the smallest object that can be compared
_MOST_READ = 20_000  # points looked at: more do not change the shape
_NEIGHBOURS = 12  # that a normal is fitted to


@dataclass(frozen=True)
class Shape:
    """One object in an upright frame: z up, its lowest point at z = 0, the middle of its bounding box over the origin.

    Attributes:
        xyz: float32 [n, 3], metres.
        normal: float32 [n, 3], unit, towards the sensor.
        pose: float64 [4, 4], from this frame to that of the input.
    """

    xyz: NDArray[np.float32]
    normal: NDArray[np.float32]
    pose: NDArray[np.float64]

    @property
    def diagonal(self) -> float:
        """Of the bounding box, metres."""
        return float(np.linalg.norm(np.ptp(self.xyz, axis=0)))


def make_shape(xyz: NDArray[np.floating], up: NDArray[np.floating], budget: int = BUDGET) -> Shape:
    """The shape of an object.

    Args:
        xyz: [n, 3], metres; invalid points are left out.
        up: [3], unit.
        budget: points that are aimed at.

    Raises:
        InputError: fewer than 30 valid points, or all of them in one place.
    """
    points = np.asarray(xyz)[np.isfinite(xyz).all(axis=1)].astype(np.float32)
    if len(points) < LEAST:
        raise InputError(f"expected at least {LEAST} valid points, got {len(points)}")
    points = points[:: -(-len(points) // _MOST_READ)]
    turn = upright(up)
    standing = points @ turn.T.astype(np.float32)
    low, high = np.quantile(standing, (0.002, 0.998), axis=0)  # a few stray points must not shift the frame
    if float(np.linalg.norm(high - low)) < 1e-3:
        raise InputError("expected an object of more than a millimetre, all points are in one place")
    margin = 0.05 * np.linalg.norm(high - low)
    standing = standing[((standing > low - margin) & (standing < high + margin)).all(axis=1)]
    corner = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]], np.float32)
    standing = np.ascontiguousarray(standing - corner)
    if len(standing) > budget:
        standing = voxel_downsample(standing, None, choose_voxel(standing, budget)).xyz
    sensor = -corner  # the origin of the input
    _, index = knn(standing, min(_NEIGHBOURS, len(standing)))
    normal, _ = normals(standing, index, (float(sensor[0]), float(sensor[1]), float(sensor[2])))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T, turn.T @ corner
    return Shape(standing, normal, pose)
