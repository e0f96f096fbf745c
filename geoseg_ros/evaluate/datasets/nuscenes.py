"""nuScenes-lidarseg: LiDAR scans with a class per point (Fong et al., RA-L 2022).

On disk: ``v1.0-*/`` with the tables ``lidarseg.json``, ``sample_data.json``, ``sample.json``, ``scene.json`` and ``category.json``;
``samples/LIDAR_TOP/*.pcd.bin`` (float32 x y z intensity ring) and ``lidarseg/v1.0-*/*_lidarseg.bin`` (uint8). The 16 classes are those of
the challenge. The validation scenes of v1.0-mini are known here; for other versions ``val_scenes.txt`` beside the tables names them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.semantickitti import LabelledScan, ScanFiles, read_floats, read_raw
from geoseg_ros.geometry.cloud import Cloud

_CATEGORIES = {
    "barrier": ("movable_object.barrier",),
    "bicycle": ("vehicle.bicycle",),
    "bus": ("vehicle.bus.bendy", "vehicle.bus.rigid"),
    "car": ("vehicle.car",),
    "construction_vehicle": ("vehicle.construction",),
    "motorcycle": ("vehicle.motorcycle",),
    "pedestrian": tuple(f"human.pedestrian.{kind}" for kind in ("adult", "child", "construction_worker", "police_officer")),
    "traffic_cone": ("movable_object.trafficcone",),
    "trailer": ("vehicle.trailer",),
    "truck": ("vehicle.truck",),
    "driveable_surface": ("flat.driveable_surface",),
    "other_flat": ("flat.other",),
    "sidewalk": ("flat.sidewalk",),
    "terrain": ("flat.terrain",),
    "manmade": ("static.manmade",),
    "vegetation": ("static.vegetation",),
}
CLASSES = tuple(_CATEGORIES)
_MINI_VAL = ("scene-0103", "scene-0916")


def list_scans(root: Path, split: str) -> list[ScanFiles]:
    """The scans of a split (``train`` or ``val``) that have labels, in the order of the table.

    Raises:
        InputError: no tables, or they lack what is needed.
    """
    tables = _tables(root)
    named = _val_scenes(tables)
    try:
        val = {row["token"] for row in _table(tables / "scene.json") if row["name"] in named}
        scene_of = {row["token"]: row["scene_token"] for row in _table(tables / "sample.json")}
        data = {row["token"]: row for row in _table(tables / "sample_data.json")}
        scans = []
        for row in _table(tables / "lidarseg.json"):
            about = data[row["sample_data_token"]]
            if (scene_of[about["sample_token"]] in val) == (split == "val"):
                scans.append(ScanFiles(Path(about["filename"]).name, _inside(root, about["filename"]), _inside(root, row["filename"])))
    except (KeyError, TypeError) as error:
        raise InputError(f"{tables}: a table lacks {error}") from None
    if not scans:
        raise InputError(f"{root}: no labelled scan of {split}")
    return scans


def read_scan(files: ScanFiles) -> LabelledScan:
    """One scan. Raises InputError: a file is missing or damaged, or they differ in length."""
    points = read_floats(files.points, 5)
    raw = read_raw(files.labels, "u1")
    if len(raw) != len(points):
        raise InputError(f"{files.labels}: {len(raw)} labels, expected the {len(points)} of {files.points.name}")
    table = np.full(256, -1, np.int64)
    root = next((folder for folder in files.labels.parents if any(folder.glob("v1.0-*/category.json"))), files.labels.parent)
    number = {name: k for k, names in enumerate(_CATEGORIES.values()) for name in names}
    for row in _table(_tables(root) / "category.json"):
        if row.get("name") in number and isinstance(row.get("index"), int) and 0 <= row["index"] < len(table):
            table[row["index"]] = number[row["name"]]
    return LabelledScan(files.name, Cloud(np.ascontiguousarray(points[:, :3])), table[raw])


def _tables(root: Path) -> Path:
    found = sorted(path.parent for path in root.glob("v1.0-*/lidarseg.json"))
    if not found:
        raise InputError(f"{root}: no v1.0-*/lidarseg.json, expected nuScenes with lidarseg")
    return found[0]


def _val_scenes(tables: Path) -> set[str]:
    named = tables / "val_scenes.txt"
    if named.is_file():
        return set(named.read_text().split())
    if tables.name == "v1.0-mini":
        return set(_MINI_VAL)
    raise InputError(f"{named}: no such file, expected the names of the validation scenes of {tables.name}, one a line")


def _table(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: not a JSON table") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected a list of rows")
    return rows


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if root.resolve() not in path.resolve().parents:
        raise InputError(f"{root}: a table names {name}, which lies outside")
    return path
