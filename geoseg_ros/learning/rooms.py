"""Lifted scenes as trainings of scene packs need them: upright, with one token per super-voxel, turned and cropped at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.geometry.analysis import GeometryConfig, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.poses import cloud_up, surface_up, upright
from geoseg_ros.learning.clustering import unit_rows
from geoseg_ros.nets import encoder_file
from geoseg_ros.nets.base import PointNetwork, PreparedCloud, point_features
from geoseg_ros.nets.encoder_file import load_encoder
from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.nets.sparse_unet import SparseUNet
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.projection.shots import Shot
from geoseg_ros.settings import Settings, setting

GREY = 128  # colour of points that have none


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Random changes of a scene before the network sees it, in training."""

    tilt: float = setting(180 / 32, "largest rotation about x and about y", unit="degrees", range=(0.0, 180.0))
    scale: float = setting(0.1, "largest change of the size, a share of it", range=(0.0, 0.9))
    shift: float = setting(1.0, "largest shift; the network sees a centred scene, so it only moves the grid", unit="m", range=(0.0, 100.0))
    crop: int = setting(20_000, "points of a sample, the nearest to a random one; 0: the whole scene", range=(0.0, math.inf))
    no_colour: float = setting(0.2, "share of the samples that are shown without colour", range=(0.0, 1.0))
    views: float = setting(0.0, "share of the samples that are what a single frame measured, where a scene has frames", range=(0.0, 1.0))
    balls: float = setting(0.0, "share of the other samples that are balls, often without the floor, not columns", range=(0.0, 1.0))


@dataclass(frozen=True, eq=False)
class View:
    """What a single frame measured of a room, n points.

    Attributes:
        xyz: float32 [n, 3], metres, z up as in the room, x and y any.
        rgb: uint8 [n, 3], grey where the scene has no colour.
        supervoxel: int64 [n], of the room, -1 where none is near.
        own: int64 [n], super-voxel of the view alone, as a live cloud would have it, -1 where a point has none.
        lean: float64 [3, 3], rotation of these axes to those that a live cloud would have, whose up is that of its own level surfaces.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    supervoxel: NDArray[np.int64]
    own: NDArray[np.int64]
    lean: NDArray[np.float64]

    @property
    def size(self) -> NDArray[np.int64]:
        """int64 [.], points of each of its own super-voxels."""
        return np.bincount(self.own[self.own >= 0])


@dataclass(frozen=True, eq=False)
class Room:
    """One scene of M points in S super-voxels.

    Attributes:
        xyz: float32 [M, 3], metres, z up.
        rgb: uint8 [M, 3], grey where the scene has no colour.
        normal: float32 [M, 3], in the same axes.
        supervoxel: int64 [M], 0 .. S - 1.
        token: float32 [S, D], mean of the lifted tokens, not normalised, zeros where ``known`` is not.
        known: bool [S], the super-voxels that a frame shows.
        name: of the scene.
        views: of single frames.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    normal: NDArray[np.float32]
    supervoxel: NDArray[np.int64]
    token: NDArray[np.float32]
    known: NDArray[np.bool_]
    name: str = ""
    views: tuple[View, ...] = ()

    @property
    def size(self) -> NDArray[np.int64]:
        """int64 [S], points of each super-voxel."""
        return np.bincount(self.supervoxel, minlength=len(self.token))


def room_of(scene: LiftedScene, geometry: GeometryConfig | None = None) -> Room:
    """The room of a lifted scene. ``geometry``: how live clouds are analysed, for its views; None: without views."""
    turn = upright(surface_up(scene.normal, scene.up))
    token, number = scene.superpoint_tokens()
    return Room(
        (scene.xyz @ turn.T).astype(np.float32),
        _colour(scene.rgb, len(scene)),
        (scene.normal @ turn.T).astype(np.float32),
        scene.superpoint,
        token,
        number > 0,
        scene.name,
        () if geometry is None else tuple(_view(shot, scene.superpoint, turn, geometry) for shot in scene.shots if len(shot.xyz)),
    )


def _view(shot: Shot, superpoint: NDArray[np.int64], turn: NDArray[np.float64], geometry: GeometryConfig) -> View:
    found = analyse_cloud(Cloud(shot.xyz, shot.rgb), geometry)
    stand = turn @ shot.turn
    own = np.where(found.inverse >= 0, found.superpoint[found.inverse], -1) if len(found.xyz) else np.full(len(shot.xyz), -1)
    return View(
        (shot.xyz @ stand.T).astype(np.float32),
        _colour(shot.rgb, len(shot.xyz)),
        np.where(shot.row >= 0, superpoint[shot.row], -1),
        own,
        upright(cloud_up(found.xyz, found.normal)) @ stand.T,
    )


def _colour(rgb: NDArray[np.uint8] | None, count: int) -> NDArray[np.uint8]:
    return np.full((count, 3), GREY, np.uint8) if rgb is None else rgb


def first_supervoxels(rooms: Sequence[Room]) -> NDArray[np.int64]:
    """int64 [rooms + 1]: number of each room's first super-voxel among those of all rooms, and of all."""
    return np.cumsum([0, *(len(room.token) for room in rooms)])


def target_of(tokens: NDArray[np.floating], mean: NDArray[np.floating] | None) -> NDArray[np.float32]:
    """Tokens [n, D] without the ``mean`` [D], at unit length, float32."""
    return unit_rows(tokens if mean is None else tokens - mean)


def mean_token(rooms: Sequence[Room]) -> NDArray[np.float32]:
    """float32 [D], over the points of all rooms that have a token."""
    weights = [room.size * room.known for room in rooms]
    total = sum((weight[:, None] * room.token.astype(np.float64)).sum(axis=0) for room, weight in zip(rooms, weights, strict=True))
    return np.asarray(total / max(sum(int(weight.sum()) for weight in weights), 1), np.float32)


@dataclass(frozen=True, eq=False)
class Sample:
    """A part of a room, changed at random.

    Attributes: point: int64 [n], rising, rows of the room, or of the view. xyz: float32 [n, 3]. rgb: uint8 [n, 3]. supervoxel: int64 [n],
    of the room, -1 for points without one.
    """

    point: NDArray[np.int64]
    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    supervoxel: NDArray[np.int64]


def draw_sample(room: Room, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """A view or a crop of a room, turned, scaled and shifted; the rotation about z is any, those about x and y are small.

    Half of the views stand as a live cloud does, whose up direction may be wrong; the others as the room.
    """
    part: Room | View = room
    if room.views and rng.random() < config.views:
        part = room.views[rng.integers(len(room.views))]
    xyz = part.xyz.astype(np.float64)
    if isinstance(part, View) and rng.random() < 0.5:
        xyz = xyz @ part.lean.T
    point = _crop(xyz, config.crop, isinstance(part, Room) and rng.random() < config.balls, rng)
    tilt = np.deg2rad(rng.uniform(-config.tilt, config.tilt, 2))
    turn = Rotation.from_euler("xyz", [*tilt, rng.uniform(0, 2 * np.pi)]).as_matrix()
    xyz = (xyz[point] - xyz[point].mean(axis=0)) @ turn.T * rng.uniform(1 - config.scale, 1 + config.scale)
    xyz += rng.uniform(0, config.shift, 3)
    rgb = part.rgb[point]
    if rng.random() < config.no_colour:
        rgb = np.full_like(rgb, GREY)
    return Sample(point, xyz.astype(np.float32), rgb, part.supervoxel[point])


def _crop(xyz: NDArray[np.float64], count: int, ball: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """The ``count`` points nearest to a random one, rising; by their place on the floor, or, fewer, in space (a ``ball``)."""
    if ball:
        count = int(min(count or len(xyz), len(xyz)) * rng.uniform(0.05, 0.5))
    if not 0 < count < len(xyz):
        return np.arange(len(xyz))
    axes = 3 if ball else 2  # columns reach from floor to ceiling
    distance = np.square(xyz[:, :axes] - xyz[rng.integers(len(xyz)), :axes]).sum(axis=1)
    return np.sort(np.argpartition(distance, count)[:count])


def group_means(values: torch.Tensor, group: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Unit mean of rows [N, d] in each of ``count`` groups; rows of group -1 are left out."""
    use = np.flatnonzero(group >= 0)
    total = torch.zeros(count, values.shape[1]).index_add_(0, torch.from_numpy(group[use]), values[torch.from_numpy(use)])
    return unit_rows(total.numpy())


class RoomEncoder(PointEncoder):
    """The encoder that compiles, for rooms, whose points are grey where they have no colour: then the mask of missing colour is set."""

    def prepare(
        self,
        xyz: NDArray[np.float32],
        rgb: NDArray[np.uint8] | None = None,
        intensity: NDArray[np.float32] | None = None,
        normal: NDArray[np.float32] | None = None,
    ) -> PreparedCloud:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return super().prepare(xyz, None if rgb is not None and bool((rgb == GREY).all()) else rgb, intensity, normal)


def room_network(kind: str, dim: int, voxel: float, seed: int, fresh: bool = False) -> PointNetwork:
    """The network that ``kind`` names: ``sparse_unet`` with random weights, those of ``seed``, or the ``encoder`` that ships.

    Args:
        dim: width of the features. The encoder has its own, unless it is ``fresh``: then its last layer begins with random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "sparse_unet":
            return SparseUNet(6, dim, voxel)
        shipped = load_encoder(encoder_file.DEFAULT).network
        arguments: dict[str, Any] = {**shipped.config, "voxel": voxel, **({"dim": dim} if fresh else {})}
        encoder = RoomEncoder(**arguments)
        kept = {name: value for name, value in shipped.state_dict().items() if not (fresh and name.startswith("last."))}
        encoder.load_state_dict(kept, strict=not fresh)
        return encoder


def view_features(network: PointNetwork, view: View, device: str | torch.device = "cpu") -> NDArray[np.float32]:
    """Unit feature of each of the view's own super-voxels, float32 [., d], as in a live cloud."""
    xyz = (view.xyz @ view.lean.T).astype(np.float32)
    return group_means(point_features(network, xyz, view.rgb, device), view.own, len(view.size))
