"""Marks become a part pack: each is put on the template, or gets the token of its pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.methods.base import Context, MarkedPixel, MarkedPoint, ObjectPoints, PartMaterial
from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.parts.locate import Placed, Template, describe_shape
from geoseg_ros.methods.parts.pack import Mark, PartPack, Photo, check_names
from geoseg_ros.methods.parts.photos import masked_tokens, token_at
from geoseg_ros.methods.parts.shape import make_shape
from geoseg_ros.projection.scene import ImageScene

_ON = 0.05  # of a diagonal: a mark must be this near to a point of the object
_BUDGET = 1200  # points of a template


def make_pack(material: PartMaterial, context: Context) -> PartPack:
    """The part pack of marked objects.

    Raises:
        InputError: no mark, a name twice, a mark outside its object or on the background, or an object that cannot be used.
    """
    names = check_names([*(mark.name for mark in material.points), *(mark.name for mark in material.pixels)])
    template, points = _points(material.points)
    photos, mean, pixels = _pixels(material.pixels, context)
    marks = {mark.name: mark for mark in (*points, *pixels)}
    target = None if material.target is None else (material.target.name, material.target.version)
    return PartPack(
        material.name,
        target,
        context.backbone.name,
        context.backbone.hash,
        tuple(marks[name] for name in names),
        template,
        mean,
        photos,
    )


def _points(points: Sequence[MarkedPoint]) -> tuple[Template | None, list[Mark]]:
    """The template, and the marks on it."""
    if not points:
        return None, []
    for mark in points:
        _check_on(mark)
    first = points[0].object
    try:
        shape = make_shape(first.xyz, first.up, _BUDGET)
    except InputError as error:
        raise InputError(f"{points[0].source}: cannot be the template: {error}") from None
    template = Template(shape, describe_shape(shape))
    inverse = np.linalg.inv(shape.pose)
    marks = []
    placed: dict[int, Placed] = {}
    for mark in points:
        if mark.object is first:
            place = inverse[:3, :3] @ np.asarray(mark.point, np.float64) + inverse[:3, 3]
        else:
            if id(mark.object) not in placed:
                placed[id(mark.object)] = _over(template, mark.object, mark.source)
            place = _carried(placed[id(mark.object)], mark)
        marks.append(Mark(mark.name, place.astype(np.float32)))
    return template, marks


def _check_on(mark: MarkedPoint) -> None:
    """Raise InputError unless a mark lies on its object."""
    if not np.isfinite(mark.point).all():
        raise InputError(f"mark {mark.name}: expected finite metres")
    if not len(mark.object.xyz):
        raise InputError(f"{mark.source}: no valid point")
    away = float(cKDTree(mark.object.xyz).query(mark.point)[0])
    limit = max(_ON * float(np.linalg.norm(np.ptp(mark.object.xyz, axis=0))), 0.01)
    if away > limit:
        raise InputError(
            f"mark {mark.name}: outside the object in {mark.source}: its nearest point is {away:.3f} m away, expected at most {limit:.3f} m"
        )


def _over(template: Template, obj: ObjectPoints, source: str) -> Placed:
    placed = Placed(template, make_shape(obj.xyz, obj.up), obj.xyz)
    limit = PartsConfig().fit
    if placed.best.cost > limit:
        raise InputError(
            f"{source}: does not fit the object that was marked first ({placed.best.cost:.3f} of a diagonal, expected at most {limit:g})"
        )
    return placed


def _carried(placed: Placed, mark: MarkedPoint) -> NDArray[np.float64]:
    """A mark on another object, in the frame of the template."""
    inverse = np.linalg.inv(placed.object.pose)
    own = inverse[:3, :3] @ np.asarray(mark.point, np.float64) + inverse[:3, 3]
    place = placed.best.apply(own[None])[0]
    nearest = placed.template.tree.query(place)[1]
    return np.asarray(placed.template.shape.xyz[nearest], np.float64)


def _pixels(pixels: Sequence[MarkedPixel], context: Context) -> tuple[tuple[Photo, ...], NDArray[np.float32], list[Mark]]:
    """The marked photographs, the mean of their tokens, and the marks."""
    if not pixels:
        return (), np.zeros(0, np.float32), []
    images = {id(mark.image): mark for mark in pixels}
    scenes = {key: ImageScene(mark.image, context.backbone, context.scene) for key, mark in images.items()}
    mean = np.concatenate([scene.tokens.float().numpy().reshape(-1, scene.tokens.shape[-1]) for scene in scenes.values()]).mean(axis=0)
    photos: list[Photo] = []
    number: dict[int, int] = {}
    for key, mark in images.items():
        photo = masked_tokens(scenes[key], mark.mask, mean)
        if photo is None:
            raise InputError(f"{mark.source}: the object is not found in it, or covers too little of it")
        number[key] = len(photos)
        photos.append(photo)
    marks = []
    for mark in pixels:
        height, width = mark.mask.shape
        x, y = mark.pixel
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"mark {mark.name}: pixel {x:g},{y:g} is outside {mark.source}, which has {width} x {height}")
        if not mark.mask[int(y), int(x)]:
            raise InputError(f"mark {mark.name}: pixel {x:g},{y:g} of {mark.source} is on the background, not on the object")
        key = id(mark.image)
        marks.append(Mark(mark.name, None, number[key], mark.pixel, token_at(scenes[key], mark.pixel, mean)))
    return tuple(photos), mean.astype(np.float32), marks
