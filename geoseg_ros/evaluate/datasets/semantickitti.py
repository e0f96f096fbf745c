"""SemanticKITTI: LiDAR scans with a class per point (Behley et al., ICCV 2019).

On disk: ``sequences/08/velodyne/000000.bin`` (float32 x y z remission) and ``sequences/08/labels/000000.label`` (uint32, the class in the
lower 16 bits). The 19 classes and the mapping to them are those of the single-scan benchmark; moving objects count as standing ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud

CLASSES = (
    *("car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road", "parking"),
    *("sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole", "traffic-sign"),
)
_CLASS_OF = {  # stored value: index into CLASSES + 1; the others do not count
    **{
        10: 1,
        252: 1,
        11: 2,
        15: 3,
        18: 4,
        258: 4,
        13: 5,
        16: 5,
        20: 5,
        256: 5,
        257: 5,
        259: 5,
        30: 6,
        254: 6,
        31: 7,
        253: 7,
        32: 8,
        255: 8,
    },
    **{40: 9, 60: 9, 44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19},
}
SEQUENCES = {"train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), "val": (8,)}
MAX_POINTS = 4_000_000


@dataclass(frozen=True)
class ScanFiles:
    """Attributes: name; points: file of the cloud; labels: file of its classes."""

    name: str
    points: Path
    labels: Path


@dataclass(frozen=True)
class LabelledScan:
    """Attributes: name; cloud: N points, metres, frame of the LiDAR, z up; label: int64 [N], index into the classes, -1: does not count."""

    name: str
    cloud: Cloud
    label: NDArray[np.int64]


def list_scans(root: Path, split: str) -> list[ScanFiles]:
    """The scans of a split (``train`` or ``val``) with labels, in order.

    Raises:
        InputError: there is none.
    """
    folder = root / "dataset" if (root / "dataset" / "sequences").is_dir() else root
    scans = []
    for number in SEQUENCES[split]:
        sequence = folder / "sequences" / f"{number:02d}"
        for path in sorted((sequence / "velodyne").glob("*.bin")):
            label = sequence / "labels" / f"{path.stem}.label"
            if label.is_file():
                scans.append(ScanFiles(f"{number:02d}/{path.stem}", path, label))
    if not scans:
        names = ", ".join(f"{number:02d}" for number in SEQUENCES[split])
        raise InputError(f"{root}: no labelled scan of {split}, expected sequences/NN/velodyne/*.bin and labels/*.label with NN of {names}")
    return scans


def read_scan(files: ScanFiles) -> LabelledScan:
    """One scan. Raises InputError: a file is missing or damaged, or they differ in length."""
    points = read_floats(files.points, 4)
    raw = read_raw(files.labels, "<u4") & 0xFFFF
    if len(raw) != len(points):
        raise InputError(f"{files.labels}: {len(raw)} labels, expected the {len(points)} of {files.points.name}")
    table = np.full(1 << 16, -1, np.int64)
    for value, number in _CLASS_OF.items():
        table[value] = number - 1
    return LabelledScan(files.name, Cloud(np.ascontiguousarray(points[:, :3])), table[raw])


def read_floats(path: Path, width: int) -> NDArray[np.float32]:
    """float32 [N, width] of a headerless file. Raises InputError: not so many bytes."""
    values = read_raw(path, "<f4")
    if len(values) % width or not len(values):
        raise InputError(f"{path}: {4 * len(values)} bytes, expected points of {4 * width} bytes")
    return values.reshape(-1, width)


def read_raw(path: Path, kind: str) -> NDArray:
    """The numbers of a headerless file. Raises InputError: missing file, too large, or half a number at its end."""
    item = np.dtype(kind).itemsize
    try:
        size = path.stat().st_size
        if size % item or size > 32 * MAX_POINTS:
            raise InputError(f"{path}: {size} bytes, expected a multiple of {item}, at most {32 * MAX_POINTS}")
        return np.fromfile(path, kind)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
