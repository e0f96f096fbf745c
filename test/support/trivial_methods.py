"""Results that need no method, as a lower bound for what is measured."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray


def colour_and_place(image: NDArray[np.uint8]) -> torch.Tensor:
    """What any backbone has to beat: mean colour and position of cells of 16 x 16 pixels, [h, w, 5]."""
    grid = (image.shape[1] // 16, image.shape[0] // 16)
    place = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, grid[0]), np.linspace(-0.5, 0.5, grid[1])), -1)
    colour = cv2.resize(image, grid, interpolation=cv2.INTER_AREA) / 255
    return torch.from_numpy(np.concatenate([colour, place], -1)).float()


def trivial_scores(truths: Sequence[NDArray[np.uint8]], families: Sequence[NDArray[np.int16]]) -> dict[str, float]:
    """Micro IoU of two masks that need no method; where one of them is high, the set is too easy.

    Args:
        truths: of each item, 1 = wanted.
        families: of each item, 0 = floor, walls and fittings.

    Returns:
        "all": everything is foreground; "not_room": everything but floor, walls and fittings (a perfect plane removal).
    """
    wanted = sum(int(t.sum()) for t in truths)
    everything = sum(t.size for t in truths)
    objects = sum(int(np.count_nonzero(f)) for f in families)
    return {"all": wanted / max(everything, 1), "not_room": wanted / max(objects, 1)}
