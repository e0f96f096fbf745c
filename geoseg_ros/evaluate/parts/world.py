"""Pictures of pairs of simulated instances, with exact correspondences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.projection.cameras import PerspectiveCamera, camera_matrix, camera_pose
from geoseg_ros.simulation.part_truth import FRONTED, PartedObject, corresponding, make_object
from geoseg_ros.simulation.render import Camera, look_at, render

SIDE = 480  # pixels of a picture
_YAW, _ELEVATION = 75.0, (8.0, 38.0)  # degrees to each side of the front, and above the horizon
_VISIBLE = 0.02  # share of the diagonal within which the seen surface is the wanted place


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture of an object.

    Attributes:
        object: what it shows. image: uint8 [S, S, 3]. mask: bool [S, S].
        camera: in the object's frame.
        xyz: float32 [S, S, 3], the place that each pixel shows in the object's frame, NaN outside the mask.
        yaw: radians, of the camera about the object; 0 sees its front.
    """

    object: PartedObject
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    camera: PerspectiveCamera
    xyz: NDArray[np.float32]
    yaw: float

    @property
    def extent(self) -> float:
        """The longer side of the box around the mask, pixels."""
        at = np.argwhere(self.mask)
        return float((at.max(axis=0) - at.min(axis=0) + 1).max())


@dataclass(frozen=True, eq=False)
class Pair:
    """Two shots and K places that both show.

    Attributes:
        source_at, target_at: float64 [K, 2], pixels (u, v) of the places in each.
        mirror_at: float64 [K, 2], pixels of their mirror images (left for right) in the target; NaN where they are hidden.
    """

    source: Shot
    target: Shot
    source_at: NDArray[np.float64]
    target_at: NDArray[np.float64]
    mirror_at: NDArray[np.float64]


def take_shot(obj: PartedObject, rng: np.random.Generator, side: int = SIDE, yaw: float | None = None) -> Shot:
    """A picture from a random direction, the object about four fifths of it."""
    low, high = obj.solids.bounds()
    middle = (low + high) / 2
    yaw = float(np.radians(rng.uniform(-_YAW, _YAW))) if yaw is None else yaw
    rise = np.radians(rng.uniform(*_ELEVATION))
    way = np.array([np.cos(yaw) * np.cos(rise), np.sin(yaw) * np.cos(rise), np.sin(rise)])
    position = middle + way * 2.2 * obj.diagonal
    rotation = look_at(position, middle)
    corners = np.array([[(low, high)[b][i] for i, b in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    local = (corners - position) @ rotation
    reach = np.abs(local[:, :2] / local[:, 2:]).max()
    focal = float(0.4 * side / reach)
    lens = Camera(position.astype(np.float32), rotation, side, side, focal)
    picture = render(obj.scene, lens, rng)
    rays = lens.rays() @ rotation.T
    hits = obj.scene.caster.cast(lens.position, rays)
    mask = hits.solid < len(obj.solids)
    mask &= hits.solid >= 0
    xyz = np.where(mask[:, None], lens.position + rays * np.where(mask, hits.range, 0)[:, None], np.nan)
    camera = PerspectiveCamera(camera_pose(rotation.T, position), camera_matrix(focal, ((side - 1) / 2,) * 2), (side, side))
    return Shot(obj, picture.rgb, mask.reshape(side, side), camera, xyz.reshape(side, side, 3).astype(np.float32), yaw)


def make_pair(source: Shot, target: Shot, rng: np.random.Generator, count: int = 20) -> Pair:
    """Up to ``count`` random places of the source that the target shows too."""
    rows = rng.permutation(np.argwhere(source.mask))[: 12 * count]
    place = corresponding(source.object, target.object, source.xyz[rows[:, 0], rows[:, 1]])
    at = seen_at(target, place)
    found = np.flatnonzero(np.isfinite(at).all(axis=1))[:count]
    mirrored = corresponding(target.object, target.object, place[found] * (1, -1, 1))
    return Pair(source, target, rows[found][:, ::-1].astype(np.float64), at[found], seen_at(target, mirrored))


def seen_at(shot: Shot, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
    """The pixels (u, v) float64 [N, 2] that show places [N, 3] of the shot's object; NaN where they are hidden."""
    pixel = shot.camera.project(xyz)[0]
    inside = shot.camera.contains(np.nan_to_num(pixel, nan=-9.0))
    column, row = np.where(inside[:, None], np.nan_to_num(pixel), 0).round().astype(int).clip(0, len(shot.mask) - 1).T
    with np.errstate(invalid="ignore"):
        near = np.linalg.norm(shot.xyz[row, column] - xyz, axis=1) < _VISIBLE * shot.object.diagonal
    return np.where((inside & near)[:, None], pixel, np.nan)


def make_pairs(families: Sequence[str] = FRONTED, count: int = 4, seed: int = 0, first: int = 0, places: int = 20) -> list[Pair]:
    """Pairs of different instances of each family; seeds of instances from ``first`` on, two for each pair."""
    pairs = []
    for f, family in enumerate(families):
        for k in range(count):
            rng = np.random.default_rng([seed, FRONTED.index(family) if family in FRONTED else 100 + f, first, k])
            source, target = (take_shot(make_object(family, 1_000_000 * seed + first + 2 * k + side), rng) for side in range(2))
            pair = make_pair(source, target, rng, places)
            if len(pair.source_at):
                pairs.append(pair)
    return pairs
