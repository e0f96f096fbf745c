"""S3DIS: rooms with a class and an instance per point (Armeni et al., CVPR 2016).

Two forms on disk:

* JSIS3D's HDF5, a file ``Area_<k>_<room>.h5`` per room: overlapping blocks of 1 x 1 m with ``coords`` [B, P, 3] (metres, origin in the
  corner of the room), ``points`` [B, P, 9] (3:6 is RGB in 0 .. 1) and ``labels`` [B, P, 2] (class, instance). A point occurs once for
  every block that it is in.
* ``Stanford3dDataset_v1.2`` (aligned or not): ``Area_<k>/<room>/Annotations/<class>_<n>.txt``, a line ``x y z r g b`` per point.

z is up in both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.hdf5 import read_arrays
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.fields import colour_bytes
from geoseg_ros.io.folders import MAX_FILE_BYTES, natural_key

CLASSES = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door"),
    *("table", "chair", "sofa", "bookcase", "board", "clutter"),
)
VOXEL = 0.01  # metres, to which each instance of the text form is thinned
BAD_LINES = 0.001  # share of a text file; version 1.2 has one damaged line, in Area_5/hallway_6/Annotations/ceiling_1.txt


@dataclass(frozen=True)
class Room:
    """Attributes:
    name: "Area_1/office_3".
    cloud: N points, coloured, metres, z up.
    label: int64 [N], index into CLASSES.
    instance: int64 [N], >= 0, each number one object of one class.
    dropped: damaged lines that were left out (text form).
    """

    name: str
    cloud: Cloud
    label: NDArray[np.int64]
    instance: NDArray[np.int64]
    dropped: int = 0


def list_rooms(root: Path) -> dict[str, Path]:
    """Where each room lies, by name ("Area_1/office_3"), in natural order. HDF5 files are preferred to text.

    Raises:
        InputError: no room in either form.
    """
    found = {}
    for path in sorted(root.glob("Area_*.h5"), key=natural_key):
        match = re.fullmatch(r"(Area_\d+)_(\w+)", path.stem)
        if match:
            found[f"{match[1]}/{match[2]}"] = path
    if not found:
        folders = [folder.parent for folder in root.glob("Area_*/*/Annotations") if folder.is_dir()]
        found = {f"{p.parent.name}/{p.name}": p for p in sorted(folders, key=lambda p: (natural_key(p.parent), natural_key(p)))}
    if not found:
        raise InputError(f"{root}: no room of S3DIS, expected Area_1_office_1.h5 (JSIS3D) or Area_1/office_1/Annotations/ (version 1.2)")
    return found


def read_room(name: str, path: Path) -> Room:
    """One room, as :func:`list_rooms` found it.

    Raises:
        InputError: a file is damaged or of another format.
    """
    return _read_text(name, path) if path.is_dir() else _read_blocks(name, path)


def _read_blocks(name: str, path: Path) -> Room:
    arrays = read_arrays(path, {"coords": (None, None, 3), "points": (None, None, 9), "labels": (None, None, 2)})
    sizes = {array.shape[:2] for array in arrays.values()}
    if len(sizes) > 1:
        raise InputError(f"{path}: expected as many blocks and points in coords, points and labels, got {sorted(sizes)}")
    label, instance = arrays["labels"].reshape(-1, 2).astype(np.int64).T
    if label.size and not (label.min() >= 0 and label.max() < len(CLASSES) and instance.min() >= 0):
        raise InputError(f"{path}: expected classes 0 to {len(CLASSES) - 1} and instances from 0 in labels")
    cloud = Cloud(arrays["coords"].reshape(-1, 3).astype(np.float32), colour_bytes(arrays["points"].reshape(-1, 9)[:, 3:6]))
    return Room(name, cloud, label, instance)


def _read_text(name: str, folder: Path) -> Room:
    files = sorted((folder / "Annotations").glob("*.txt"), key=natural_key)
    if not files:
        raise InputError(f"{folder / 'Annotations'}: no file, expected one <class>_<n>.txt per object")
    tables, dropped = zip(*(_read_numbers(file) for file in files), strict=True)
    corner = np.min([table[:, :3].min(axis=0) for table in tables], axis=0)  # first in double: areas lie at up to 100 m
    points, colours, label, instance = [], [], [], []
    for number, (file, table) in enumerate(zip(files, tables, strict=True)):
        thinned = voxel_downsample((table[:, :3] - corner).astype(np.float32), np.clip(table[:, 3:], 0, 255).astype(np.uint8), VOXEL)
        assert thinned.rgb is not None
        points.append(thinned.xyz)
        colours.append(thinned.rgb)
        kind = file.stem.split("_")[0]
        label.append(np.full(len(thinned.xyz), CLASSES.index(kind if kind in CLASSES else "clutter")))  # stairs are clutter
        instance.append(np.full(len(thinned.xyz), number))
    cloud = Cloud(np.concatenate(points), np.concatenate(colours))
    return Room(name, cloud, np.concatenate(label), np.concatenate(instance), sum(dropped))


def _read_numbers(file: Path) -> tuple[NDArray[np.float64], int]:
    """float64 [N, 6], N >= 1, finite; and how many lines were left out."""
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{file}: {size} bytes, expected at most {MAX_FILE_BYTES}")
    data = file.read_bytes()
    rows, lines = np.zeros((0, 6)), 0
    if data.strip():
        try:
            rows = np.loadtxt(BytesIO(data), ndmin=2, comments=None)
            lines = len(rows)
        except ValueError:  # a damaged line; slower, so only then
            text = data.splitlines()
            parsed = [row for row in map(_numbers, text) if row is not None]
            rows, lines = np.array(parsed, np.float64).reshape(-1, 6), len(text)
    if rows.shape[1] != 6:
        raise InputError(f"{file}: {rows.shape[1]} numbers a line, expected x y z r g b")
    good = rows[np.isfinite(rows).all(axis=1)]
    dropped = lines - len(good)
    if not len(good) or dropped > max(1, BAD_LINES * lines):
        raise InputError(f"{file}: expected lines of x y z r g b, {dropped} of {lines} are not")
    return good, dropped


def _numbers(line: bytes) -> list[float] | None:
    try:
        row = [float(word) for word in line.split()]
    except ValueError:
        return None
    return row if len(row) == 6 else None
