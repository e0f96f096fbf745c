"""Scene packs: packs with classes. Their tensors may differ by method; what is here is common to all.

A method finds centroids. Each belongs to a class, and classes get their names, or are merged, by people who look at the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig
from geoseg_ros.packs.pack import Pack
from geoseg_ros.settings import with_values

CLASS_OF = "class_of"  # int64 [C], class of each centroid
SHARES = "shares"  # of the manifest: share of the points learnt from of each centroid
TEACHER = "teacher"  # of the manifest: name, hash and licence of the teacher whose text the classes are named by
GEOMETRY = "geometry"  # of the manifest: settings of the voxels and super-voxels learnt from
_LONGEST = 50  # characters of a pack's name in those of its classes


def picture_name(centroid: int) -> str:
    """Name of the tensor with the picture of a centroid, a JPEG file as uint8."""
    return f"picture.{centroid}"


def first_names(pack: str, count: int) -> tuple[str, ...]:
    """Names of classes that have none yet, with the name of their ``pack``: two places may meet in one node."""
    return tuple(f"{pack[:_LONGEST]} class {k}".strip() for k in range(1, count + 1))


def check_scene_pack(pack: Pack) -> None:
    """Raise InputError unless ``pack`` has classes, and what is common to scene packs fits together."""
    where = pack.path or pack.name
    if not pack.classes or CLASS_OF not in pack.tensors:
        raise InputError(f"{where}: has no classes; expected a scene pack, as geoseg discover writes it")
    try:
        _check_common(pack)
    except (ValueError, TypeError, cv2.error) as error:
        raise InputError(f"{where}: damaged scene pack ({str(error).splitlines()[0]})") from None


def _check_common(pack: Pack) -> None:
    """Raise ValueError, TypeError or cv2.error where classes, shares, settings and pictures do not fit together."""
    class_of = pack.tensors[CLASS_OF]
    if class_of.dtype != torch.int64 or class_of.ndim != 1 or set(class_of.tolist()) != set(range(len(pack.classes))):
        raise ValueError(f"{CLASS_OF}: expected every class at least once")
    shares = np.asarray(pack.info.get(SHARES, np.zeros(len(class_of))), np.float64)
    if shares.shape != (len(class_of),) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"{SHARES}: expected {len(class_of)} numbers from 0 to 1")
    if not isinstance(pack.info.get(GEOMETRY, {}), Mapping):
        raise TypeError(f"{GEOMETRY}: expected settings")
    pictures = [cv2.imdecode(picture, cv2.IMREAD_COLOR) for picture in centroid_pictures(pack)]
    sizes = {None if picture is None else picture.shape for picture in pictures}
    if pictures and (len(pictures) != len(class_of) or len(sizes) > 1 or None in sizes):
        raise ValueError(f"pictures: expected none, or {len(class_of)} of one size")


def centroid_pictures(pack: Pack) -> list[NDArray[np.uint8]]:
    """The pictures of the centroids, JPEG files as uint8; none where the pack has none."""
    names = [picture_name(k) for k in range(len(pack.tensors[CLASS_OF]))]
    return [pack.tensors[name].numpy() for name in names if name in pack.tensors]


def class_shares(pack: Pack) -> list[float]:
    """Share of the points learnt from of each class, 0 .. 1; zeros where the manifest does not say."""
    shares = np.asarray(pack.info.get(SHARES, np.zeros(len(pack.tensors[CLASS_OF]))), np.float64)
    return np.bincount(pack.tensors[CLASS_OF].numpy(), shares, len(pack.classes)).tolist()


def pack_geometry(pack: Pack) -> GeometryConfig:
    """Settings with which a cloud gets voxels and super-voxels like those that the classes were learnt from.

    Raises:
        InputError: the manifest has other settings.
    """
    return with_values(GeometryConfig(), pack.info.get(GEOMETRY, {}))


def renamed(pack: Pack, names: Mapping[int, str]) -> Pack:
    """A scene pack with other names; classes of one name become one class.

    Args:
        pack: of any method that finds classes.
        names: number of a class (1 ..) -> its new name.

    Raises:
        InputError: no scene pack, a number that is no class, or a name that cannot be one.
    """
    check_scene_pack(pack)
    for number, name in names.items():
        if not 1 <= number <= len(pack.classes):
            raise InputError(f"{number}: no such class, expected 1 to {len(pack.classes)}")
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise InputError(f"{number}: name: expected 1 to 64 printable characters, got {name!r}")
    each = [names.get(number, name) for number, name in enumerate(pack.classes, 1)]
    classes = tuple(dict.fromkeys(each))
    if len(classes) < 2:
        raise InputError("names: expected at least two classes to be left")
    place = torch.tensor([classes.index(name) for name in each])
    return replace(pack, classes=classes, tensors={**pack.tensors, CLASS_OF: place[pack.tensors[CLASS_OF]]})
