"""2D-3D-S: pictures of the areas of S3DIS with a class and an instance per pixel (Armeni et al., arXiv 1702.01105).

On disk: ``area_<k>/data/rgb/camera_<id>_<room>_frame_<j>_domain_rgb.png`` and ``area_<k>/data/semantic/..._domain_semantic.png`` (area 5 is
``area_5a`` and ``area_5b``). The colour of a semantic pixel is a number, 65536 R + 256 G + B, which is a place in the list
``semantic_labels.json`` (in the root or in its folder ``assets``); entries are ``<class>_<n>_<room>_<area>``, numbers beyond the list are
unlabelled.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.s3dis import CLASSES
from geoseg_ros.io.folders import MAX_FILE_BYTES, natural_key, read_image

UNKNOWN = -1
_AREA = re.compile(r"area_(\d+)[a-z]?")
_PICTURE = re.compile(r"camera_[0-9a-zA-Z]+_+([A-Za-z]+_\d+)_frame_\d+_domain_+rgb")


@dataclass(frozen=True)
class Picture:
    """Attributes: name: of the file, without suffix; area: "Area_5" for 5a and 5b; room: "Area_1/office_3", as S3DIS names it; rgb,
    semantic: the files."""

    name: str
    area: str
    room: str
    rgb: Path
    semantic: Path


def list_pictures(root: Path) -> list[Picture]:
    """All pictures, by area, in natural order.

    Raises:
        InputError: none, or one has no semantic picture.
    """
    result = []
    for folder in sorted(root.glob("area_*"), key=natural_key):
        area = _AREA.fullmatch(folder.name)
        for file in sorted((folder / "data" / "rgb").glob("*.png"), key=natural_key) if area else ():
            room = _PICTURE.fullmatch(file.stem)
            if not room:
                raise InputError(f"{file}: expected a name like camera_<id>_office_3_frame_0_domain_rgb.png")
            semantic = folder / "data" / "semantic" / f"{file.stem.removesuffix('rgb')}semantic.png"
            if not semantic.is_file():
                raise InputError(f"{semantic}: expected the labels of {file.name}, no such picture")
            assert area
            result.append(Picture(file.stem, f"Area_{area[1]}", f"Area_{area[1]}/{room[1]}", file, semantic))
    if not result:
        raise InputError(f"{root}: no picture of 2D-3D-S, expected area_1/data/rgb/*.png")
    return result


def read_classes(root: Path) -> NDArray[np.int64]:
    """int64 [entries + 1]: index into S3DIS's CLASSES of each entry of ``semantic_labels.json``, else UNKNOWN, as is the last one.

    Raises:
        InputError: no such file, or not a list of labels.
    """
    files = [path for path in (root / "semantic_labels.json", root / "assets" / "semantic_labels.json") if path.is_file()]
    if not files:
        raise InputError(f"{root}: expected semantic_labels.json, in it or in its folder assets")
    try:
        if files[0].stat().st_size > MAX_FILE_BYTES:
            raise ValueError
        entries = json.loads(files[0].read_bytes())
        if not isinstance(entries, list):
            raise TypeError
        kinds = [entry.split("_")[0] for entry in entries]
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InputError(f"{files[0]}: expected a list of labels like chair_1_office_3_1") from None
    return np.array([*(CLASSES.index(kind) if kind in CLASSES else UNKNOWN for kind in kinds), UNKNOWN], np.int64)


def read_semantic(picture: Picture, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [H, W], index into S3DIS's CLASSES or UNKNOWN.

    Args:
        classes: of :func:`read_classes`.

    Raises:
        InputError: the picture cannot be read.
    """
    red, green, blue = np.moveaxis(read_image(picture.semantic).astype(np.int64), -1, 0)
    return classes[np.minimum(65536 * red + 256 * green + blue, len(classes) - 1)]
