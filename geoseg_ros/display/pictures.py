"""Pictures for people: clouds drawn from a raised viewpoint, boxes and names of objects, captions, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.viewpoint import NEAR, axes_of, below_ceiling, overview
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.cameras import PerspectiveCamera
from geoseg_ros.projection.render import render_points
from geoseg_ros.projection.shading import colour_picture, eye_dome

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_BACKGROUND = 250  # grey level
_MANY = 20_000  # points; fewer are drawn larger
_TEXT: Colour = (30, 30, 30)
_PALE = 0.4  # share of white in the colours of points without a label
_FLAT = 0.55  # brightness of a label's colour on the darkest point; on the brightest it is 1


@dataclass(frozen=True)
class Drawing:
    """A cloud that was drawn.

    Attributes:
        image: uint8 RGB [H, W, 3].
        depth: float32 [H, W], metres along the optical axis to what a pixel shows, infinite where that is nothing.
        camera: None where there was nothing to draw.
    """

    image: Image
    depth: NDArray[np.float32]
    camera: PerspectiveCamera | None


def input_colours(cloud: Cloud) -> Image:
    """uint8 [N, 3]: the cloud's own colour, else grey levels that rise with the height."""
    if cloud.rgb is not None:
        return cloud.rgb
    valid = cloud.valid()
    if not valid.any():
        return np.zeros((len(cloud), 3), np.uint8)
    height = cloud.xyz @ axes_of(cloud).up.astype(np.float32)
    low, high = np.percentile(height[valid], (2, 98))
    share = np.clip((np.nan_to_num(height, posinf=high, neginf=low) - low) / max(high - low, 1e-6), 0, 1)
    return cv2.applyColorMap(np.rint(50 + 160 * share).astype(np.uint8), cv2.COLORMAP_BONE)[:, 0, ::-1]


def label_colours(cloud: Cloud, label: NDArray[np.integer], palette: Image) -> Image:
    """uint8 [N, 3]: where there is a label the palette's colour, with light and shade of the cloud's own; elsewhere the input's, pale."""
    grey = input_colours(cloud).astype(np.float32)
    colours = palette[np.minimum(label, len(palette) - 1)].astype(np.float32)
    if cloud.rgb is not None:
        light = cloud.rgb @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        colours *= _FLAT + (1 - _FLAT) * light[:, None]
        grey = (grey + grey.mean(axis=1, keepdims=True)) / 2
    return np.where(label[:, None] > 0, colours, 255 * _PALE + grey * (1 - _PALE)).astype(np.uint8)


def draw_cloud(cloud: Cloud, colours: Image, size: tuple[int, int] = (640, 480), always: NDArray[np.bool_] | None = None) -> Drawing:
    """Draw the points as seen from behind and above the sensor, nearer ones over farther ones.

    Args:
        colours: uint8 [N, 3].
        size: width and height in pixels.
        always: bool [N], points that are drawn even where they hang above the room; None for none.
    """
    axes = axes_of(cloud)
    keep = below_ceiling(cloud, axes)
    if always is not None:
        keep |= always & cloud.valid()
    if not keep.any():
        empty = np.full((size[1], size[0], 3), _BACKGROUND, np.uint8)
        return Drawing(empty, np.full(empty.shape[:2], np.inf, np.float32), None)
    xyz = cloud.xyz[keep]
    camera = overview(xyz, axes, size)
    near = NEAR * float(np.median(camera.to_camera(xyz)[:, 2]))
    rendering = render_points(camera, xyz, radius=1 if len(xyz) > _MANY else 2, near=near)
    return Drawing(eye_dome(colour_picture(rendering, colours[keep], _BACKGROUND), rendering), rendering.depth, camera)


def fit(image: Image, size: tuple[int, int]) -> Image:
    """The image scaled to fit (width, height), centred on the background colour."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    out = np.full((height, width, 3), _BACKGROUND, np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    out[y : y + inner[1], x : x + inner[0]] = scaled
    return out


def captioned(image: Image, parts: Sequence[tuple[str, Colour]]) -> Image:
    """The image below a line of text whose parts have their own colours; dark text for ``(30, 30, 30)``, swatches for others."""
    bar = np.full((26, image.shape[1], 3), _BACKGROUND, np.uint8)
    x = 6
    for text, colour in parts:
        if colour != _TEXT:
            cv2.rectangle(bar, (x, 7), (x + 12, 19), colour, -1)
            x += 18
        cv2.putText(bar, text, (x, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0] + 14
    return np.concatenate([bar, image])


def plain(text: str) -> tuple[str, Colour]:
    """A caption part without a swatch."""
    return text, _TEXT


def legend(names: Sequence[str], palette: Image) -> list[tuple[str, Colour]]:
    """A caption part with a swatch for every label."""
    return [(name, colour_of(palette, i)) for i, name in enumerate(names, 1)]


def colour_of(palette: Image, label: int) -> Colour:
    """The colour of a label as plain numbers; labels beyond the palette have its last."""
    r, g, b = (int(c) for c in palette[min(label, len(palette) - 1)])
    return r, g, b


def contact_sheet(cells: Sequence[Image], columns: int, gap: int = 6) -> Image:
    """Equally large cells in rows, left to right. uint8 RGB."""
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 200, np.uint8)
    for i, cell in enumerate(cells):
        y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = cell
    return sheet


def truth_outline(image: Image, truth: NDArray[np.uint8], palette: Image) -> Image:
    """The image with the border of every true label drawn in white and its colour."""
    out = np.ascontiguousarray(image)
    for label in np.unique(truth[truth > 0]):
        contours, _ = cv2.findContours((truth == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, contours, -1, (255, 255, 255), 2)
        cv2.drawContours(out, contours, -1, colour_of(palette, label), 1)
    return out
