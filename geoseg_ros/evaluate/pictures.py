"""Pictures for people: clouds drawn from a raised viewpoint, captions, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_BACKGROUND = (250, 250, 250)
_TEXT: Colour = (30, 30, 30)
_TILT = 52.0  # degrees that the drawing camera looks down
_CEILING = 2.1  # metres above the floor; what is higher would hide the room


def input_colours(cloud: Cloud) -> Image:
    """uint8 [N, 3]: the cloud's own colour, else grey levels that rise with the height."""
    if cloud.rgb is not None:
        return cloud.rgb
    up = _up_axis(cloud)
    height = cloud.xyz @ up
    valid = cloud.valid()
    if not valid.any():
        return np.zeros((len(cloud), 3), np.uint8)
    low, high = np.percentile(height[valid], (2, 98))
    share = np.clip((np.nan_to_num(height, posinf=high, neginf=low) - low) / max(high - low, 1e-6), 0, 1)
    return cv2.applyColorMap(np.rint(50 + 160 * share).astype(np.uint8), cv2.COLORMAP_BONE)[:, 0, ::-1]


def label_colours(cloud: Cloud, label: NDArray[np.integer], palette: Image) -> Image:
    """uint8 [N, 3]: the palette's colour where there is a label, pale grey elsewhere."""
    plain = 205 - input_colours(cloud).mean(axis=1, keepdims=True) * 0.25
    return np.where(label[:, None] > 0, palette[np.minimum(label, len(palette) - 1)], plain).astype(np.uint8)


def draw_cloud(cloud: Cloud, colours: Image, size: tuple[int, int] = (640, 480)) -> Image:
    """Draw the points as seen from behind and above the sensor, nearer ones over farther ones.

    Organised clouds are taken to be in an optical frame (x right, y down, z forward), others in a body frame (x forward, z up; REP 103),
    of which everything above a room's height is left out.

    Args:
        colours: uint8 [N, 3].
        size: width and height in pixels.

    Returns:
        uint8 RGB [height, width, 3].
    """
    width, height = size
    canvas = np.full((height, width, 3), _BACKGROUND, np.uint8)
    keep = cloud.valid()
    up = _up_axis(cloud)
    if cloud.shape is None and keep.any():
        level = cloud.xyz @ up
        keep &= level < np.percentile(level[keep], 1) + _CEILING
    if not keep.any():
        return canvas
    xyz, colours = cloud.xyz[keep].astype(np.float64), colours[keep]
    forward = np.array([0.0, 0.0, 1.0]) if cloud.shape is not None else np.array([1.0, 0.0, 0.0])
    tilt = np.deg2rad(_TILT if cloud.shape is None else 15.0)
    ahead = np.cos(tilt) * forward - np.sin(tilt) * up
    right = np.cross(ahead, up) / np.linalg.norm(np.cross(ahead, up))
    axes = np.stack([right, np.cross(ahead, right), ahead])  # rows: right, down, ahead
    centre = np.median(xyz, axis=0)
    local = (xyz - centre) @ axes.T
    # the camera stands off by the extent of the cloud; the focal length is what makes nearly all points fit
    depth = local[:, 2] + 1.6 * float(np.percentile(np.linalg.norm(local, axis=1), 98)) + 1e-6
    near = depth > 0.1 * np.median(depth)
    local, depth, colours = local[near], depth[near], colours[near]
    plane = local[:, :2] / depth[:, None]
    low, high = np.percentile(plane, (0.5, 99.5), axis=0)
    focal = float((0.94 * np.array(size) / np.maximum(high - low, 1e-6)).min())
    u, v = np.rint((plane - (low + high) / 2) * focal + np.array(size) / 2).astype(np.int64).T
    radius = 1 if len(depth) > 20_000 else 2
    order = np.argsort(-depth, kind="stable")
    u, v, colours = u[order], v[order], colours[order]
    nearest = np.full((height, width), -1, np.int64)
    for dv in range(-radius, radius + 1):
        for du in range(-radius, radius + 1):
            x, y = u + du, v + dv
            inside = np.flatnonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
            # points come from far to near, so the largest index is the nearest one
            np.maximum.at(nearest, (y[inside], x[inside]), inside)
    canvas[nearest >= 0] = colours[nearest[nearest >= 0]]
    return canvas


def _up_axis(cloud: Cloud) -> NDArray[np.float64]:
    return np.array([0.0, -1.0, 0.0]) if cloud.shape is not None else np.array([0.0, 0.0, 1.0])


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
        cv2.drawContours(out, contours, -1, tuple(int(c) for c in palette[label]), 1)
    return out
