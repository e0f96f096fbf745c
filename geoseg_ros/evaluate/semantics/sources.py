"""The data of the table by name: simulated rooms, and data sets on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets import nuscenes, s3dis, scannet, semantickitti
from geoseg_ros.evaluate.semantics.rooms import SemanticRoom, SemanticRooms, simulated_rooms
from geoseg_ros.io.posed_frames import evenly
from geoseg_ros.projection.frame_lifting import LiftConfig
from geoseg_ros.projection.virtual_frames import VirtualConfig

DATA = ("rooms", "furniture", "scannet", "s3dis", "nuscenes", "semantickitti")
FRAMES = 60  # posed frames taken of a room of ScanNet
MEASURED_AREA = "Area_5"  # of S3DIS, as in the papers


def semantic_rooms(
    data: str, split: str, root: Path | None = None, count: int | None = None, seed: int = 0, preset: str = "standard"
) -> SemanticRooms:
    """The rooms of a split.

    Args:
        data: of ``DATA``.
        split: ``learn`` or ``measure``.
        root: folder of the data; None for rooms.
        count: rooms, evenly spread; None: all, or 40 to learn from and 16 to measure of simulated ones.
        seed, preset: of simulated rooms.

    Raises:
        InputError: unknown data or split, or files that are absent or damaged.
    """
    if data not in DATA:
        raise InputError(f"--data {data}: expected one of {', '.join(DATA)}")
    if data == "rooms":
        return simulated_rooms(split, count, seed, preset)
    if root is None:
        raise InputError(f"--root: expected the folder of {data}")
    if data == "furniture":
        from geoseg_ros.evaluate.furniture import furniture_catalogue

        catalogue = furniture_catalogue(root, "report" if split == "measure" else "development")  # no mesh is in both
        return replace(simulated_rooms(split, count, seed, preset, catalogue=catalogue), data=data)
    return _SOURCES[data](root, split, count)


def lift_config(data: str) -> tuple[LiftConfig, VirtualConfig]:
    """Settings of lifting, and of virtual cameras where there are no frames, for a data set."""
    if data in ("nuscenes", "semantickitti"):
        outdoors = VirtualConfig(places=4, heights=(1.8, 3.0), clearance=0.6, spacing=0.1, pitches=(-10.0, 0.0))
        return LiftConfig(voxel=0.15, farthest=40.0, sides=(320,)), outdoors
    sides = (320,) if data in ("rooms", "furniture") else (640, 320)
    return LiftConfig(voxel=0.05, sides=sides), VirtualConfig()


def _files(
    data: str, split: str, classes: Sequence[str], names: Sequence[str], read: Callable[[int], SemanticRoom], count: int | None
) -> SemanticRooms:
    chosen = evenly(len(names), count)
    return SemanticRooms(data, split, tuple(classes), [names[k] for k in chosen], lambda k: read(chosen[k]))


def _scannet(root: Path, split: str, count: int | None) -> SemanticRooms:
    scenes = scannet.list_scenes(root, "val" if split == "measure" else "train")

    def read(k: int) -> SemanticRoom:
        scene = scannet.read_scene(root, scenes[k])
        return SemanticRoom(scenes[k], scene.cloud, scene.label, scannet.open_frames(root, scenes[k], FRAMES))

    return _files("scannet", split, scannet.CLASSES, scenes, read, count)


def _s3dis(root: Path, split: str, count: int | None) -> SemanticRooms:
    found = {name: path for name, path in s3dis.list_rooms(root).items() if name.startswith(f"{MEASURED_AREA}/") == (split == "measure")}
    if not found:
        raise InputError(f"{root}: no room {'of' if split == 'measure' else 'outside'} {MEASURED_AREA}")
    names = list(found)

    def read(k: int) -> SemanticRoom:
        room = s3dis.read_room(names[k], found[names[k]])
        return SemanticRoom(room.name, room.cloud, room.label.astype(np.int64))

    return _files("s3dis", split, s3dis.CLASSES, names, read, count)


def _nuscenes(root: Path, split: str, count: int | None) -> SemanticRooms:
    scans = nuscenes.list_scans(root, "val" if split == "measure" else "train")
    return _files("nuscenes", split, nuscenes.CLASSES, [scan.name for scan in scans], lambda k: _scan(nuscenes.read_scan(scans[k])), count)


def _semantickitti(root: Path, split: str, count: int | None) -> SemanticRooms:
    scans = semantickitti.list_scans(root, "val" if split == "measure" else "train")
    names = [scan.name for scan in scans]
    return _files("semantickitti", split, semantickitti.CLASSES, names, lambda k: _scan(semantickitti.read_scan(scans[k])), count)


def _scan(scan: semantickitti.LabelledScan) -> SemanticRoom:
    return SemanticRoom(scan.name, scan.cloud, scan.label)


_SOURCES = {"scannet": _scannet, "s3dis": _s3dis, "nuscenes": _nuscenes, "semantickitti": _semantickitti}
