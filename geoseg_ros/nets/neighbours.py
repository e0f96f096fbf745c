"""k nearest neighbours of batches of small point sets, differentiable through the gathered values (numpy clouds: ``geometry``)."""

from __future__ import annotations

import torch


def square_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances of a [B, Q, C] to b [B, N, C]: [B, Q, N], >= 0. One matrix product; float32 also for half inputs."""
    a, b = a.float(), b.float()
    cross = torch.baddbmm(a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None], a, b.transpose(1, 2), alpha=-2)
    return cross.clamp_min(0)


def nearest(query: torch.Tensor, points: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the k nearest of ``points`` [B, N, C] to each of ``query`` [B, Q, C]: int64 [B, Q, min(k, N)], ascending distance."""
    with torch.no_grad():
        return square_distances(query, points).topk(min(k, points.shape[1]), dim=2, largest=False).indices


def gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of ``values`` [B, N, C] at ``index`` [B, Q, k]: [B, Q, k, C]."""
    batch, count, channels = values.shape
    rows = index + count * torch.arange(batch, device=index.device)[:, None, None]
    # index_select, not indexing: its backward is an index_add, many times quicker on the processor
    return values.reshape(batch * count, channels).index_select(0, rows.reshape(-1)).reshape(*index.shape, channels)
