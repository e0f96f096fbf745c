"""Pictures of the tokens of a cloud: their three strongest directions as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.pictures import Image, captioned, contact_sheet, draw_cloud, input_colours, plain
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.cameras import view_rotation
from geoseg_ros.projection.lifted_scene import LiftedScene

UNKNOWN = 60  # grey level of voxels without a token
_PERCENTILES = (2, 98)
_SAMPLE = 50_000  # tokens that the directions are found from


def token_colours(tokens: NDArray[np.floating], known: NDArray[np.bool_]) -> Image:
    """uint8 [M, 3]: unit tokens along their three principal directions as red, green and blue; grey where there is none.

    Args:
        tokens: [M, D]. known: bool [M].
    """
    colours = np.full((len(tokens), 3), UNKNOWN, np.uint8)
    rows = np.flatnonzero(known)
    if len(rows) < 4:
        return colours
    values = tokens[rows].astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    values -= values.mean(axis=0)
    sample = values[:: max(1, len(values) // _SAMPLE)]
    _, vectors = np.linalg.eigh(sample.T @ sample)
    along = values @ vectors[:, ::-1][:, :3]
    low, high = np.percentile(along, _PERCENTILES, axis=0)
    colours[rows] = np.rint(255 * np.clip((along - low) / np.maximum(high - low, 1e-6), 0, 1)).astype(np.uint8)
    return colours


def lifted_picture(scene: LiftedScene, size: tuple[int, int] = (640, 480)) -> Image:
    """The room in its own colours, its tokens as colours, and its super-voxels, side by side, from above, the ceiling cut away.

    Args:
        size: width and height of each, pixels.

    Returns:
        uint8 RGB.
    """
    # rows of the rotation are right, down, forward for a camera that looks along a horizontal direction; up becomes +z
    level = np.eye(3)[np.abs(scene.up).argmin()]
    level = level - (level @ scene.up) * scene.up
    right, down, forward = view_rotation(level / np.linalg.norm(level), scene.up)
    upright = Cloud((scene.xyz @ np.stack([forward, -right, -down]).T).astype(np.float32), scene.rgb)
    coloured: Sequence[tuple[str, Image]] = (
        ("colour" if scene.rgb is not None else "height", input_colours(upright)),
        ("tokens, three principal directions", token_colours(scene.tokens, scene.known)),
        ("super-voxels", np.random.default_rng(0).integers(60, 256, (int(scene.superpoint.max()) + 1, 3), np.uint8)[scene.superpoint]),
    )
    return contact_sheet([captioned(draw_cloud(upright, colours, size).image, [plain(text)]) for text, colours in coloured], 3)
