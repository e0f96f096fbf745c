"""Tokens of rendered views, carried back to the points that the views show."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def lift_tokens(tokens: torch.Tensor, index: NDArray[np.int32], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token of every point over the pixels that show it.

    Args:
        tokens: [V, h, w, D] of V rendered views.
        index: int32 [V, H, W], the point that each pixel of the same views shows, -1 for none.
        count: number of points n.

    Returns:
        Features [n, D], zeros for points that no pixel shows, and which points are shown, bool [n].
    """
    views, rows, columns, dim = tokens.shape
    view, y, x = np.nonzero(index >= 0)
    cell = (view * rows + y * rows // index.shape[1]) * columns + x * columns // index.shape[2]
    cells = max(views * rows * columns, 1)
    pairs, pixels = np.unique(index[view, y, x].astype(np.int64) * cells + cell, return_counts=True)
    point, row = (torch.from_numpy(a).to(tokens.device) for a in np.divmod(pairs, cells))
    weight = torch.from_numpy(pixels).to(tokens.device, tokens.dtype)
    total = tokens.new_zeros(count).index_add_(0, point, weight)
    features = tokens.new_zeros(count, dim).index_add_(0, point, tokens.reshape(-1, dim)[row] * weight[:, None])
    return features / total.clamp_min(1)[:, None], total > 0
