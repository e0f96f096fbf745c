"""A teacher, a small student and pictures for distillation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.tiny import TinyConfig


class Teacher:
    """Mean colours of the four quarters of a token and their products; ``stride`` pixels per token."""

    name, hash, supervision = "toy", "0", "none"

    def __init__(self, stride=16):
        self.stride, self.dim = stride, 3 * 4 + 12

    def tokens(self, images):
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 128 - 1
        quarters = F.pixel_unshuffle(F.avg_pool2d(pixels, self.stride // 2), 2).permute(0, 2, 3, 1)
        tokens = torch.cat([quarters, quarters * quarters.roll(1, -1)], -1)
        return tokens, tokens.mean((1, 2))


def small_student() -> TinyConfig:
    """Shape of a student that trains in a second."""
    return TinyConfig(widths=(8, 16, 16, 32), depths=(1, 1, 1), dim=8)


def write_photos(folder: Path) -> Path:
    """Twelve smooth pictures in two folders below ``folder``."""
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / str(i % 2) / f"{i}.png"), cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC))
    return folder
