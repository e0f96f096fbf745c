"""ScanNet v2: rooms with a class per vertex (Dai et al., CVPR 2017), and their posed frames.

On disk: ``scans/<scene>/<scene>_vh_clean_2.ply`` and ``<scene>_vh_clean_2.labels.ply`` (``label``: number of NYU40), the lists
``scannetv2_train.txt`` and ``scannetv2_val.txt``. Frames, where they were exported: ``color/``, ``depth/``, ``pose/`` and ``intrinsic/``
beside the mesh, or in ``scannet_frames_25k/<scene>/`` or ``frames/<scene>/``. Meshes and poses are taken as they are, z up; the alignment
of axes in ``<scene>.txt`` is not applied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud_fields
from geoseg_ros.io.frame_folders import is_frame_folder, open_frame_folder
from geoseg_ros.io.posed_frames import PosedFrames

CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "desk"),
    *("curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub", "other furniture"),
)
NYU40 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)  # of the classes


@dataclass(frozen=True)
class LabelledRoom:
    """Attributes: cloud: the N vertices, coloured, metres, z up; label: int64 [N], index into CLASSES, -1: does not count."""

    cloud: Cloud
    label: NDArray[np.int64]


def list_scenes(root: Path, split: str) -> list[str]:
    """The scenes of a split (``train`` or ``val``) that are there, in the order of its list.

    Raises:
        InputError: no list, or none of its scenes.
    """
    name = f"scannetv2_{split}.txt"
    places = [root / name, root / "scans" / name, root / "Tasks" / "Benchmark" / name]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise InputError(f"{places[0]}: no such file, expected the scenes of {split}, one a line")
    scenes = [line for line in found.read_text(errors="replace").split() if re.fullmatch(r"scene\d{4}_\d{2}", line)]
    there = [scene for scene in scenes if (_folder(root, scene) / f"{scene}_vh_clean_2.ply").is_file()]
    if not there:
        raise InputError(f"{root}: none of the {len(scenes)} scenes of {name}, expected scans/sceneNNNN_NN/sceneNNNN_NN_vh_clean_2.ply")
    return there


def read_scene(root: Path, scene: str) -> LabelledRoom:
    """The vertices of a scene. Raises InputError: a file is missing or damaged, or they differ in length."""
    stem = _folder(root, scene) / f"{scene}_vh_clean_2"
    cloud, _ = read_cloud_fields(f"{stem}.ply")
    _, fields = read_cloud_fields(f"{stem}.labels.ply")
    if "label" not in fields:
        raise InputError(f"{stem}.labels.ply: no property label")
    number = fields["label"].astype(np.int64)
    if len(number) != len(cloud):
        raise InputError(f"{stem}.labels.ply: {len(number)} vertices, expected the {len(cloud)} of {stem.name}.ply")
    table = np.full(41, -1, np.int64)
    table[list(NYU40)] = np.arange(len(NYU40))
    return LabelledRoom(cloud, np.where((number >= 0) & (number <= 40), table[np.clip(number, 0, 40)], -1))


def open_frames(root: Path, scene: str, limit: int | None = None) -> PosedFrames | None:
    """The exported frames of a scene, at most ``limit``, or None where there are none."""
    for folder in (_folder(root, scene), root / "scannet_frames_25k" / scene, root / "frames" / scene):
        if is_frame_folder(folder):
            return open_frame_folder(folder, limit)
    return None


def _folder(root: Path, scene: str) -> Path:
    return root / "scans" / scene if (root / "scans" / scene).is_dir() else root / scene
