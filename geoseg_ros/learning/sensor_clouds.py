"""Lifted rooms as robots see them: the whole room, single depth images, single turns of a LiDAR; cropped, turned and thinned at random."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.poses import surface_up, upright
from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.learning.checkpoint import read_tensors, write_tensors
from geoseg_ros.projection.fusing import back_project
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.settings import Settings, setting

KINDS = ("room", "depth", "lidar")
FARTHEST = 6.0  # metres: the depth of frames beyond is not used
LEAST = 200  # points with a target that a cloud must have
_KIND = "room to learn from"


@dataclass(frozen=True, eq=False)
class SensorCloud:
    """What a sensor measured of a room, N points.

    Attributes:
        kind: one of ``KINDS``.
        xyz: float32 [N, 3], metres, z up.
        rgb: uint8 [N, 3], or None.
        supervoxel: int64 [N], the room's super-voxel that each point lies in, -1 where it lies in none.
    """

    kind: str
    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None
    supervoxel: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LearningRoom:
    """A room of S super-voxels.

    Attributes:
        name: of the room.
        backbone: hash of the image backbone that gave the tokens.
        token: float32 [S, D], mean of the lifted tokens, not normalised, zeros where no frame shows any.
        clouds: at least one.
    """

    name: str
    backbone: str
    token: NDArray[np.float32]
    clouds: tuple[SensorCloud, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool [S], the super-voxels that a frame shows."""
        return np.asarray(np.abs(self.token).sum(axis=1) > 0)


@dataclass(frozen=True)
class SampleConfig(Settings):
    """Random changes of a sensor's cloud before a network sees it, in training."""

    kinds: tuple[float, ...] = setting(
        (0.3, 0.4, 0.3), "shares of whole rooms, depth images and LiDAR, where there are any", range=(0.0, 1.0)
    )
    radius: tuple[float, float] = setting((1.0, 3.0), "smallest and largest radius of a crop, a column", unit="m", range=(0.1, 100.0))
    whole: float = setting(0.4, "share of the depth images and turns of a LiDAR that are not cropped", range=(0.0, 1.0))
    points: int = setting(12_000, "largest number of points of a sample", range=(100, 10_000_000))
    keep: float = setting(0.4, "smallest share of the points that thinning leaves", range=(0.01, 1.0))
    tilt: float = setting(3.0, "standard deviation of the rotations about x and y", unit="degrees", range=(0.0, 180.0))
    scale: float = setting(0.1, "largest change of the size, a share of it", range=(0.0, 0.9))
    no_colour: float = setting(0.5, "share of the coloured samples that are shown without colour", range=(0.0, 1.0))
    colour: float = setting(0.2, "largest change of each colour channel's gain", range=(0.0, 1.0))


def learning_room(scene: LiftedScene, frames: Iterable[PosedFrame] = (), sweeps: Sequence[Cloud] = ()) -> LearningRoom:
    """A lifted room with the clouds of single frames and sweeps, all in the frame of the scene.

    Points take the super-voxel of the nearest voxel within two edges. Clouds are thinned to half the voxel edge; those with too few points
    that have a target are left out.
    """
    turn, tree = upright(surface_up(scene.normal, scene.up)), cKDTree(scene.xyz)
    token, number = scene.superpoint_tokens()
    known = np.append(number > 0, False)

    def seen(kind: str, xyz: NDArray, rgb: NDArray[np.uint8] | None) -> SensorCloud | None:
        grid = voxel_downsample(xyz.astype(np.float32), rgb, scene.voxel / 2)
        if not len(grid.xyz):
            return None
        distance, nearest = tree.query(grid.xyz, distance_upper_bound=2 * scene.voxel)
        group = np.where(np.isfinite(distance), scene.superpoint[np.minimum(nearest, len(scene.xyz) - 1)], -1)
        return SensorCloud(kind, (grid.xyz @ turn.T).astype(np.float32), grid.rgb, group) if known[group].sum() >= LEAST else None

    found = [seen("room", scene.xyz, scene.rgb)]
    for frame in frames:
        points = back_project(frame).reshape(-1, 3)
        use = (frame.depth.ravel() < FARTHEST) & np.isfinite(points).all(axis=1)
        found.append(seen("depth", points[use], frame.rgb.reshape(-1, 3)[use]))
    found += [seen("lidar", sweep.xyz, None) for sweep in sweeps]
    clouds = tuple(cloud for cloud in found if cloud is not None)
    if not clouds:
        raise InputError(f"{scene.name or 'room'}: no frame shows enough of its points to learn from")
    return LearningRoom(scene.name, scene.backbone, token * (number > 0)[:, None], clouds)


def save_room(path: str | os.PathLike[str], room: LearningRoom) -> None:
    """Write a room."""
    tensors = {"token": torch.from_numpy(room.token)}
    for k, cloud in enumerate(room.clouds):
        tensors |= {f"{k}.xyz": torch.from_numpy(cloud.xyz), f"{k}.supervoxel": torch.from_numpy(cloud.supervoxel)}
        if cloud.rgb is not None:
            tensors[f"{k}.rgb"] = torch.from_numpy(cloud.rgb)
    write_tensors(path, _KIND, tensors, {"name": room.name, "backbone": room.backbone, "kinds": [cloud.kind for cloud in room.clouds]})


def load_room(path: str | os.PathLike[str]) -> LearningRoom:
    """Read what :func:`save_room` wrote.

    Raises:
        InputError: absent, damaged or of another kind.
    """
    tensors, head = read_tensors(path, _KIND)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    clouds = [
        SensorCloud(kind, arrays[f"{k}.xyz"], arrays.get(f"{k}.rgb"), arrays[f"{k}.supervoxel"]) for k, kind in enumerate(head["kinds"])
    ]
    return LearningRoom(head["name"], head["backbone"], arrays["token"], tuple(clouds))


def draw_cloud(room: LearningRoom, config: SampleConfig, rng: np.random.Generator) -> SensorCloud:
    """One of the room's clouds, of a kind drawn first; cropped, thinned, turned about z by any angle and by small ones about x and y,
    mirrored, scaled, its colours changed or hidden."""
    kinds = sorted({cloud.kind for cloud in room.clouds}, key=KINDS.index)
    share = np.array([config.kinds[KINDS.index(kind)] for kind in kinds]) + 1e-9
    kind = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
    choice = [cloud for cloud in room.clouds if cloud.kind == kind]
    cloud = choice[int(rng.integers(len(choice)))]
    point = _cropped(cloud, config, rng)
    point = point[rng.random(len(point)) < max(rng.uniform(config.keep, 1.0), 1 / len(point))]
    tilt = np.deg2rad(rng.normal(0, config.tilt, 2))
    turn = Rotation.from_euler("xyz", [*tilt, rng.uniform(0, 2 * np.pi)]).as_matrix() @ np.diag([rng.choice([-1.0, 1.0]), 1, 1])
    xyz = cloud.xyz[point].astype(np.float64)
    xyz = (xyz - xyz.mean(axis=0)) @ turn.T * rng.uniform(1 - config.scale, 1 + config.scale) + rng.uniform(0, 1, 3)
    rgb = None
    if cloud.rgb is not None and rng.random() >= config.no_colour:
        gain = rng.uniform(1 - config.colour, 1 + config.colour) * rng.uniform(1 - config.colour / 2, 1 + config.colour / 2, 3)
        rgb = np.clip(cloud.rgb[point] * gain, 0, 255).astype(np.uint8)
    return SensorCloud(kind, xyz.astype(np.float32), rgb, cloud.supervoxel[point])


def _cropped(cloud: SensorCloud, config: SampleConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """The points of a column about a random point, or all; at most ``config.points``, the nearest."""
    whole = cloud.kind != "room" and rng.random() < config.whole
    radius = np.inf if whole else rng.uniform(*config.radius)
    centre = cloud.xyz[rng.integers(len(cloud.xyz)), :2]
    distance = np.square(cloud.xyz[:, :2] - centre).sum(axis=1)
    inside = np.flatnonzero(distance <= radius**2)
    if len(inside) > config.points:
        inside = np.sort(inside[np.argpartition(distance[inside], config.points)[: config.points]])
    return inside
