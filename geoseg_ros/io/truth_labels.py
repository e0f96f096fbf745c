"""Truth that users have: labels of clouds and images of a recording, as :mod:`geoseg_ros.io.training_data` writes them and as plain files.

============================ ==========================================================================================
``*.label``                  a cloud: uint32 instance << 16 | label for each point (SemanticKITTI)
``*.npy``                    a cloud: integers [N], labels, or [N, 2], labels and instances
``*.json``                   COCO instances: polygons and run lengths, plain or compressed; what is crowded does not count
``data.yaml``                YOLO: ``labels/*.txt``, class and normalised polygon per line
``*.png``                    an image: 8- or 16-bit label ids, also with a palette; not below folders with the name ``images``
============================ ==========================================================================================

The first kind of images that is there is taken. Files of ids have their names in ``labels.txt`` (line k: name of label k, line 0: none) or
in a YAML file with ``labels`` or ``names``; id 0 is none.

A file belongs to the message with its stamp: that of ``stamps.txt`` (lines of name and nanoseconds), of ``stamp_ns`` in COCO, or the
file's name where that is one (nanoseconds, or seconds with nine digits behind the point). Else the last number in its name counts the
messages of the topic from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from geoseg_ros.errors import InputError

UNCOUNTED = -1
"""Label of points and pixels that do not count."""
_STAMP_FROM = 10**15  # numbers from here on are nanoseconds, not an index

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class TruthItem:
    """The labels of one message.

    Attributes:
        name: of the file, for errors.
        stamp_ns: of the header, or None.
        index: of the message in its topic, where there is no stamp.
        read: called with (height, width) of an image or None; gives labels and, for clouds, instances, or None: 1 + the index into the
            names, 0 = none, ``UNCOUNTED``. Raises InputError for a damaged file, another size, or an id without a name.
    """

    name: str
    stamp_ns: int | None
    index: int | None
    read: Callable[[tuple[int, int] | None], tuple[Labels, Labels | None]]


@dataclass
class TruthLabels:
    """Attributes: names: of the classes; clouds, images: their labels, in the order of the file names."""

    names: tuple[str, ...]
    clouds: list[TruthItem] = field(default_factory=list)
    images: list[TruthItem] = field(default_factory=list)


def read_truth(path: str | Path, ignore: Sequence[int] = ()) -> TruthLabels:
    """List the labels in a folder, or of one JSON file of COCO.

    Args:
        ignore: ids that do not count, of files of ids.

    Raises:
        InputError: nothing there, labels without names, or a list that cannot be read.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"{root}: no such file or folder")
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    stamps = _stamps(next((file for file in files if file.name == "stamps.txt"), None))
    clouds = [file for file in files if file.suffix in (".label", ".npy")]
    coco = [file for file in files if file.suffix == ".json"]
    yolo = next((file for file in files if file.name == "data.yaml"), None)
    masks = [file for file in files if file.suffix == ".png" and "images" not in file.relative_to(root).parts[:-1]]
    if len(coco) > 1:
        raise InputError(f"{root}: several JSON files, name the one of COCO")
    if not (clouds or coco or yolo or masks):
        boxes = "; boxes of KITTI are no labels, export semantickitti" if any(file.parent.name == "label_2" for file in files) else ""
        raise InputError(f"{root}: no labels in it, expected *.label, *.npy, *.png or a JSON file of COCO{boxes}")
    found = _coco(coco[0]) if coco else _yolo(yolo, stamps) if yolo else TruthLabels(())
    if clouds or (masks and not found.images):
        ids = _id_names(root, files)
        names = found.names or tuple(dict.fromkeys(ids.values()))
        table = {0: 0, **{k: names.index(name) + 1 for k, name in ids.items() if name in names}, **dict.fromkeys(ignore, UNCOUNTED)}
        found.names = names
        found.clouds = [_item(file, stamps, partial(_read_points, file, table)) for file in clouds]
        found.images = found.images or [_item(file, stamps, partial(_read_mask, file, table)) for file in masks]
    return found


def _stamps(file: Path | None) -> dict[str, int]:
    if file is None:
        return {}
    try:
        return {name: int(stamp) for name, stamp in (line.split() for line in file.read_text().splitlines() if line.strip())}
    except (OSError, ValueError):
        raise InputError(f"{file}: expected lines of a name and nanoseconds") from None


def _item(file: Path, stamps: Mapping[str, int], read: Any, stamp_ns: int | None = None) -> TruthItem:
    stem = file.stem
    seconds, numbers = re.fullmatch(r"(\d{9,})[._](\d{9})", stem), re.findall(r"\d+", stem)
    stamp = stamp_ns if stamp_ns is not None else stamps.get(stem)
    if stamp is None and seconds:
        stamp = int(seconds[1]) * 10**9 + int(seconds[2])
    if stamp is None and not numbers:
        raise InputError(f"{file}: expected the stamp or the number of its message in the name")
    if stamp is None and int(numbers[-1]) >= _STAMP_FROM:
        stamp = int(numbers[-1])
    return TruthItem(str(file), stamp, int(numbers[-1]) if stamp is None else None, read)


def _id_names(root: Path, files: Sequence[Path]) -> dict[int, str]:
    """Label id -> name, of the first file that has them; 0 is left out."""
    try:
        for file in files:
            if file.name == "labels.txt":
                return {k: line.strip() for k, line in enumerate(file.read_text().splitlines()) if k and line.strip()}
            if file.suffix in (".yaml", ".yml") and isinstance(about := yaml.safe_load(file.read_text()), dict):
                names = about.get("labels", about.get("names"))
                if isinstance(names, dict):
                    return {int(k): str(name) for k, name in names.items() if int(k)}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read as names of labels: {' '.join(str(error).split())[:100]}") from None
    raise InputError(
        f"{root}: no names of the labels, expected labels.txt (line k: name of label k, line 0: none) or a YAML file with labels"
    )


def _as_labels(values: NDArray, table: Mapping[int, int], file: Path) -> Labels:
    """The ids of a file as labels."""
    ids, place = np.unique(values, return_inverse=True)
    unknown = [int(k) for k in ids if int(k) not in table]
    if unknown:
        raise InputError(f"{file}: label {unknown[0]} has no name; --ignore {unknown[0]} leaves it out")
    return np.array([table[int(k)] for k in ids], np.int64)[place].reshape(values.shape)


def _read_points(file: Path, table: Mapping[int, int], _: Any) -> tuple[Labels, Labels | None]:
    try:
        if file.suffix == ".label":
            words = np.frombuffer(file.read_bytes(), "<u4")
            values = np.stack([words & 0xFFFF, words >> 16], axis=1)
        else:
            values = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:100]}") from None
    if values.dtype.kind not in "iub" or not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 2)):
        raise InputError(f"{file}: expected integers [N] or [N, 2], got {values.dtype} {list(values.shape)}")
    label = _as_labels(values if values.ndim == 1 else values[:, 0], table, file)
    instance = values[:, 1].astype(np.int64) if values.ndim == 2 else None
    # a file without instances has zeros for them
    return label, None if instance is None or not instance.any() and (label > 0).any() else instance


def _read_mask(file: Path, table: Mapping[int, int], shape: tuple[int, int] | None) -> tuple[Labels, None]:
    try:
        with Image.open(file) as image:
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # PIL raises many kinds
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())[:100]}") from None
    if values.ndim != 2:
        raise InputError(f"{file}: expected one channel of label ids, got {mode}")
    _check_size(values.shape, shape, str(file))
    return _as_labels(values, table, file), None


def _check_size(size: Sequence[int], shape: tuple[int, int] | None, name: str) -> None:
    if shape is not None and tuple(size) != shape:
        raise InputError(f"{name}: {size[1]} x {size[0]} pixels, the image of the recording has {shape[1]} x {shape[0]}")


def _yolo(file: Path, stamps: Mapping[str, int]) -> TruthLabels:
    try:
        names = yaml.safe_load(file.read_text())["names"]
        given = dict(enumerate(names)) if isinstance(names, list) else {int(k): str(name) for k, name in names.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        raise InputError(f"{file}: expected YOLO's names of classes") from None
    found = TruthLabels(tuple(map(str, given.values())))
    table = {k: place for place, k in enumerate(given, 1)}
    for labels in sorted((file.parent / "labels").rglob("*.txt")):
        found.images.append(_item(labels, stamps, partial(_read_yolo, labels, table)))
    return found


def _read_yolo(file: Path, table: Mapping[int, int], shape: tuple[int, int] | None) -> tuple[Labels, None]:
    height, width = shape or (1, 1)
    mask = np.zeros((height, width), np.int32)
    try:
        for line in file.read_text().splitlines():
            kind, *places = line.split()
            if len(places) < 6:
                raise ValueError
            outline = np.array(places, float).reshape(-1, 2) * (width, height)
            cv2.fillPoly(mask, [np.floor(outline).astype(np.int32)], table[int(kind)])  # the pixels of its corners belong to it
    except (OSError, ValueError, KeyError):
        raise InputError(f"{file}: expected lines of a class of data.yaml and a polygon") from None
    return mask.astype(np.int64), None


def _fill(mask: NDArray[np.int32], outline: NDArray[np.floating], label: int) -> None:
    """Paint the pixels whose centres lie in a polygon [K, 2]; pixel k reaches from k to k + 1, as in COCO."""
    (x, y), (next_x, next_y) = outline.T, np.roll(outline, -1, axis=0).T
    for row in range(max(int(y.min()), 0), min(int(np.ceil(y.max())), len(mask))):
        middle = row + 0.5
        cut = (y <= middle) != (next_y <= middle)
        places = x[cut] + (middle - y[cut]) / (next_y[cut] - y[cut]) * (next_x[cut] - x[cut])
        ends = np.maximum(np.ceil(np.sort(places) - 0.5), 0).astype(int)
        for left, right in zip(ends[::2], ends[1::2], strict=True):
            mask[row, left:right] = label


def _coco(file: Path) -> TruthLabels:
    try:
        about = json.loads(file.read_bytes())
        categories = {int(entry["id"]): str(entry["name"]) for entry in about["categories"]}
        table = {k: place for place, k in enumerate(categories, 1)}
        parts: dict[Any, list[tuple[int, Any]]] = {entry["id"]: [] for entry in about["images"]}
        for entry in about["annotations"]:
            label = UNCOUNTED if entry.get("iscrowd") else table[entry["category_id"]]
            parts[entry["image_id"]].append((label, entry["segmentation"]))
        found = TruthLabels(tuple(categories.values()))
        for entry in about["images"]:
            name, size = f"{file}: {entry['file_name']}", (int(entry["height"]), int(entry["width"]))
            read = partial(_read_coco, name, size, parts[entry["id"]])
            found.images.append(_item(Path(entry["file_name"]), {}, read, entry.get("stamp_ns")))
        return found
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{file}: not COCO instances, or nothing has the id or key {error}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not COCO instances: {' '.join(str(error).split())[:100]}") from None


def _read_coco(name: str, size: tuple[int, int], parts: Sequence[tuple[int, Any]], shape: tuple[int, int] | None) -> tuple[Labels, None]:
    _check_size(size, shape, name)
    mask = np.zeros(size, np.int32)
    try:
        for label, shape_ in parts:
            if isinstance(shape_, list):
                for outline in shape_:
                    _fill(mask, np.array(outline, float).reshape(-1, 2), label)
                continue
            counts = shape_["counts"]
            runs = counts if isinstance(counts, list) else _unpacked(counts)
            flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
            mask[flat.reshape(size[::-1]).T] = label
    except (ValueError, TypeError, KeyError, IndexError, cv2.error):
        raise InputError(f"{name}: a segmentation that is no polygon and no run lengths of {size[1]} x {size[0]} pixels") from None
    return mask.astype(np.int64), None


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's compressed form: 5 bits a character, the sixth says that more follow; from the third on differences."""
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << bits
        bits += 5
        if not code & 0x20:
            value -= (1 << bits) if code & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs
