"""The sets on which co-segmentation papers publish figures: S3DIS and ScanObjectNN as Yang et al. (ICCV 2021) use them.

A set is a category; it is learnt from what is measured, grouped and cropped by the truth (protocol ``paper``). Points have no colour, as in
the papers. Pictures are optional: those of the papers' own sets are not given out, so these are of our own choice.
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

THINGS = ("door", "table", "chair", "sofa", "bookcase")  # of S3DIS
RADIUS = 1.0  # of a crop, in longest sides of the object's bounding box
LEAST, MOST = 512, 20_480  # points of a crop that are not of the object
POINTS = 2048  # of a crop as it is learnt from and measured
SHARE = (0.03, 0.6)  # of a picture that the thing covers
PER_AREA = 10  # pictures of a thing
SIDE = 512  # longest, pixels
PICTURE_ROOMS = 3  # one room in so many gives pictures instead of clouds

Tell = Callable[[str], object]


def gives_pictures(room: str) -> bool:
    """Whether a room ("Area_1/office_3") gives pictures and no clouds where both are used. By its name alone, so it does not depend on
    what is on disk."""
    return zlib.crc32(room.lower().encode()) % PICTURE_ROOMS == 0


def s3dis_sets(root: Path, pictures: Path | None = None, items: int | None = None, tell: Tell = lambda text: None) -> list[CosegSet]:
    """S3DIS, the five categories of Yang et al.

    Args:
        root: S3DIS in a form that :mod:`~geoseg_ros.evaluate.datasets.s3dis` knows.
        pictures: 2D-3D-S. The rooms of the pictures are then left out of the clouds.
        items: at most so many clouds and pictures of each category, evenly spread; None takes all.

    Raises:
        InputError: nothing there, or a file is damaged.
    """
    crops: dict[str, list[Item[Cloud]]] = {thing: [] for thing in THINGS}
    rooms = s3dis.list_rooms(root)
    for name, path in rooms.items():
        if pictures is not None and gives_pictures(name):
            continue
        tell(f"S3DIS: {name}")
        room = s3dis.read_room(name, path)
        if room.dropped:
            tell(f"S3DIS: {name}: {room.dropped} damaged lines left out")
        for thing in THINGS:
            crops[thing] += thing_crops(room, thing)
    shown = {} if pictures is None else _room_pictures(pictures, tell)
    return _sets("S3DIS", THINGS, crops, shown, "pictures of other rooms", items)


def thing_crops(room: s3dis.Room, thing: str) -> list[Item[Cloud]]:
    """The crops of a room: an object of the thing, and what is around it but for others of the thing; at most ``POINTS`` points."""
    truth = room.label == s3dis.CLASSES.index(thing)
    whole = Item(room.name, Cloud(room.cloud.xyz), truth, instance=room.instance + 1)  # 0 means none there
    return [crop for crop in map(_thinned, instance_crops(whole, RADIUS, LEAST)) if crop.shown]


def _thinned(crop: Item[Cloud]) -> Item[Cloud]:
    around = np.flatnonzero(~crop.truth)
    kept = np.sort(np.concatenate([np.flatnonzero(crop.truth), around[spread(len(around), MOST)]]))
    kept = kept[np.sort(farthest_points(crop.data.xyz[kept], min(POINTS, len(kept))))]
    xyz = crop.data.xyz[kept]
    return Item(crop.name, Cloud(xyz - xyz.min(axis=0)), crop.truth[kept])


def _room_pictures(root: Path, tell: Tell) -> dict[str, list[Item[Image]]]:
    """Pictures of the things from the rooms that give pictures, equally many of each area as far as there are.

    The order in which they are looked at mixes rooms but is fixed: by a checksum of the name."""
    classes = stanford2d3ds.read_classes(root)
    result: dict[str, list[Item[Image]]] = {thing: [] for thing in THINGS}
    areas: dict[str, list[stanford2d3ds.Picture]] = {}
    for picture in stanford2d3ds.list_pictures(root):
        if gives_pictures(picture.room):
            areas.setdefault(picture.area, []).append(picture)
    for area, found in areas.items():
        tell(f"2D-3D-S: {area}, looking through {len(found)} pictures")
        missing = dict.fromkeys(THINGS, PER_AREA)
        for picture in sorted(found, key=lambda p: (zlib.crc32(p.name.encode()), p.name)):
            if not any(missing.values()):
                break
            label = stanford2d3ds.read_semantic(picture, classes)
            truths = {thing: label == s3dis.CLASSES.index(thing) for thing in THINGS if missing[thing]}
            truths = {thing: truth for thing, truth in truths.items() if SHARE[0] <= truth.mean() <= SHARE[1]}
            if not truths:
                continue
            rgb = read_image(picture.rgb)
            if rgb.shape[:2] != label.shape:
                raise InputError(f"{picture.semantic}: expected {rgb.shape[1]} x {rgb.shape[0]} as {picture.rgb.name}")
            unknown = label == stanford2d3ds.UNKNOWN
            for thing, truth in truths.items():
                result[thing].append(_small(f"{picture.room} {picture.name}", rgb, truth, ~unknown))
                missing[thing] -= 1
    return result


def _small(name: str, rgb: Image, truth: np.ndarray, counted: np.ndarray | None = None) -> Item[Image]:
    scale = min(1.0, SIDE / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))

    def mask(of: np.ndarray) -> np.ndarray:
        return cv2.resize(of.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Item(name, small, mask(truth), counted=None if counted is None else mask(counted))


def scanobjectnn_sets(root: Path, pictures: Path | None = None, items: int | None = None, tell: Tell = lambda text: None) -> list[CosegSet]:
    """ScanObjectNN, its 15 categories; all points of every object.

    Args:
        root: see :func:`~geoseg_ros.evaluate.datasets.scanobjectnn.read_objects`.
        pictures: ``<category>/images/NAME.jpg`` and ``<category>/masks/NAME.png`` (not 0 = the thing); a category may be absent.
        items: as for :func:`s3dis_sets`.

    Raises:
        InputError: nothing there, or a file is damaged.
    """
    objects = scanobjectnn.read_objects(root)
    clouds: dict[str, list[Item[Cloud]]] = {}
    for number, thing in enumerate(scanobjectnn.CLASSES):
        of = np.flatnonzero(objects.label == number)
        clouds[thing] = [Item(objects.name[k], Cloud(objects.xyz[k]), objects.foreground[k]) for k in of if objects.foreground[k].any()]
    shown: dict[str, list[Item[Image]]] = {}
    if pictures is not None:
        shown = {thing: _masked_pictures(pictures / thing) for thing in scanobjectnn.CLASSES if (pictures / thing).is_dir()}
        if not shown:
            raise InputError(f"{pictures}: expected folders chair/images, chair/masks, ... of categories of ScanObjectNN")
    tell(f"ScanObjectNN: {len(objects.label)} objects, pictures of {len(shown)} categories")
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
    things: Sequence[str],
    clouds: dict[str, list[Item[Cloud]]],
    pictures: dict[str, list[Item[Image]]],
    whose: str,
    items: int | None,
) -> list[CosegSet]:
    """A set of each thing that has a cloud."""
    if items is not None and items < 2:
        raise InputError(f"items: expected at least 2, got {items}")

    def some(found: list) -> list:
        return found if items is None else [found[k] for k in spread(len(found), items)]

    given = "itself: crops" + (f" and {whose}" if any(pictures.values()) else "")  # the same for all, they are averaged
    result = []
    for thing in things:
        crops, images = some(clouds[thing]), some(pictures.get(thing, []))
        if crops:
            result.append(replace(transductive(thing, group, images, crops, given), protocol="paper"))
    if not result:
        raise InputError(f"{group}: no object of {', '.join(things)}")
    return result
