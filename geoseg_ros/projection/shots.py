"""What single frames measured of a room: parts of it, seen from one place, as a live camera sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.projection.fusing import measured_points

FINER = 2  # points are thinned to a part of the voxel edge, so that voxels of any other grid are filled as by the frame itself
REACH = 1.5  # voxel edges from a point to the voxel of the room that it belongs to


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame's n points.

    Attributes:
        xyz: float32 [n, 3], metres, optical frame of the camera: x right, y down, z forward.
        rgb: uint8 [n, 3], or None where the room has no colour.
        row: int64 [n], the room's voxel that a point belongs to, -1 where none is near.
        turn: float64 [3, 3], rotation from the camera to the world of the room.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None
    row: NDArray[np.int64]
    turn: NDArray[np.float64]


def take_shot(frame: PosedFrame, room: cKDTree, voxel: float, farthest: float, colour: bool) -> Shot:
    """The points of a frame within ``farthest`` metres, thinned; ``room``: of its voxels, in the world; ``voxel``: their edge, metres."""
    xyz, rgb = measured_points(frame, farthest)
    grid = voxel_downsample(xyz, rgb if colour else None, voxel / FINER)
    rotation = frame.pose[:3, :3]
    _, row = room.query(grid.xyz @ rotation.T + frame.pose[:3, 3], distance_upper_bound=REACH * voxel)
    return Shot(grid.xyz, grid.rgb, np.where(row < room.n, row, -1), rotation.copy())


def shots_to_tensors(shots: tuple[Shot, ...]) -> dict[str, torch.Tensor]:
    """The arrays of all shots, one behind the other, and the number of points of each."""
    if not shots:
        return {}
    arrays = {
        "shot.xyz": np.concatenate([shot.xyz for shot in shots]),
        "shot.row": np.concatenate([shot.row for shot in shots]).astype(np.int32),
        "shot.turn": np.stack([shot.turn for shot in shots]),
        "shot.points": np.array([len(shot.xyz) for shot in shots]),
    }
    if shots[0].rgb is not None:
        arrays["shot.rgb"] = np.concatenate([shot.rgb for shot in shots if shot.rgb is not None])
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def shots_from_arrays(arrays: dict[str, NDArray]) -> tuple[Shot, ...]:
    """The shots of what :func:`shots_to_tensors` gave, which is taken out of ``arrays``."""
    own = {name: arrays.pop(name) for name in list(arrays) if name.startswith("shot.")}
    if not own:
        return ()
    ends = np.cumsum(own["shot.points"])[:-1]
    colours = np.split(own["shot.rgb"], ends) if "shot.rgb" in own else [None] * len(own["shot.points"])
    parts = zip(np.split(own["shot.xyz"], ends), colours, np.split(own["shot.row"].astype(np.int64), ends), own["shot.turn"], strict=True)
    return tuple(Shot(*part) for part in parts)
