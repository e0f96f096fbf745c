"""From pictures to unit tokens, comparable across photographs and virtual views."""

from __future__ import annotations

from enum import Enum

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.features.backbone import ImageBackbone


class Domain(str, Enum):
    """What a cloud can be drawn with: its colour and its shape (both are looked at), or its shape alone."""

    COLOUR = "colour"
    SHADED = "shaded"


def unit(tokens: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [..., D] with the bank's ``mean`` [D] removed, scaled to length 1."""
    return torch.nn.functional.normalize(tokens if mean is None else tokens - mean, dim=-1)


def working_size(height: int, width: int, side: int, stride: int) -> tuple[int, int]:
    """(height, width) near ``side`` for the longer side, same aspect, both multiples of ``stride`` and at least 2 strides."""
    scale = side / max(height, width)
    return tuple(max(2, round(length * scale / stride)) * stride for length in (height, width))  # type: ignore[return-value]


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """RGB image [H, W, 3] resized; area averaging when it shrinks."""
    shrink = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def photo_tokens(backbone: ImageBackbone, image: NDArray[np.uint8], side: int) -> tuple[torch.Tensor, NDArray[np.uint8]]:
    """Tokens [h, w, D] of one photograph at ``side`` pixels, and the resized photograph itself."""
    small = resize(image, *working_size(*image.shape[:2], side, backbone.stride))
    return backbone.tokens(small[None])[0][0], small


def view_tokens(
    backbone: ImageBackbone, images: NDArray[np.uint8], index: NDArray[np.int32], batch: int = 32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of virtual views.

    Args:
        images: uint8 [V, S, S, 3]. index: int32 [V, S, S], -1 = background.

    Returns:
        tokens [V, h, w, D] and coverage [V, h, w], the share of each token's pixels that show the object.
    """
    tokens = torch.cat([backbone.tokens(images[i : i + batch])[0] for i in range(0, len(images), batch)])
    seen = torch.from_numpy((index >= 0).astype(np.float32))
    return tokens, torch.nn.functional.adaptive_avg_pool2d(seen[:, None], tokens.shape[1:3])[:, 0].to(tokens.device)
