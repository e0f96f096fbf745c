"""Rooms with tokens for methods that learn the classes of a place: from posed frames, and from clouds alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.errors import InputError, warn
from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.poses import cloud_up, upright
from geoseg_ros.io.frame_folders import open_frame_folder
from geoseg_ros.io.items import Items
from geoseg_ros.io.posed_frames import PosedFrame, PosedFrames, ReadFrames
from geoseg_ros.learning.taught import TaughtView, teach_scene
from geoseg_ros.methods.base import Context
from geoseg_ros.projection.frame_lifting import LiftConfig, lift_frames
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.projection.virtual_frames import virtual_frames
from geoseg_ros.runtime.recorded_frames import recorded_frames

IMAGES = 24  # frames that are kept of all rooms together


@dataclass(frozen=True)
class Lifted:
    """Attributes: scenes: one for each room or cloud. images: some frames of them, uint8 RGB, evenly spread. views: what a teacher says
    of the frames of each scene; none without a teacher."""

    scenes: list[LiftedScene]
    images: list[NDArray[np.uint8]]
    views: list[list[TaughtView]] = field(default_factory=list)


def open_posed_frames(path: str | os.PathLike[str], limit: int | None = None) -> ReadFrames:
    """The posed frames of a folder of them, or of a recording.

    Raises:
        InputError: see :func:`~geoseg_ros.io.frame_folders.open_frame_folder` and
            :func:`~geoseg_ros.runtime.recorded_frames.recorded_frames`.
    """
    if Path(path).is_file() or (Path(path) / "metadata.yaml").is_file():
        return recorded_frames(path, limit=limit)
    return open_frame_folder(path, limit)


def lift_places(
    frames: Sequence[PosedFrames], clouds: Items[Cloud], voxel: float, context: Context, teacher: VisionLanguageTeacher | None = None
) -> Lifted:
    """Lift every room.

    Args:
        frames: of each room, whose points are fused from their depth.
        clouds: each is a room of its own, drawn by virtual cameras that stand inside it.
        voxel: edge, metres.
        context: backbone, settings of scenes, progress and cache.
        teacher: is asked about every frame; None: none is.

    Raises:
        InputError: nothing to read, or nothing that can be read.
    """
    config = LiftConfig(voxel=voxel, superpoints=context.scene.geometry.superpoints)
    each = -(-IMAGES // max(len(frames), 1))
    scenes, images, refused, views = [], [], [], []
    total = len(frames) + len(clouds)
    for number, source in enumerate(frames):
        watched = _Watched(source, each if number * each < IMAGES else 0)
        scenes.append(lift_frames(watched, context.backbone, config, remember=context.remember))
        images += watched.kept
        views.append([] if teacher is None else teach_scene(scenes[-1], source, teacher, config))
        context.progress("rooms", number + 1, total)
    for number, name, cloud in clouds.pick():
        try:
            scene, said = _lift_cloud(cloud, name, config, context, teacher)
            scenes.append(scene)
            views.append(said)
        except InputError as error:
            refused.append(f"{name}: left out: {error}")
            warn(refused[-1])
        context.progress("rooms", len(frames) + number + 1, total)
    if not scenes and total:
        raise InputError(f"none of {total} clouds can be used; first: {next(iter([*refused, *clouds.warnings]), 'there is none')}")
    if not scenes:
        raise InputError("expected recordings, folders of posed frames, or clouds")
    if not any(scene.known.any() for scene in scenes):
        raise InputError("no frame shows any point of the rooms: the poses, the intrinsics or the units of the depth are wrong")
    return Lifted(scenes, images[:IMAGES], views if teacher is not None else [])


def _lift_cloud(
    cloud: Cloud, name: str, config: LiftConfig, context: Context, teacher: VisionLanguageTeacher | None
) -> tuple[LiftedScene, list[TaughtView]]:
    geometry = analyse_cloud(cloud, context.scene.geometry)
    turn = upright(cloud_up(geometry.xyz, geometry.normal))
    standing = Cloud((cloud.xyz @ turn.T).astype(np.float32), cloud.rgb)
    frames = virtual_frames(standing, name=name)
    scene = lift_frames(frames, context.backbone, config, standing, context.remember)
    return scene, [] if teacher is None else teach_scene(scene, frames, teacher, config)


class _Watched:
    """Frames of which ``count`` colour images, evenly spread, are kept when they are read."""

    def __init__(self, frames: PosedFrames, count: int) -> None:
        self._frames, self.name = frames, frames.name
        self._every = max(1, len(frames) // count) if count else 0
        self.kept: list[NDArray[np.uint8]] = []

    @property
    def warnings(self) -> list[str]:
        return self._frames.warnings

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[PosedFrame]:
        self.kept.clear()
        for number, frame in enumerate(self._frames):
            if self._every and number % self._every == self._every // 2:
                self.kept.append(frame.rgb)
            yield frame
