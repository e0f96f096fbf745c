"""Key points on pairs of photographs: SPair-71k, SPair-U and AP-10K.

=========  ==================================================================================================================
SPair-71k  ``PairAnnotation/<split>/*.json`` (splits trn, val, test) and ``JPEGImages/<category>``
SPair-U    the same files with other key points
AP-10K     as prepared for semantic correspondence: ``PairAnnotation/<split>/*.json`` name two files in ``ImageAnnotation``, whose
           pictures are in ``JPEGImages``; splits test, test_cross_species and test_cross_family
=========  ==================================================================================================================

A file ``geo_aware.json`` beside them, category -> lists of key points that look alike (such as left and right), gives the geometry-aware
subset: key points of which the target shows another of their list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError

GROUPS = "geo_aware.json"


@dataclass(frozen=True, eq=False)
class KeyPointPair:
    """Two photographs and their K common key points.

    Attributes:
        source, target: files. category: of the pair.
        source_at, target_at: float64 [K, 2], pixels (x, y).
        extent: longer side of the box around the object in the target, pixels.
        geo_aware: bool [K], in the geometry-aware subset; none where the lists are not known.
    """

    source: Path
    target: Path
    category: str
    source_at: NDArray[np.float64]
    target_at: NDArray[np.float64]
    extent: float
    geo_aware: NDArray[np.bool_]


def read_pairs(root: str | Path, split: str = "test", most: int | None = None) -> Iterator[KeyPointPair]:
    """The pairs of a split in the order of their file names; those without a common key point are left out.

    Args:
        root: folder of the data.
        most: pairs of each category, the first ones; None: all.

    Raises:
        InputError: no such split, or a file that is not as expected.
    """
    folder = Path(root) / "PairAnnotation" / split
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: no pairs, expected *.json of SPair-71k, SPair-U or AP-10K")
    groups, taken = _groups(Path(root)), dict[str, int]()
    for file in files:
        pair = _read(Path(root), file, groups)
        if len(pair.source_at) and (most is None or taken.get(pair.category, 0) < most):
            taken[pair.category] = taken.get(pair.category, 0) + 1
            yield pair


def _read(root: Path, file: Path, groups: dict[str, list[set[str]]]) -> KeyPointPair:
    data = _json(file)
    try:
        if "src_json_path" in data:
            return _animals(root, file, data, groups)
        category = str(data["category"])
        places = [np.asarray(data[key], np.float64).reshape(-1, 2) for key in ("src_kps", "trg_kps")]
        names = [str(k) for k in data.get("kps_ids", range(len(places[0])))]
        box = np.asarray(data["trg_bndbox"], np.float64)
        images = [root / "JPEGImages" / category / str(data[key]) for key in ("src_imname", "trg_imname")]
        extent = float(max(box[2] - box[0], box[3] - box[1]))
        return _pair(file, images, category, places, names, names, extent, groups)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{file}: not a pair of SPair-71k or AP-10K ({type(error).__name__}: {error})") from None


def _animals(root: Path, file: Path, data: dict[str, Any], groups: dict[str, list[set[str]]]) -> KeyPointPair:
    parts = [_inside(root, str(data[key])) for key in ("src_json_path", "trg_json_path")]
    objects = [_json(part) for part in parts]
    points = [np.asarray(obj["keypoints"], np.float64).reshape(-1, 3) for obj in objects]
    both = (points[0][:, 2] > 0) & (points[1][:, 2] > 0)
    box = np.asarray(objects[1]["bbox"], np.float64)  # left, top, width, height
    images = [root / "JPEGImages" / part.relative_to(root / "ImageAnnotation").with_suffix(".jpg") for part in parts]
    shown = [str(k) for k in np.flatnonzero(points[1][:, 2] > 0)]
    names = [str(k) for k in np.flatnonzero(both)]
    category = file.stem.rpartition(":")[2]
    return _pair(file, images, category, [p[both, :2] for p in points], names, shown, float(max(box[2:4])), groups)


def _pair(
    file: Path,
    images: list[Path],
    category: str,
    places: list[NDArray[np.float64]],
    names: list[str],
    shown: list[str],
    extent: float,
    groups: dict[str, list[set[str]]],
) -> KeyPointPair:
    if len(places[0]) != len(places[1]) or len(names) != len(places[0]) or not extent > 0:
        raise InputError(f"{file}: {len(places[0])} and {len(places[1])} key points, box of {extent:g} pixels")
    known = groups.get(category, groups.get("*", []))
    alike = np.array([any(name in group and group & (set(shown) - {name}) for group in known) for name in names], bool)
    return KeyPointPair(images[0], images[1], category, places[0], places[1], extent, alike)


def _groups(root: Path) -> dict[str, list[set[str]]]:
    file = root / GROUPS
    if not file.exists():
        return {}
    try:
        return {str(c): [{str(k) for k in group} for group in lists] for c, lists in _json(file).items()}
    except (AttributeError, TypeError) as error:
        raise InputError(f"{file}: expected category -> lists of key points ({error})") from None


def _inside(root: Path, name: str) -> Path:
    """The file of ``ImageAnnotation`` that a pair names, wherever the data lay when it was written."""
    _, found, rest = name.partition("ImageAnnotation/")
    if not found or ".." in Path(rest).parts:
        raise ValueError(f"{name}: no file of ImageAnnotation")
    return root / "ImageAnnotation" / rest


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable ({error})") from None
