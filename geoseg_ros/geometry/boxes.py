"""Oriented bounding boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, QhullError


def oriented_box(
    xyz: NDArray[np.floating], up: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A tight box around points.

    With ``up`` (gravity or the normal of the supporting plane) the box stands upright and has the smallest base area, found
    over the edges of the base's convex hull (Freeman & Shapira 1975). Without, its axes are the principal directions.

    Args:
        xyz: float [N, 3], metres, finite, N >= 1.
        up: [3], any length but zero.

    Returns:
        center float64 [3]; rotation float64 [3, 3], right-handed, columns are the box axes (upright: the third is ``up``, the
        first the longer side of the base; else by falling extent); size float64 [3], full lengths along them, metres.

    Raises:
        ValueError: no points, or ``up`` is zero.
    """
    points = np.asarray(xyz, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"xyz: expected [N >= 1, 3], got {points.shape}")
    origin = points.mean(axis=0)
    points = points - origin
    if up is None:
        rotation = np.linalg.eigh(points.T @ points)[1][:, ::-1]
        rotation = rotation * np.where(rotation[np.abs(rotation).argmax(axis=0), range(3)] < 0, -1.0, 1.0)  # eigh leaves signs open
    else:
        rotation = _upright(points, np.asarray(up, np.float64))
    local = points @ rotation
    extent = np.ptp(local, axis=0)
    order = np.argsort(-extent[: 2 if up is not None else 3], kind="stable")
    if up is not None:
        order = np.append(order, 2)
    rotation, local = rotation[:, order], local[:, order]
    if np.linalg.det(rotation) < 0:
        flip = 1 if up is not None else 2  # never the up axis
        rotation[:, flip] *= -1
        local[:, flip] *= -1
    low, high = local.min(axis=0), local.max(axis=0)
    return origin + rotation @ ((low + high) / 2), rotation, high - low


def _upright(points: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation whose third column is ``up`` and whose first two span the smallest rectangle around the points."""
    length = np.linalg.norm(up)
    if up.shape != (3,) or not length > 0:
        raise ValueError("up: expected a vector of three numbers, not zero")
    third = up / length
    first = np.cross(third, np.eye(3)[np.abs(third).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(third, first)
    flat = points @ np.stack([first, second], axis=1)
    try:
        hull = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):  # fewer than three points, or all on a line
        line = flat - flat.mean(axis=0)
        directions = np.linalg.eigh(line.T @ line)[1][:, 1:].T
        hull = flat
    else:
        directions = np.roll(hull, -1, axis=0) - hull
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    across = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    area = np.ptp(hull @ directions.T, axis=0) * np.ptp(hull @ across.T, axis=0)
    best = directions[np.argmin(np.round(area, 12))]
    axis = best[0] * first + best[1] * second
    return np.stack([axis, np.cross(third, axis), third], axis=1)
