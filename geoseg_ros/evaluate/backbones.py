"""Comparison of backbones without labels: speed, and how reliably the token of a position is matched in a changed image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.learning.distillation import teacher_tokens
from geoseg_ros.learning.image_views import Image, disturb, square

SIDE = 160  # pixels, of the images whose positions are matched: 10 x 10 positions
MOST = 48  # images
SPEEDS = ((1, 224), (8, 128))  # batch and side of images: a small photograph, virtual views


@dataclass(frozen=True)
class BackboneScore:
    """Figures of one backbone.

    Attributes:
        name, stride, dim: of the backbone.
        milliseconds: per image, medians, for each of :data:`SPEEDS`.
        known_again: share of matched positions, see :func:`known_again`.
    """

    name: str
    stride: int
    dim: int
    milliseconds: tuple[float, ...]
    known_again: float


@torch.no_grad()
def known_again(backbone: ImageBackbone, images: Sequence[Image], seed: int = 0) -> float:
    """Share of matched positions: those of changed images whose nearest token (cosine, mean subtracted) among the tokens of all original
    images is of the same position or a neighbouring one.

    The changes of colour, contrast and sharpness are those of the distillation, with which the student was trained and its teacher was not.
    Tokens are compared on a grid of stride 16, whatever the stride of the backbone.

    Args:
        backbone: the image backbone.
        images: uint8 RGB [H, W, 3], not used in training; at most 48, evenly spread, are taken.
        seed: of the changes.
    """
    rng = np.random.default_rng(seed)
    chosen = [images[k * len(images) // min(MOST, len(images))] for k in range(min(MOST, len(images)))]
    clean = np.stack([square(image, SIDE) for image in chosen])
    disturbed = np.stack([disturb(view, rng) for view in clean])
    reference, query = (teacher_tokens(backbone, views) for views in (clean, disturbed))
    mean = reference.mean((0, 1, 2))
    rows, columns = reference.shape[1:3]
    flat = [F.normalize(tokens - mean, dim=-1).flatten(0, 2) for tokens in (query, reference)]
    nearest = torch.cat([(part @ flat[1].T).argmax(1) for part in flat[0].split(2048)])

    def place(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return index // (rows * columns), index // columns % rows, index % columns

    (picture, y, x), (found, v, u) = place(torch.arange(len(nearest))), place(nearest)
    return ((picture == found) & ((y - v).abs() <= 1) & ((x - u).abs() <= 1)).float().mean().item()


def milliseconds(backbone: ImageBackbone, count: int, side: int, runs: int = 5) -> float:
    """Median time per image, milliseconds, over ``runs`` batches of ``count`` images; their side is rounded to the backbone's stride."""
    side = max(1, round(side / backbone.stride)) * backbone.stride
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    times = []
    for run in range(runs + 1):
        start = time.perf_counter()
        backbone.tokens(images)
        if run:  # the first one warms up
            times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)) / count


def score(backbone: ImageBackbone, images: Sequence[Image]) -> BackboneScore:
    """Speed and quality of one backbone; ``images`` as for :func:`known_again`."""
    times = tuple(round(milliseconds(backbone, count, side), 2) for count, side in SPEEDS)
    return BackboneScore(backbone.name, backbone.stride, backbone.dim, times, round(known_again(backbone, images), 4))
