"""Pictures of marked parts: a cloud or a photograph with a ring and the name of every part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.pictures import Colour, Image, captioned, draw_cloud, input_colours, plain
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.results import LabelSpace, PartPoint

_FAR, _ROOM = 2.2, 3.0  # diagonals from which an object is looked at; metres: larger clouds are rooms, and are not moved
_WIDTH = 480  # pixels; smaller pictures are enlarged, so that the names of a few parts fit
_PALE = 90  # added to the colour of points that are on no object


def draw_cloud_parts(
    cloud: Cloud, parts: Sequence[PartPoint], rows: NDArray[np.integer] | None = None, size: tuple[int, int] = (640, 480)
) -> Image:
    """The cloud with its parts: a filled circle where a part is seen, a ring where it is inferred. uint8 RGB.

    Args:
        parts: in the frame of the cloud.
        rows: points of objects, drawn in full colour; None: all.
        size: width and height, pixels.
    """
    colours = input_colours(cloud).copy()
    if rows is not None:
        other = np.ones(len(cloud), bool)
        other[rows] = False
        colours[other] = (colours[other].astype(int) * (255 - _PALE) // 255 + _PALE).astype(np.uint8)
    shift = _step_back(cloud)
    drawing = draw_cloud(replace(cloud, xyz=cloud.xyz + shift), colours, size)
    image = np.ascontiguousarray(drawing.image)
    palette = _palette(parts)
    given = [part for part in parts if part.point is not None]
    if drawing.camera is not None and given:
        pixels, depth = drawing.camera.project(np.stack([part.point + shift for part in given if part.point is not None]))
        for part, pixel, far in zip(given, pixels, depth, strict=True):
            if far > 0 and np.isfinite(pixel).all():
                _draw(image, part, (float(pixel[0]), float(pixel[1])), palette[part.name])
    return captioned(image, _caption(parts, palette))


def draw_image_parts(image: Image, parts: Sequence[PartPoint], mask: NDArray[np.bool_] | None = None) -> Image:
    """A picture with its parts; what ``mask`` [H, W] leaves out is pale. uint8 RGB."""
    drawn = image.copy()
    if mask is not None:
        drawn[~mask] = (drawn[~mask].astype(int) * (255 - _PALE) // 255 + _PALE).astype(np.uint8)
    palette, scale = _palette(parts), max(1.0, _WIDTH / drawn.shape[1])
    if scale > 1:
        drawn = cv2.resize(drawn, (_WIDTH, max(1, round(scale * drawn.shape[0]))), interpolation=cv2.INTER_LINEAR)
    for part in parts:
        if part.pixel is not None:
            _draw(drawn, part, (scale * part.pixel[0], scale * part.pixel[1]), palette[part.name])
    return captioned(drawn, _caption(parts, palette))


def _step_back(cloud: Cloud) -> NDArray[np.float32]:
    """The shift [3] of a single object that lets the picture show all of it."""
    xyz = cloud.xyz[cloud.valid()]
    if not len(xyz):
        return np.zeros(3, np.float32)
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    diagonal, middle = float(np.linalg.norm(high - low)), (low + high) / 2
    far = float(np.linalg.norm(middle))
    if far > _FAR * diagonal or diagonal > _ROOM:
        return np.zeros(3, np.float32)
    way = middle / far if far > diagonal / 2 else np.array([0.9, 0.1, -0.4])
    return np.asarray(way * _FAR * diagonal - middle, np.float32)


def _palette(parts: Sequence[PartPoint]) -> dict[str, Colour]:
    names = tuple(dict.fromkeys(part.name for part in parts))
    rows = LabelSpace(names[:254]).palette()[1:].tolist()
    return {name: (int(r), int(g), int(b)) for name, (r, g, b) in zip(names, rows, strict=False)}


def _caption(parts: Sequence[PartPoint], palette: dict[str, Colour]) -> list[tuple[str, Colour]]:
    given = {part.name for part in parts if part.point is not None or part.pixel is not None}
    names = [(name.encode("ascii", "replace").decode(), colour) for name, colour in palette.items() if name in given]
    missing = [name.encode("ascii", "replace").decode() for name in palette if name not in given]
    return [*names, *([plain(f"not seen: {', '.join(missing)}")] if missing else [])]


def _draw(image: Image, part: PartPoint, pixel: tuple[float, float], colour: Colour) -> None:
    place = (round(pixel[0]), round(pixel[1]))
    radius = max(5, min(image.shape[:2]) // 70)
    cv2.circle(image, place, radius + 1, (20, 20, 20), -1 if part.seen else 1, cv2.LINE_AA)
    cv2.circle(image, place, radius, colour, -1 if part.seen else 2, cv2.LINE_AA)
