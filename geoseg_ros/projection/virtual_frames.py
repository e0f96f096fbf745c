"""Posed frames of a cloud that has none: drawn by virtual perspective cameras that stand inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.posed_frames import FrameList, PosedFrame
from geoseg_ros.projection.cameras import PerspectiveCamera, camera_matrix, camera_pose, view_rotation
from geoseg_ros.projection.render import Rendering, render_points
from geoseg_ros.projection.shading import colour_picture, shaded_picture
from geoseg_ros.settings import Settings, setting

_UP = np.array([0.0, 0.0, 1.0])
_GRID = 0.25  # metres between the places that are tried
_FOOTING = 0.4  # metres around a place within which the cloud has something below it
_NEIGHBOURS = 16  # points that a normal is fitted to
_LARGEST_DISC = 12  # pixels; nearer points are drawn no larger
_NEAR = 0.2  # metres; nearer points are not drawn


@dataclass(frozen=True)
class VirtualConfig(Settings):
    """Where virtual cameras stand in a cloud, and what they see."""

    places: int = setting(6, "places, far from one another, that cameras stand at", range=(1, 1000))
    heights: tuple[float, ...] = setting((1.5, 1.0), "heights of the cameras above the floor, in turn", unit="m", range=(0.0, 100.0))
    turns: int = setting(6, "cameras at each place, evenly turned about the vertical", range=(1, 360))
    pitches: tuple[float, ...] = setting(
        (-20.0, 5.0), "angles above the horizon at which they look, in turn", unit="degrees", range=(-90.0, 90.0)
    )
    clearance: float = setting(0.4, "no point is nearer to a camera, where such places exist", unit="m", range=(0.0, 100.0))
    field: float = setting(75.0, "horizontal field of view", unit="degrees", range=(10.0, 150.0))
    width: int = setting(480, "of a picture", unit="pixels", range=(16, 4096))
    height: int = setting(360, "of a picture", unit="pixels", range=(16, 4096))
    spacing: float = setting(
        0.03, "points are thinned to this before they are drawn, large enough to close the gaps", unit="m", range=(0.001, 10.0)
    )
    colour: bool = setting(True, "draw points in their colour where they have one; else, and without colour, as shaded surfaces")


def virtual_frames(cloud: Cloud, config: VirtualConfig | None = None, name: str = "") -> FrameList:
    """Pictures of a cloud from inside, with depth and poses. A pure function of its arguments.

    Args:
        cloud: metres, z up.
        config: settings.
        name: of the cloud.

    Raises:
        InputError: the cloud has no valid points.
    """
    config = config or VirtualConfig()
    if not cloud.valid().any():
        raise InputError(f"{name or 'cloud'}: no valid point, nothing can be drawn")
    grid = voxel_downsample(cloud.xyz, cloud.rgb, config.spacing)
    places = camera_places(grid.xyz, config)
    normal = None
    if grid.rgb is None or not config.colour:
        normal, _ = normals(grid.xyz, knn(grid.xyz, _NEIGHBOURS)[1])
    frames = []
    for k, camera in enumerate(_cameras(places, config)):
        drawn = _draw(camera, grid.xyz, config.spacing)
        if normal is None:
            assert grid.rgb is not None
            picture = colour_picture(drawn, grid.rgb)
        else:
            picture = shaded_picture(drawn, camera, normal)
        depth = np.where(drawn.shown, drawn.depth, np.float32(np.nan))
        frames.append(PosedFrame(picture, depth, camera.intrinsics, camera.pose, f"{name} view {k}".strip()))
    return FrameList(frames, name)


def camera_places(xyz: NDArray[np.float32], config: VirtualConfig) -> NDArray[np.float64]:
    """Places inside a cloud, float64 [P, 3], P <= ``config.places``, far from one another.

    They stand on a grid over the cloud at the heights in turn, above something, with the clearance around them; where there is no such
    place, at the one with the most room.

    Args:
        xyz: [M, 3], finite, z up.
    """
    floor = float(np.percentile(xyz[:, 2], 1))
    low, high = xyz[:, :2].min(axis=0), xyz[:, :2].max(axis=0)
    ground = np.stack(np.meshgrid(*(np.arange(a + _GRID / 2, max(b, a + _GRID), _GRID) for a, b in zip(low, high, strict=True))), -1)
    ground = ground.reshape(-1, 2)
    footed = cKDTree(xyz[:, :2]).query(ground, distance_upper_bound=_FOOTING)[0] < _FOOTING
    ground = ground[footed] if footed.any() else ground
    tree = cKDTree(xyz)
    levels = [np.column_stack([ground, np.full(len(ground), floor + height)]) for height in config.heights]
    room = [tree.query(level)[0] for level in levels]
    free = [level[distance >= config.clearance] for level, distance in zip(levels, room, strict=True)]
    if not any(map(len, free)):
        best = max(range(len(levels)), key=lambda k: room[k].max())
        return levels[best][[int(room[best].argmax())]]
    chosen = np.zeros((0, 3))
    for k in range(config.places):
        level = free[k % len(free)]
        if not len(level):
            continue
        apart = np.linalg.norm(level[:, None, :2] - chosen[None, :, :2], axis=2).min(axis=1) if len(chosen) else room_of(tree, level)
        if apart.max() > 0:
            chosen = np.vstack([chosen, level[int(apart.argmax())]])
    return chosen


def room_of(tree: cKDTree, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres from each of ``places`` [P, 3] to the nearest point."""
    return np.asarray(tree.query(places)[0])


def _cameras(places: NDArray[np.float64], config: VirtualConfig) -> list[PerspectiveCamera]:
    focal = config.width / 2 / np.tan(np.radians(config.field) / 2)
    matrix = camera_matrix(focal, ((config.width - 1) / 2, (config.height - 1) / 2))
    cameras = []
    for p, place in enumerate(places):
        for k in range(config.turns):
            yaw = 2 * np.pi * (k + p / len(places)) / config.turns
            pitch = np.radians(config.pitches[(p + k) % len(config.pitches)])
            forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
            cameras.append(PerspectiveCamera(camera_pose(view_rotation(forward, _UP), place), matrix, (config.width, config.height)))
    return cameras


def _draw(camera: PerspectiveCamera, xyz: NDArray[np.float32], spacing: float) -> Rendering:
    """The points as squares that are as large as the gaps between them at their depth; the nearest one wins a pixel."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = np.ceil(0.75 * spacing * camera.intrinsics[0, 0] / camera.to_camera(xyz)[:, 2] - 0.5)
    radius = np.clip(np.nan_to_num(pixels, posinf=_LARGEST_DISC), 0, _LARGEST_DISC).astype(np.int64)
    index = np.full(camera.size[::-1], -1, np.int32)
    depth = np.full(camera.size[::-1], np.inf, np.float32)
    for size in range(_LARGEST_DISC + 1):
        rows = np.flatnonzero(radius == size)
        if len(rows):
            part = render_points(camera, xyz[rows], size, _NEAR)
            nearer = part.depth < depth
            index[nearer], depth[nearer] = rows[part.index[nearer]], part.depth[nearer]
    return Rendering(index, depth)
