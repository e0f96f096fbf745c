"""Pictures of classes: super-voxels of a class in their surroundings, and photographs with the class painted over."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.io.overlay import draw_overlay
from geoseg_ros.learning.rooms import Room
from geoseg_ros.projection.views import ViewConfig, draw_views, paint_views

SIDE = 160  # pixels
SHOWN = 3  # super-voxels drawn of a class
AROUND = 1.5  # metres, of its surroundings
_PAINT = np.array([[110, 110, 110], [0, 220, 255]], np.uint8)
_DIM = 0.3  # share of its colour that a point of another class keeps


def class_pictures(
    rooms: Sequence[Room],
    label: NDArray[np.int64],
    similarity: NDArray[np.float32],
    count: int,
    images: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]] = (),
) -> list[NDArray[np.uint8]]:
    """One JPEG file per class, uint8: its most typical super-voxels, then the photograph that shows most of it.

    Args:
        rooms: with S super-voxels in all.
        label: int64 [S], class of each, 0 .. ``count`` - 1.
        similarity: float32 [S], to the centre of the class.
        count: number of classes.
        images: photographs uint8 RGB [H, W, 3], each with the class of its tokens, int64 [h, w], -1 for none.
    """
    files = []
    for k in range(count):
        tiles = _supervoxels(rooms, label, similarity, k) + _photograph(images, k)
        picture = np.hstack([*tiles, *[np.full((SIDE, SIDE, 3), 255, np.uint8)] * (SHOWN + 1 - len(tiles))])
        files.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].ravel())
    return files


def _supervoxels(rooms: Sequence[Room], label: NDArray[np.int64], similarity: NDArray[np.float32], k: int) -> list[NDArray[np.uint8]]:
    """Pictures of the most typical super-voxels of class ``k``, from different rooms where it can be."""
    candidates = []  # (how often this room was before, -(typical and large), room, first super-voxel of the room, super-voxel)
    first = 0
    for place, room in enumerate(rooms):
        own = np.flatnonzero(label[first : first + len(room.token)] == k)
        worth = similarity[first + own] * np.log1p(room.size[own])
        for rank, index in enumerate(np.argsort(-worth, kind="stable")[:SHOWN]):
            candidates.append((rank, -float(worth[index]), place, first, int(own[index])))
        first += len(room.token)
    return [_drawn(rooms[place], label[at : at + len(rooms[place].token)] == k, own) for _, _, place, at, own in sorted(candidates)[:SHOWN]]


def _drawn(room: Room, of_class: NDArray[np.bool_], supervoxel: int) -> NDArray[np.uint8]:
    """A super-voxel in its surroundings, seen from where its surface faces; points of other classes are dimmed."""
    own = room.supervoxel == supervoxel
    centre = room.xyz[own].astype(np.float64).mean(axis=0)
    near = np.flatnonzero(np.square(room.xyz - centre).sum(axis=1) < AROUND**2)
    facing = room.normal[own].mean(axis=0)
    sensor = centre + 4 * facing / max(float(np.linalg.norm(facing)), 1e-6) + (0.5, 0.5, 2)
    rgb = room.rgb[near].astype(np.float32)
    other = ~of_class[room.supervoxel[near]]
    rgb[other] = _DIM * rgb[other] + (1 - _DIM) * 200
    config = ViewConfig(size=SIDE, fill=0.95)
    views = draw_views(room.xyz[near], room.normal[near], sensor, config)
    return paint_views(views, rgb.round().astype(np.uint8), room.normal[near], config)[0]


def _photograph(images: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]], k: int) -> list[NDArray[np.uint8]]:
    """The photograph that shows most of class ``k``, with the class painted over, a square of it; nothing where none shows it."""
    shares = [float((classes == k).mean()) for _, classes in images]
    if not shares or max(shares) == 0:
        return []
    image, classes = images[int(np.argmax(shares))]
    height, width = image.shape[:2]
    mask = cv2.resize((classes == k).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    painted = draw_overlay(image, np.asarray(mask, np.uint8), _PAINT)
    side = min(height, width)
    column = int(np.clip(np.flatnonzero(mask.any(axis=0)).mean() - side / 2, 0, width - side))
    row = int(np.clip(np.flatnonzero(mask.any(axis=1)).mean() - side / 2, 0, height - side))
    return [np.asarray(cv2.resize(painted[row : row + side, column : column + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)]
