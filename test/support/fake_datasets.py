"""Tiny data sets in the exact form in which the real ones are given out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from geoseg_ros.evaluate.datasets import s3dis
from geoseg_ros.evaluate.datasets.scanobjectnn import CLASSES as OBJECTS

FLOOR, CHAIR, SOFA = (s3dis.CLASSES.index(name) for name in ("floor", "chair", "sofa"))
P = 1024  # points of a block
LABELS = ["<UNK>_0_<UNK>_0_0", *(f"{kind}_{n}_office_{n}_1" for kind in ("floor", "chair", "sofa", "wall") for n in (1, 2))]


def furnished(seed: int = 0) -> list[tuple[int, np.ndarray, tuple[int, int, int]]]:
    """Objects of a room of 4 x 4 m, z up, origin in its corner: class, points float64 [N, 3] in metres, colour. Two chairs (0.5 m cubes)
    1.2 m apart, a sofa, and the floor."""
    rng = np.random.default_rng(seed)
    floor = np.concatenate([rng.uniform(0, 4, (20 * P, 2)), np.zeros((20 * P, 1))], axis=1)
    objects = [(CHAIR, 0.5, (1.0, 1.0, 0.0)), (CHAIR, 0.5, (2.2, 1.0, 0.0)), (SOFA, 0.8, (2.0, 3.0, 0.0))]
    solid = [(kind, np.array(corner) + rng.uniform(0, side, (P, 3)), (200, 10 * kind, 0)) for kind, side, corner in objects]
    return [(FLOOR, floor, (60, 70, 80)), *solid]


def write_blocks(root: Path, room: str, seed: int = 0) -> Path:
    """A room as JSIS3D writes it; its instances are 0 floor, 1 and 2 chairs, 3 sofa."""
    import h5py

    parts = []
    for k, (kind, xyz, rgb) in enumerate(furnished(seed)):
        parts.append(np.column_stack([xyz, np.tile(rgb, (len(xyz), 1)), np.full((len(xyz), 2), (kind, k))]))
    rows = np.concatenate(parts).reshape(-1, P, 8)
    points = np.zeros((*rows.shape[:2], 9))
    points[..., 3:6] = rows[..., 3:6] / 255.0
    path = root / f"{room.replace('/', '_')}.h5"
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=rows[..., :3], compression="gzip", dtype="float32")
        file.create_dataset("points", data=points, compression="gzip", dtype="float32")
        file.create_dataset("labels", data=rows[..., 6:], compression="gzip", dtype="int64")
    return path


def write_text(root: Path, room: str, seed: int = 0) -> Path:
    """A room of Stanford3dDataset_v1.2, far from the origin, a stair in it."""
    folder = root / room / "Annotations"
    folder.mkdir(parents=True)
    numbers: dict[str, int] = {}
    stair = (-1, np.random.default_rng(seed).uniform(0, 0.3, (50, 3)) + (3.5, 3.5, 0), (1, 2, 3))
    for kind, xyz, rgb in [*furnished(seed), stair]:
        name = "stairs" if kind < 0 else s3dis.CLASSES[kind]
        numbers[name] = numbers.get(name, 0) + 1
        lines = [f"{x:.3f} {y:.3f} {z:.3f} {rgb[0]} {rgb[1]} {rgb[2]}" for x, y, z in xyz + (-20.0, 35.0, 1.0)]
        (folder / f"{name}_{numbers[name]}.txt").write_text("\n".join(lines) + "\n")
    (folder.parent / f"{folder.parent.name}.txt").write_text("the whole room, not read\n")
    return folder.parent


def write_objects(folder: Path, part: str, kinds: list[str], points: int = 256, seed: int = 0) -> Path:
    """A file of ScanObjectNN: y up, the lower quarter of the points background (the floor), the others of instance 7."""
    import h5py

    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-0.3, 0.3, (len(kinds), points, 3)).astype(np.float32)
    mask = np.full((len(kinds), points), 7, np.int32)
    mask[:, : points // 4] = -1
    xyz[:, : points // 4, 1] = -0.3
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}_objectdataset.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=xyz)
        file.create_dataset("label", data=np.array([OBJECTS.index(kind) for kind in kinds], np.int32))
        file.create_dataset("mask", data=mask)
    return path


def write_picture(root: Path, area: str, room: str, frame: int, obj: str, share: float = 0.25, side: int = 96) -> Path:
    """A picture of 2D-3D-S: the upper rows floor, the rightmost ``share`` of the columns the object, a row of no label below."""
    entry = {name.split("_")[0]: k for k, name in enumerate(LABELS)}
    number = np.full((side, side), entry["floor"])
    number[:, side - round(share * side) :] = entry[obj]
    number[-1] = 0x0D0D0D
    semantic = np.stack([number % 256, number // 256 % 256, number // 65536], axis=-1).astype(np.uint8)  # OpenCV writes B, G, R
    rgb = np.full((side, side, 3), 90, np.uint8)
    rgb[number == entry[obj]] = (0, 0, 255)
    stem = f"camera_{'0a' * 16}_{room}_frame_{frame}_domain_"
    for folder in ("rgb", "semantic"):
        (root / area / "data" / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / area / "data" / "semantic" / f"{stem}semantic.png"), semantic)
    path = root / area / "data" / "rgb" / f"{stem}rgb.png"
    cv2.imwrite(str(path), rgb)
    return path


def write_labels(root: Path) -> None:
    """The list that the colours of 2D-3D-S's semantic pictures count in."""
    (root / "assets").mkdir(parents=True, exist_ok=True)
    (root / "assets" / "semantic_labels.json").write_text(json.dumps(LABELS))
