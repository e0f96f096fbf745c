"""Sets of co-segmentation papers: S3DIS and ScanObjectNN as used by Yang et al. (ICCV 2021).

A set is a category; it is learnt from the measured items, grouped and cropped by the truth (protocol ``paper``). Points have no colour, as
in the papers. Images are optional; the papers' own images are not public, so others are used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets import s3dis, scanobjectnn, stanford2d3ds
from geoseg_ros.evaluate.items import CosegSet, Image, Item, instance_crops, spread, transductive
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.sampling import farthest_points
from geoseg_ros.io.folders import list_images, read_image

CATEGORIES = ("door", "table", "chair", "sofa", "bookcase")  # of S3DIS
RADIUS = 1.0  # of a crop, in longest sides of the object's bounding box
LEAST, MOST = 512, 20_480  # points of a crop that are not of the object
POINTS = 2048  # of a crop as it is learnt from and measured
SHARE = (0.03, 0.6)  # of an image that the object covers
PER_AREA = 10  # images of a category
SIDE = 512  # longest, pixels
PICTURE_ROOMS = 3  # every third room gives images instead of clouds

Log = Callable[[str], object]


def gives_pictures(room: str) -> bool:
    """Whether a room ("Area_1/office_3") gives images and no clouds where both are used. It depends on the name alone."""
    return zlib.crc32(room.lower().encode()) % PICTURE_ROOMS == 0


def s3dis_sets(root: Path, pictures: Path | None = None, items: int | None = None, log: Log = lambda text: None) -> list[CosegSet]:
    """S3DIS, the five categories of Yang et al.

    Args:
        root: S3DIS in a form that :mod:`~geoseg_ros.evaluate.datasets.s3dis` knows.
        pictures: 2D-3D-S. The rooms of the pictures are then left out of the clouds.
        items: largest number of clouds and of images per category, evenly spread; None: all.
        log: called with lines about the progress.

    Raises:
        InputError: nothing there, or a file is damaged.
    """
    crops: dict[str, list[Item[Cloud]]] = {category: [] for category in CATEGORIES}
    rooms = s3dis.list_rooms(root)
    for name, path in rooms.items():
        if pictures is not None and gives_pictures(name):
            continue
        log(f"S3DIS: {name}")
        room = s3dis.read_room(name, path)
        if room.dropped:
            log(f"S3DIS: {name}: {room.dropped} damaged lines left out")
        for category in CATEGORIES:
            crops[category] += category_crops(room, category)
    shown = {} if pictures is None else _room_pictures(pictures, log)
    return _sets("S3DIS", CATEGORIES, crops, shown, "pictures of other rooms", items)


def category_crops(room: s3dis.Room, category: str) -> list[Item[Cloud]]:
    """The crops of a room: an object of the category and its surroundings without other objects of it; at most ``POINTS`` points."""
    truth = room.label == s3dis.CLASSES.index(category)
    whole = Item(room.name, Cloud(room.cloud.xyz), truth, instance=room.instance + 1)  # 0 means none there
    return [crop for crop in map(_thinned, instance_crops(whole, RADIUS, LEAST)) if crop.shown]


def _thinned(crop: Item[Cloud]) -> Item[Cloud]:
    around = np.flatnonzero(~crop.truth)
    kept = np.sort(np.concatenate([np.flatnonzero(crop.truth), around[spread(len(around), MOST)]]))
    kept = kept[np.sort(farthest_points(crop.data.xyz[kept], min(POINTS, len(kept))))]
    xyz = crop.data.xyz[kept]
    return Item(crop.name, Cloud(xyz - xyz.min(axis=0)), crop.truth[kept])


def _room_pictures(root: Path, log: Log) -> dict[str, list[Item[Image]]]:
    """Images of the categories from the rooms that give images, if possible equally many of each area.

    They are searched in a fixed order that mixes rooms: by a checksum of the name.
    """
    classes = stanford2d3ds.read_classes(root)
    result: dict[str, list[Item[Image]]] = {category: [] for category in CATEGORIES}
    areas: dict[str, list[stanford2d3ds.Picture]] = {}
    for picture in stanford2d3ds.list_pictures(root):
        if gives_pictures(picture.room):
            areas.setdefault(picture.area, []).append(picture)
    for area, found in areas.items():
        log(f"2D-3D-S: {area}, searching {len(found)} images")
        missing = dict.fromkeys(CATEGORIES, PER_AREA)
        for picture in sorted(found, key=lambda p: (zlib.crc32(p.name.encode()), p.name)):
            if not any(missing.values()):
                break
            label = stanford2d3ds.read_semantic(picture, classes)
            truths = {category: label == s3dis.CLASSES.index(category) for category in CATEGORIES if missing[category]}
            truths = {category: truth for category, truth in truths.items() if SHARE[0] <= truth.mean() <= SHARE[1]}
            if not truths:
                continue
            rgb = read_image(picture.rgb)
            if rgb.shape[:2] != label.shape:
                raise InputError(f"{picture.semantic}: expected {rgb.shape[1]} x {rgb.shape[0]} as {picture.rgb.name}")
            unknown = label == stanford2d3ds.UNKNOWN
            for category, truth in truths.items():
                result[category].append(_small(f"{picture.room} {picture.name}", rgb, truth, ~unknown))
                missing[category] -= 1
    return result


def _small(name: str, rgb: Image, truth: np.ndarray, counted: np.ndarray | None = None) -> Item[Image]:
    scale = min(1.0, SIDE / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))

    def mask(of: np.ndarray) -> np.ndarray:
        return cv2.resize(of.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Item(name, small, mask(truth), counted=None if counted is None else mask(counted))


def scanobjectnn_sets(root: Path, pictures: Path | None = None, items: int | None = None, log: Log = lambda text: None) -> list[CosegSet]:
    """ScanObjectNN, its 15 categories; all points of every object.

    Args:
        root: see :func:`~geoseg_ros.evaluate.datasets.scanobjectnn.read_objects`.
        pictures: ``<category>/images/NAME.jpg`` and ``<category>/masks/NAME.png`` (not 0 = the object); a category may be absent.
        items: as for :func:`s3dis_sets`.

    Raises:
        InputError: nothing there, or a file is damaged.
    """
    objects = scanobjectnn.read_objects(root)
    clouds: dict[str, list[Item[Cloud]]] = {}
    for number, category in enumerate(scanobjectnn.CLASSES):
        of = np.flatnonzero(objects.label == number)
        clouds[category] = [Item(objects.name[k], Cloud(objects.xyz[k]), objects.foreground[k]) for k in of if objects.foreground[k].any()]
    shown: dict[str, list[Item[Image]]] = {}
    if pictures is not None:
        shown = {category: _masked_pictures(pictures / category) for category in scanobjectnn.CLASSES if (pictures / category).is_dir()}
        if not shown:
            raise InputError(f"{pictures}: expected folders chair/images, chair/masks, ... of categories of ScanObjectNN")
    log(f"ScanObjectNN: {len(objects.label)} objects, pictures of {len(shown)} categories")
    return _sets("ScanObjectNN", scanobjectnn.CLASSES, clouds, shown, "pictures", items)


def _masked_pictures(folder: Path) -> list[Item[Image]]:
    masks = {path.stem: path for path in list_images(folder / "masks")}
    result = []
    for path in list_images(folder / "images"):
        if path.stem not in masks:
            raise InputError(f"{folder / 'masks'}: expected the mask of {path.name}")
        rgb, mask = read_image(path), read_image(masks[path.stem]).max(axis=2) > 0
        if rgb.shape[:2] != mask.shape:
            raise InputError(f"{masks[path.stem]}: expected {rgb.shape[1]} x {rgb.shape[0]} as {path.name}")
        result.append(_small(path.stem, rgb, mask))
    return [item for item in result if item.shown]


def _sets(
    group: str,
    categories: Sequence[str],
    clouds: dict[str, list[Item[Cloud]]],
    pictures: dict[str, list[Item[Image]]],
    whose: str,
    items: int | None,
) -> list[CosegSet]:
    """A set for each category with a cloud."""
    if items is not None and items < 2:
        raise InputError(f"items: expected at least 2, got {items}")

    def some(found: list) -> list:
        return found if items is None else [found[k] for k in spread(len(found), items)]

    given = "itself: crops" + (f" and {whose}" if any(pictures.values()) else "")  # the same for all, they are averaged
    result = []
    for category in categories:
        crops, images = some(clouds[category]), some(pictures.get(category, []))
        if crops:
            result.append(replace(transductive(category, group, images, crops, given), protocol="paper"))
    if not result:
        raise InputError(f"{group}: no object of {', '.join(categories)}")
    return result
