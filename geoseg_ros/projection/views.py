"""Virtual views: a proposal drawn from virtual viewpoints, as input for an image backbone.

A view is orthographic, a padded square around the points on flat grey. The point shown at every pixel is recorded, so tokens of the
pictures can be lifted to points (:mod:`geoseg_ros.projection.lifting`). No real camera is involved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.projection.cameras import OrthographicCamera, camera_matrix, camera_pose, view_rotation
from geoseg_ros.projection.render import Rendering, close_gaps, render_points
from geoseg_ros.projection.shading import SHADINGS, colour_picture, shaded_picture
from geoseg_ros.projection.spacing import bounds, point_spacing
from geoseg_ros.settings import Settings, setting

Floats = NDArray[np.floating]
Direction = Floats | Sequence[float]
_UP = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class ViewConfig(Settings):
    """How proposals are drawn."""

    size: int = setting(128, "side of a view; a multiple of the backbone's stride", unit="pixels", range=(16, 2048))
    views: int = setting(
        1,
        "views of a proposal: one from the sensor, two turned by +yaw and -yaw about the up axis, two by twice that, and so on",
        range=(1, 64),
    )
    yaw: float = setting(25.0, "angle between neighbouring views", unit="degrees", range=(-180.0, 180.0))
    fill: float = setting(0.8, "share of the side that the larger extent of the object takes", range=(0.01, 1.0))
    colour: bool = setting(True, "paint points in their colour where they have one; else, and without colour, their shaded normals")
    shading: str = setting(
        "lambert",
        "grey under two lights, one at the viewer and one from the upper left; or the normal's x, y, z in the view as RGB",
        choices=SHADINGS,
    )
    closing: float = setting(
        1.3,
        "radius that closes holes between points; 0.71 (half the diagonal) closes a square grid, scattered points need more",
        unit="times the spacing of the points",
        range=(0.0, 100.0),
    )
    largest_radius: float = setting(0.1, "upper bound of that radius", unit="share of the side", range=(0.0, 1.0))
    hole: float = setting(0.02, "enclosed holes smaller than this are filled too", unit="share of the drawn area", range=(0.0, 1.0))


@dataclass(frozen=True)
class View:
    """A drawn proposal. Attributes: camera: virtual. rendering: of the proposal's points, without gaps."""

    camera: OrthographicCamera
    rendering: Rendering


def view_directions(forward: Floats, up: Floats, config: ViewConfig) -> NDArray[np.float64]:
    """Directions of view, unit, float64 [V, 3]: ``forward`` turned about ``up`` by 0, +yaw, -yaw, twice that ..., both [3], unit."""
    steps = np.array([(k + 1) // 2 * (1 if k % 2 else -1) for k in range(config.views)])
    angle = np.deg2rad(config.yaw) * steps[:, None]
    return forward * np.cos(angle) + np.cross(up, forward) * np.sin(angle) + up * (up @ forward) * (1 - np.cos(angle))  # Rodrigues


def plan_views(xyz: Floats, sensor: Floats, config: ViewConfig, up: Direction = _UP) -> list[OrthographicCamera]:
    """Cameras around a proposal, all of it in each picture.

    Args:
        xyz: float64 [n >= 1, 3] finite, metres.
        sensor: [3], where the sensor was, in the frame of ``xyz``. The first camera looks from there.
        config: settings.
        up: [3], the direction that is upright in the pictures.
    """
    up = np.asarray(up, np.float64)
    upright: NDArray[np.float64] = up / np.linalg.norm(up)
    forward = np.add(*bounds(xyz, np.eye(3))) / 2 - np.asarray(sensor, np.float64)
    length = np.linalg.norm(forward)
    forward = forward / length if length > 1e-6 else np.eye(3)[np.abs(upright).argmin()]
    cameras = []
    for direction in view_directions(forward, upright, config):
        rotation = view_rotation(direction, upright)
        low, high = bounds(xyz, rotation)
        extent = max(float((high - low)[:2].max()), 1e-6)
        # in front of all points; depth counts from here, in single precision
        position = np.array([*(low + high)[:2] / 2, low[2] - 0.1 * extent]) @ rotation
        matrix = camera_matrix(config.fill * config.size / extent, (config.size / 2 - 0.5,) * 2)
        cameras.append(OrthographicCamera(camera_pose(rotation, position), matrix, (config.size, config.size)))
    return cameras


def draw_views(
    xyz: Floats, normal: Floats, sensor: Floats, config: ViewConfig, up: Direction = _UP, spacing: float | None = None
) -> list[View]:
    """Draw one proposal.

    Args:
        xyz: [n, 3] finite, metres. normal: [n, 3] unit, either sign; NaN where not known.
        sensor: [3], where the sensor was, in the frame of ``xyz``.
        config: settings.
        up: [3], upright direction in that frame: +z in body and map frames (REP 103), -y in camera optical frames.
        spacing: distance of neighbouring points in metres, where known; else it is measured.

    Returns:
        V views; their renderings index the rows of ``xyz``.

    Raises:
        ValueError: no points, or not finite, or another number of normals.
    """
    xyz = np.asarray(xyz, np.float64)
    if len(xyz) == 0 or xyz.shape != np.shape(normal) or not np.isfinite(xyz).all():
        raise ValueError(f"xyz and normal: expected finite [n >= 1, 3], got {xyz.shape} and {np.shape(normal)}")
    if spacing is None:
        spacing = point_spacing(xyz, np.nan_to_num(normal))
    views = []
    for camera in plan_views(xyz, sensor, config, up):
        pixels = config.closing * spacing * camera.intrinsics[0, 0]
        radius = int(np.clip(np.ceil(pixels), 1, max(1, round(config.largest_radius * config.size))))
        views.append(View(camera, close_gaps(render_points(camera, xyz), camera, radius, config.hole)))
    return views


def paint_views(views: Sequence[View], rgb: NDArray[np.uint8] | None, normal: Floats, config: ViewConfig) -> NDArray[np.uint8]:
    """Pictures of drawn views.

    Args:
        views: V of them.
        rgb: uint8 [n, 3], colours of the points, used where ``config`` asks for colour; None: the pictures are shaded.
        normal: [n, 3], unit, either sign.
        config: settings.

    Returns:
        uint8 RGB [V, S, S, 3].
    """
    if rgb is not None and config.colour:
        return np.stack([colour_picture(view.rendering, rgb) for view in views])
    return np.stack([shaded_picture(view.rendering, view.camera, normal, config.shading) for view in views])


def index_of(views: Sequence[View]) -> NDArray[np.int32]:
    """int32 [V, S, S], the point that each pixel of the views shows, -1 for background."""
    return np.stack([view.rendering.index for view in views])
