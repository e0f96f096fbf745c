"""Training images: listed, loaded, cropped and disturbed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.folders import IMAGE_SUFFIXES, read_image

Image = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""

GREY = 128  # of the background of virtual views


def list_images(folders: Sequence[str | Path]) -> list[Path]:
    """Every image file below the folders, sorted within each. Raises InputError where a folder is absent or holds none."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected one with images")
        inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        if not inside:
            raise InputError(f"{folder}: no images; expected {', '.join(IMAGE_SUFFIXES)}")
        found += inside
    return found


def load_image(path: str | Path, max_side: int) -> Image:
    """The image of a file, its longer side at most ``max_side``. Raises InputError where it cannot be decoded."""
    image = read_image(path)
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def random_view(image: Image, side: int, rng: np.random.Generator) -> Image:
    """The view for teacher and student: a random crop, at random mirrored or on flat grey, uint8 [side, side, 3]."""
    height, width = image.shape[:2]
    area, aspect = rng.uniform(0.15, 1.0), math.exp(rng.uniform(-0.3, 0.3))
    h = int(np.clip(round(math.sqrt(area / aspect) * height), 16, height))
    w = int(np.clip(round(math.sqrt(area * aspect) * width), 16, width))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    view = cv2.resize(image[y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_AREA if h > side else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        view = view[:, ::-1]
    if rng.random() < 0.35:  # a cut-out: keep a smooth random blob, the rest as flat as the background of a virtual view
        axis = np.linspace(-1, 1, side, dtype=np.float32)
        blob = cv2.resize(rng.normal(0, 0.35, (5, 5)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        a, b = rng.uniform(0.5, 1.1, 2)
        view = np.where(((axis[:, None] / a) ** 2 + (axis / b) ** 2 + blob < 1)[:, :, None], view, GREY)
    return np.ascontiguousarray(view, np.uint8)


def disturb(view: Image, rng: np.random.Generator) -> Image:
    """Changes for the student's view only: of colour, contrast and sharpness, and towards shaded geometry."""
    pixels = view.astype(np.float32)
    background = (view == GREY).all(2, keepdims=True)
    if rng.random() < 0.25:  # like shaded geometry: no colour, little texture
        pixels = np.repeat(pixels @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
        if rng.random() < 0.5:
            size = 2 * int(rng.integers(1, 4)) + 1
            pixels = np.repeat(cv2.medianBlur(pixels[:, :, 0].astype(np.uint8), size)[:, :, None].astype(np.float32), 3, axis=2)
    elif rng.random() < 0.6:
        grey = pixels.mean(2, keepdims=True)
        pixels = grey + (pixels - grey) * rng.uniform(0.4, 1.6)
        pixels = pixels * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.6:
        pixels = (pixels - 127.5) * rng.uniform(0.6, 1.4) + 127.5 + rng.uniform(-30, 30)
    if rng.random() < 0.15:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
    if rng.random() < 0.2:
        pixels = pixels + rng.normal(0, rng.uniform(2, 10), pixels.shape).astype(np.float32)
    return np.where(background, GREY, pixels.clip(0, 255)).astype(np.uint8)


def square(image: Image, side: int) -> Image:
    """The central square, resized to [side, side, 3]."""
    short = min(image.shape[:2])
    y, x = ((s - short) // 2 for s in image.shape[:2])
    return np.asarray(cv2.resize(image[y : y + short, x : x + short], (side, side), interpolation=cv2.INTER_AREA), np.uint8)
