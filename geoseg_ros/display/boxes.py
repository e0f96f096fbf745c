"""Boxes and names of objects over a drawn cloud."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.pictures import Colour, Drawing, Image, colour_of
from geoseg_ros.projection.cameras import PerspectiveCamera
from geoseg_ros.results import ObjectInstance

_STEPS = 24  # pieces of an edge, each in front of the points or behind them
_SLACK = 0.015  # metres, and share of the depth, by which an edge may lie behind the surface that it encloses
_BEHIND = 0.35  # opacity of edges behind the points
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_EDGES = [(i, j) for i, j in combinations(range(8), 2) if (_SIGNS[i] != _SIGNS[j]).sum() == 1]


def corners(entry: ObjectInstance) -> NDArray[np.float64]:
    """float64 [8, 3], metres, in the frame of the object."""
    return entry.center + (_SIGNS * entry.size / 2) @ entry.rotation.T


def title(entry: ObjectInstance) -> str:
    """The name of the concept, and the number of the track where there is one."""
    return f"{entry.name} {entry.track}" if entry.track else entry.name


def draw_boxes(drawing: Drawing, objects: Sequence[ObjectInstance], palette: Image, names: bool = True) -> Image:
    """The drawn cloud with the box and the name of every object, uint8 RGB; edges that points hide are faint.

    Args:
        objects: in the frame of the cloud.
        palette: uint8 [labels + 1, 3].
        names: False for small pictures, which they would cover.
    """
    image = np.ascontiguousarray(drawing.image)
    camera = drawing.camera
    if camera is None or not objects:
        return image
    objects = sorted(objects, key=lambda entry: -float(camera.project(entry.center[None])[1][0]))  # near ones over far ones
    faint = image.copy()
    for entry in objects:
        _edges(faint, drawing, camera, entry, colour_of(palette, entry.label), hidden=True)
    image = np.asarray(cv2.addWeighted(faint, _BEHIND, image, 1 - _BEHIND, 0.0), np.uint8)
    for entry in objects:
        _edges(image, drawing, camera, entry, colour_of(palette, entry.label), hidden=False)
    taken: list[tuple[int, int, int, int]] = []
    for entry in reversed(objects if names else []):
        pixels, depth = camera.project(corners(entry))
        if (depth > 0).all() and camera.contains(pixels).any():
            _tag(image, title(entry), pixels, colour_of(palette, entry.label), taken)
    return image


def _edges(image: Image, drawing: Drawing, camera: PerspectiveCamera, entry: ObjectInstance, colour: Colour, hidden: bool) -> None:
    """Draw the pieces of edges that are hidden by points, or those that are visible."""
    height = len(drawing.depth)
    ends = corners(entry)
    share = np.linspace(0, 1, _STEPS + 1)[:, None]
    thickness = max(1, round(height / 300))
    for i, j in _EDGES:
        pixels, depth = camera.project(ends[i] + share * (ends[j] - ends[i]))
        middle = (pixels[1:] + pixels[:-1]) / 2  # NaN, and so outside, where one of them is behind the camera
        for k in np.flatnonzero(camera.contains(middle)):
            u, v = np.floor(middle[k] + 0.5).astype(np.int64)
            behind = depth[k] * (1 - _SLACK) - _SLACK > drawing.depth[v, u]
            if behind == hidden:
                (a, b), (c, d) = (np.rint(8 * pixels[[k, k + 1]]).astype(int)).tolist()
                cv2.line(image, (a, b), (c, d), colour, thickness, cv2.LINE_AA, shift=3)


def _tag(image: Image, text: str, pixels: NDArray[np.float64], colour: Colour, taken: list[tuple[int, int, int, int]]) -> None:
    """Write on a plate above a box; higher, else lower, where another plate is in the way."""
    height, width = image.shape[:2]
    size = max(0.45, height / 1000)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    wide, high = wide + 10, high + 10
    x = int(np.clip(pixels[:, 0].mean() - wide / 2, 0, max(width - wide, 0)))
    start = int(np.clip(pixels[:, 1].min() - high - 4, 0, max(height - high, 0)))
    rows = [*range(start, -1, -high), *range(start + high, height - high + 1, high)]
    free = (y for y in rows if not any(x < right and left < x + wide and y < low and top < y + high for left, top, right, low in taken))
    y = next(free, start)
    taken.append((x, y, x + wide, y + high))
    dark = np.dot(colour, (0.299, 0.587, 0.114)) < 140
    cv2.rectangle(image, (x, y), (x + wide, y + high), colour, -1)
    cv2.putText(image, text, (x + 5, y + high - 6), cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3 if dark else (0,) * 3, 1, cv2.LINE_AA)
