"""Rooms with truth, lifted: what the methods of the table see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import geoseg_ros.simulation
from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics import rooms as rooms_module
from geoseg_ros.evaluate.semantics.baselines import LiftedRoom
from geoseg_ros.evaluate.semantics.rooms import SemanticRoom, SemanticRooms
from geoseg_ros.files import atomic_path
from geoseg_ros.learning.taught import teach_scene
from geoseg_ros.projection.frame_lifting import LiftConfig, lift_frames
from geoseg_ros.projection.lifted_scene import load_lifted, save_lifted
from geoseg_ros.projection.virtual_frames import VirtualConfig, virtual_frames

Log = Callable[[str], object]


def lift_room(
    room: SemanticRoom,
    backbone: ImageBackbone,
    config: LiftConfig,
    virtual: VirtualConfig,
    teacher: VisionLanguageTeacher | None = None,
) -> LiftedRoom:
    """The room with tokens from its frames, or from virtual cameras where it has none, and with what a ``teacher`` says of them."""
    frames = room.frames if room.frames is not None else virtual_frames(room.cloud, virtual, room.name)
    scene = lift_frames(frames, backbone, config, room.cloud)
    said = [] if teacher is None else teach_scene(scene, frames, teacher, config)
    return LiftedRoom(scene, room.label, voxel_labels(scene.inverse, room.label, len(scene)), said)


def lifted_rooms(
    rooms: SemanticRooms,
    backbone: ImageBackbone,
    config: LiftConfig,
    virtual: VirtualConfig,
    cache: Path | None = None,
    log: Log = lambda text: None,
    teacher: VisionLanguageTeacher | None = None,
) -> list[LiftedRoom]:
    """All rooms of a split, in order.

    Args:
        teacher: is asked about every frame, where there is one; what it says is not kept in the cache.
        cache: folder in which lifted rooms are kept, for rooms that are made on demand; None keeps nothing.
    """
    if cache is not None and cache.exists() and not cache.is_dir():
        raise InputError(f"--cache {cache}: not a folder")
    made = []
    for k, name in enumerate(rooms.names):
        key = repr((rooms.about, name, backbone.hash, config, virtual, _program()))
        place = None if cache is None else cache / f"{rooms.data}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
        room = _kept(place)
        if room is None:
            log(f"{rooms.data}: {name}, {k + 1} of {len(rooms)}")
            room = lift_room(rooms.read(k), backbone, config, virtual, teacher)
            if place is not None:
                _keep(place, room)
        made.append(room)
    return made


def voxel_labels(inverse: NDArray[np.int64], label: NDArray[np.int64], voxels: int) -> NDArray[np.int64]:
    """int64 [M]: the most frequent class of each voxel's points, -1 where none is labelled."""
    use = (inverse >= 0) & (label >= 0)
    classes = int(label.max(initial=-1)) + 1
    counts = np.bincount(inverse[use] * classes + label[use], minlength=voxels * classes).reshape(voxels, classes) if classes else None
    return np.full(voxels, -1) if counts is None else np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def _program() -> str:
    """Digest of the source that makes rooms: rooms of another version are not taken from the cache."""
    files = [Path(rooms_module.__file__), *sorted(Path(geoseg_ros.simulation.__path__[0]).glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _kept(place: Path | None) -> LiftedRoom | None:
    """A room from the cache; None where it is not there, or cannot be read: then it is made again."""
    if place is None or not place.with_suffix(".npy").is_file():
        return None
    try:
        scene, label = load_lifted(place.with_suffix(".safetensors")), np.load(place.with_suffix(".npy"), allow_pickle=False)
    except (InputError, OSError, ValueError, EOFError):
        return None
    return LiftedRoom(scene, label, voxel_labels(scene.inverse, label, len(scene))) if len(label) == len(scene.inverse) else None


def _keep(place: Path, room: LiftedRoom) -> None:
    save_lifted(place.with_suffix(".safetensors"), room.scene)
    with atomic_path(place.with_suffix(".npy")) as temporary, open(temporary, "wb") as stream:  # last: it says that the room is complete
        np.save(stream, room.label)


def coverage(rooms: Sequence[LiftedRoom]) -> float:
    """Share of the voxels of all rooms that have a token."""
    return float(np.concatenate([room.scene.known for room in rooms]).mean())
