"""Marks on photographs: the tokens of the object there, and the pixel of another picture that a marked pixel's token is most like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.parts.pack import Mark, Photo
from geoseg_ros.projection.scene import ImageScene

_CANDIDATES, _SEPARATE = 4, 0.15  # places of a picture that are considered for a mark; shares of the object's size that they are apart
_FINE, _REACH = 0.15, 0.25  # cosine that a place loses where it is this share of the size, or more, from where the layout puts it
_ALIKE = 0.02  # cosine by which tokens do not differ
_COVER = 0.5  # share of a token's pixels that must show the object


def masked_tokens(scene: ImageScene, mask: NDArray[np.bool_], mean: NDArray[np.float32]) -> Photo | None:
    """The tokens of an object in a picture.

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
        seen: tokens of the object in the picture.

    Returns:
        Pixel x, y or None; confidence; why there is none.
    """
    found: list[tuple[tuple[float, float] | None, float, str]] = []
    for mark, chosen in zip(marks, _layout(marks, photos, seen), strict=True):
        assert mark.token is not None
        score = float(seen.tokens[chosen] @ mark.token)
        photo = photos[mark.photo]
        size = max(float(np.ptp(photo.place, axis=0).max()), 1.0)
        back = photo.tokens @ seen.tokens[chosen]
        alike = photo.place[back >= back.max() - _ALIKE]  # of two equal wheels either is right here: the layout has chosen
        off = float(np.linalg.norm(alike - np.asarray(mark.pixel), axis=1).min()) / size
        step = float(np.sqrt(max(np.prod(np.ptp(photo.place, axis=0)), 1.0) / len(photo.place))) / size  # a token's width
        if score < config.similarity:
            found.append((None, 0.0, f"not seen: nothing is like it (cosine {score:.2f})"))
        elif off > config.cycle + step:
            found.append((None, 0.0, f"cycle check: the way back ends {off:.2f} of the object's size off"))
        else:
            place = _refined(seen, chosen, mark.token)
            found.append((place, float(np.clip(score, 0, 1)), ""))
    return found


def _layout(marks: Sequence[Mark], photos: Sequence[Photo], seen: Photo) -> list[int]:
    """For each mark the row of the picture that is most like it, where marks of one photograph keep their layout, turned by at most 45
    degrees, scaled, and mirrored or not: front and rear wheel look alike, but the seat lies behind the handlebar.

    Every pair of candidates of two marks proposes a placement (a minimal sample, as in RANSAC, but all are tried). The one with most
    likeness is taken, less a fine for candidates that are far from where it puts them.
    """
    size = max(float(np.ptp(seen.place, axis=0).max()), 1.0)
    candidates = [_candidates(seen, np.asarray(mark.token), size) for mark in marks]
    chosen = [rows[0] for rows, _ in candidates]
    for number in range(len(photos)):
        own = [k for k, mark in enumerate(marks) if mark.photo == number]
        if len(own) < 2:
            continue
        place = np.array([complex(*marks[k].pixel) for k in own])
        found = [(seen.place[candidates[k][0]] @ np.array([1, 1j]), candidates[k][1]) for k in own]
        best = -np.inf
        for turn, shift, mirrored in _placements(place, [points for points, _ in found], size):
            aim = turn * (place.conj() if mirrored else place) + shift
            worth = [
                score - _FINE * np.minimum(np.abs(points - at) / (_REACH * size), 1) for (points, score), at in zip(found, aim, strict=True)
            ]
            total = sum(float(values.max()) for values in worth)
            if total > best:
                best = total
                for k, values in zip(own, worth, strict=True):
                    chosen[k] = candidates[k][0][int(values.argmax())]
    return chosen


def _candidates(seen: Photo, token: NDArray[np.float32], size: float) -> tuple[list[int], NDArray[np.float32]]:
    """The most similar rows that are apart, and their cosines."""
    score = seen.tokens @ token
    rows: list[int] = []
    left = score.copy()
    while len(rows) < _CANDIDATES and np.isfinite(left.max()):
        rows.append(int(left.argmax()))
        left[np.linalg.norm(seen.place - seen.place[rows[-1]], axis=1) <= _SEPARATE * size] = -np.inf
    return rows, score[rows]


def _placements(
    place: NDArray[np.complex128], found: Sequence[NDArray[np.complex128]], size: float
) -> Iterator[tuple[complex, complex, bool]]:
    """Turn and stretch, shift, and whether mirrored, of each placement that two marks and two candidates propose."""
    extent = max(float(np.abs(place[:, None] - place[None]).max()), 1e-9)
    for i, j in combinations(range(len(place)), 2):
        for mirrored in (False, True):
            a, b = (place[[i, j]].conj() if mirrored else place[[i, j]]).tolist()
            if mirrored:  # conj mirrors top and bottom; the other half turn makes it left and right
                a, b = -a, -b
            if abs(a - b) < 1e-9:
                continue
            for first in found[i].tolist():
                for second in found[j].tolist():
                    turn = (second - first) / (b - a)
                    if abs(np.angle(turn)) < np.pi / 4 and 0.1 * size < abs(turn) * extent < 1.5 * size:
                        yield (-turn if mirrored else turn), first - turn * a, mirrored


def _refined(seen: Photo, row: int, token: NDArray[np.float32]) -> tuple[float, float]:
    """The mean place of the tokens around a row, weighted by their likeness (window soft-argmax, temperature .02)."""
    near = np.linalg.norm(seen.place - seen.place[row], axis=1)
    spacing = float(cKDTree(seen.place).query(seen.place, k=2)[0][:, 1].min()) if len(near) > 1 else 1.0
    window = near <= 1.5 * max(spacing, 1.0)
    score = seen.tokens[window] @ token
    weight = np.exp((score - score.max()) / 0.02)
    x, y = (weight[:, None] * seen.place[window]).sum(axis=0) / weight.sum()
    return float(x), float(y)


def _edges(length: int, parts: int) -> NDArray[np.int64]:
    return (np.arange(parts) * length / parts).astype(np.int64)
