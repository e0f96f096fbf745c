"""Poses: rigid motions as 4x4 matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.errors import InputError

_TOLERANCE = 1e-2  # by which the axes of a measured pose may miss length 1 and right angles


def rigid(pose: ArrayLike) -> NDArray[np.float64]:
    """The rigid motion float64 [4, 4] that is nearest to ``pose``.

    Raises:
        InputError: no finite 4x4 matrix with last row (0, 0, 0, 1), or its axes are far from a right-handed orthonormal frame.
    """
    matrix = np.array(pose, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise InputError("pose: expected a finite 4x4 matrix with the last row 0 0 0 1")
    axes = matrix[:3, :3]
    error = np.abs(axes @ axes.T - np.eye(3)).max()
    if error > _TOLERANCE or np.linalg.det(axes) < 0:
        raise InputError("pose: expected a rotation in its upper left 3x3 numbers")
    if error > 1e-12:
        u, _, v = np.linalg.svd(axes)
        matrix[:3, :3] = u @ v
    return matrix


def upright(up: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotation float64 [3, 3] that turns the unit vector ``up`` [3] to +z the shortest way."""
    x, y, z = (float(value) for value in up)
    if z < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # of up x z
    return np.eye(3) + cross + cross @ cross / (1 + z)


def surface_up(normal: NDArray[np.floating], up: NDArray[np.floating], reach: float = 45.0, width: float = 8.0) -> NDArray[np.float64]:
    """The direction within ``reach`` degrees of ``up`` that most surfaces face or turn away from: that of floors, table tops and ceilings.

    Args:
        normal: [M, 3], unit, either sign.
        up: [3], unit, roughly up, such as the mean of a camera's that looks down.
        reach: degrees.
        width: degrees; normals this near to a direction count for it.

    Returns:
        float64 [3], unit; ``up`` itself where no normal is within reach.
    """
    along = normal @ up
    near = (normal * np.sign(along)[:, None])[np.abs(along) > np.cos(np.radians(reach))].astype(np.float64)
    if not len(near):
        return np.asarray(up, np.float64)
    voters, candidates = near[:: -(-len(near) // 4000)], near[:: -(-len(near) // 400)]
    for_it = voters @ candidates.T > np.cos(np.radians(width))
    found = voters[for_it[:, int(for_it.sum(axis=0).argmax())]].mean(axis=0)
    return np.asarray(found / np.linalg.norm(found))


def cloud_up(xyz: NDArray[np.floating], normal: NDArray[np.floating]) -> NDArray[np.float64]:
    """The direction that is up in a cloud, float64 [3], unit: that of its level surfaces within 60 degrees of the axis that REP 103 says.

    The axis is -y where nearly all points lie in the view of a camera that looks along +z, else +z.

    Args:
        xyz: [M, 3], metres. normal: [M, 3], unit, either sign.
    """
    in_view = np.abs(xyz[:, :2]).max(axis=1, initial=0) < 2 * xyz[:, 2]
    axis = np.array([0.0, -1.0, 0.0]) if len(xyz) and in_view.mean() > 0.99 else np.array([0.0, 0.0, 1.0])
    return surface_up(normal, axis, reach=60.0)
