"""PointNet's shared multi-layer perceptron (Qi et al., CVPR 2017), as SampleNet (Lang et al., CVPR 2020) uses it."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 64, 64, 128, 256)


class SharedMlp(nn.Module):
    """Linear, batch normalisation and rectifier, the same for every point; each layer keeps nothing but the point itself."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(widths, widths[1:], strict=False))
        self.norm = nn.ModuleList(nn.BatchNorm1d(b) for b in widths[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [..., widths[0]] -> [..., widths[-1]]; statistics over all leading axes."""
        flat = x.reshape(-1, x.shape[-1])
        for linear, norm in zip(self.linear, self.norm, strict=True):
            flat = torch.relu(norm(linear(flat)))
        return flat.reshape(*x.shape[:-1], flat.shape[-1])


class PointNet(nn.Module):
    """Per-point features before the pooling: 3-64-64-64-128-256.

    Attributes:
        dim: width D3 of a point feature.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.dim = widths[-1]
        self.mlp = SharedMlp((3, *widths))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Points [B, N, 3] in the unit sphere -> features [B, N, D3]."""
        return self.mlp(points)
