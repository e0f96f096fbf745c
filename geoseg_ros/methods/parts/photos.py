"""Marks on photographs: the tokens of the thing there, and the pixel of another picture that a marked pixel's token is most like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.parts.matching import nearest
from geoseg_ros.methods.parts.pack import Mark, Photo
from geoseg_ros.projection.scene import ImageScene

_COVER = 0.5  # share of a token's pixels that must show the thing


def masked_tokens(scene: ImageScene, mask: NDArray[np.bool_], mean: NDArray[np.float32]) -> Photo | None:
    """The tokens of a thing in a picture.

    Args:
        mask: bool [H, W], where it is.
        mean: float32 [D], subtracted.

    Returns:
        None where the mask covers no token.
    """
    tokens = scene.tokens.float().numpy()
    rows, columns = tokens.shape[:2]
    height, width = mask.shape
    y = np.minimum(((np.arange(rows) + 0.5) * height / rows).astype(int), height - 1)
    x = np.minimum(((np.arange(columns) + 0.5) * width / columns).astype(int), width - 1)
    share = np.add.reduceat(np.add.reduceat(mask.astype(np.float32), _edges(height, rows), 0), _edges(width, columns), 1)
    inside = share > _COVER * (height / rows) * (width / columns)
    if not inside.any():
        inside = mask[np.ix_(y, x)]
    if not inside.any():
        return None
    chosen = tokens[inside] - mean
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9)
    at_y, at_x = np.nonzero(inside)
    return Photo(chosen.astype(np.float32), np.stack([x[at_x], y[at_y]], axis=1).astype(np.float32))


def token_at(scene: ImageScene, pixel: tuple[float, float], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """The token of a pixel, between those around it, mean subtracted and of unit length: float32 [D]."""
    tokens = scene.tokens.float().numpy()
    rows, columns = tokens.shape[:2]
    height, width = scene.image.shape[:2]
    y = np.clip((pixel[1] + 0.5) * rows / height - 0.5, 0, rows - 1)
    x = np.clip((pixel[0] + 0.5) * columns / width - 0.5, 0, columns - 1)
    top, left = int(y), int(x)
    down, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    above = tokens[top, left] * (1 - x + left) + tokens[top, right] * (x - left)
    below = tokens[down, left] * (1 - x + left) + tokens[down, right] * (x - left)
    token = above * (1 - y + top) + below * (y - top) - mean
    return np.asarray(token / max(float(np.linalg.norm(token)), 1e-9), np.float32)


def find_pixels(
    marks: Sequence[Mark], photos: Sequence[Photo], seen: Photo, config: PartsConfig
) -> list[tuple[tuple[float, float] | None, float, str]]:
    """Where marks of photographs are in another picture.

    Args:
        marks: each with a token.
        photos: of the pack.
        seen: tokens of the thing in the picture.

    Returns:
        Pixel x, y or None; confidence; why there is none.
    """
    found: list[tuple[tuple[float, float] | None, float, str]] = []
    for mark in marks:
        assert mark.token is not None
        row, score = nearest(mark.token[None], seen.tokens)
        photo = photos[mark.photo]
        size = max(float(np.ptp(photo.place, axis=0).max()), 1.0)
        back = photo.place[int(nearest(seen.tokens[row], photo.tokens)[0][0])]
        off = float(np.linalg.norm(back - np.asarray(mark.pixel))) / size
        step = float(np.sqrt(max(np.prod(np.ptp(photo.place, axis=0)), 1.0) / len(photo.place))) / size  # a token's width
        if score[0] < config.similarity:
            found.append((None, 0.0, f"not seen: nothing is like it (cosine {score[0]:.2f})"))
        elif off > config.cycle + step:
            found.append((None, 0.0, f"cycle check: the way back ends {off:.2f} of the thing's size off"))
        else:
            place = _refined(seen, int(row[0]), mark.token)
            found.append((place, float(np.clip(score[0], 0, 1)), ""))
    return found


def _refined(seen: Photo, row: int, token: NDArray[np.float32]) -> tuple[float, float]:
    """The mean place of the tokens around a row, weighted by their likeness (window soft-argmax, temperature .02)."""
    near = np.linalg.norm(seen.place - seen.place[row], axis=1)
    spacing = np.partition(near, min(4, len(near) - 1))[min(4, len(near) - 1)]
    window = near <= 1.5 * max(float(spacing), 1.0)
    score = seen.tokens[window] @ token
    weight = np.exp((score - score.max()) / 0.02)
    x, y = (weight[:, None] * seen.place[window]).sum(axis=0) / weight.sum()
    return float(x), float(y)


def _edges(length: int, parts: int) -> NDArray[np.int64]:
    return (np.arange(parts) * length / parts).astype(np.int64)
