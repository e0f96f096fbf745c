"""Tokens of photographs and virtual views. The backbone runs on its device; the tokens are returned on the processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone

LEAST_SIDE = 224  # pixels; smaller photographs are enlarged to this


class Domain(str, Enum):
    """How a cloud is drawn: COLOUR: in colour and as shaded geometry; SHADED: as shaded geometry only."""

    COLOUR = "colour"
    SHADED = "shaded"


def unit(tokens: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [..., D] with the bank's ``mean`` [D] subtracted, scaled to unit length."""
    return torch.nn.functional.normalize(tokens if mean is None else tokens - mean, dim=-1)


def working_size(height: int, width: int, side: int, stride: int) -> tuple[int, int]:
    """(height, width) near ``side`` for the longer side, same aspect, both multiples of ``stride`` and at least 2 strides."""
    scale = side / max(height, width)
    return max(2, round(height * scale / stride)) * stride, max(2, round(width * scale / stride)) * stride


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] resized; area averaging when it shrinks."""
    shrink = height * width < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR), np.uint8)


def photo_tokens(
    backbone: ImageBackbone, image: NDArray[np.uint8], side: int, scale: float = 1.0
) -> tuple[torch.Tensor, NDArray[np.uint8]]:
    """Tokens [h, w, D] of one photograph, and the resized photograph itself.

    The longer side is reduced to ``side`` pixels, or enlarged to 224 where it is smaller, then multiplied by ``scale``.
    """
    side = round(min(side, max(*image.shape[:2], LEAST_SIDE)) * scale)
    height, width = working_size(image.shape[0], image.shape[1], side, backbone.stride)
    small = resize(image, height, width)
    return backbone.tokens(small[None])[0][0].cpu(), small


def view_tokens(backbone: ImageBackbone, images: Iterable[NDArray[np.uint8]], batch: int = 32) -> torch.Tensor:
    """Tokens [V, h, w, D] of virtual views, ``batch`` of them in one run of the network.

    Args:
        images: parts uint8 [., S, S, 3] of the V >= 1 views, made in a separate thread while the network runs.
    """
    waiting = _in_batches(images, batch)
    tokens = []
    with ThreadPoolExecutor(1, "draw") as pool:
        part = next(waiting, None)
        while part is not None:
            following = pool.submit(next, waiting, None)
            tokens.append(backbone.tokens(part)[0].cpu())
            part = following.result()
    return torch.cat(tokens)


def token_coverage(index: NDArray[np.int32], grid: tuple[int, int]) -> torch.Tensor:
    """Coverage [V, h, w] of the tokens of views, the share of each token's pixels that show the object.

    Args:
        index: int32 [V, S, S], -1 = background.
        grid: (h, w).
    """
    shown = torch.from_numpy((index >= 0).astype(np.float32))
    return torch.nn.functional.adaptive_avg_pool2d(shown[:, None], grid)[:, 0]


def _in_batches(parts: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    """The rows of all parts, ``size`` at a time, and the rest."""
    kept: list[NDArray[np.uint8]] = []
    for part in parts:
        kept.append(part)
        while sum(map(len, kept)) >= size:
            rows = np.concatenate(kept)
            yield rows[:size]
            kept = [rows[size:]]
    if sum(map(len, kept)):
        yield np.concatenate(kept)
