"""Transformers over sampled points: within a scene, and across the scenes of a batch (Kang et al., CVPR 2024, section 3.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.methods.hicl.config import AttentionConfig

_BANDS = 6  # frequencies of the place code, from one period in 8 m on


class Layer(nn.Module):
    """x + attention, then x + perceptron, each after a layer norm (Dosovitskiy et al., ICLR 2021). [B, M, D] -> [B, M, D]."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # fused: the scores of all pairs of points are never stored
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.between(x))


class Correlation(nn.Module):
    """Aggregated features of sampled points: layers within each scene, then layers over the points of all scenes. Without layers the
    features stay as they are.

    Args:
        width: D of the features.
    """

    def __init__(self, width: int, config: AttentionConfig) -> None:
        super().__init__()
        heads = math.gcd(width, config.heads)
        self.intra, self.inter = (
            nn.Sequential(*(Layer(width, heads, config.ratio) for _ in range(int(count)))) for count in (config.intra, config.inter)
        )
        self.place = nn.Linear(6 * _BANDS, width) if config.place and config.intra else None

    def forward(self, features: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Features [B, M, D] of points at ``xyz`` [B, M, 3], metres, to aggregated ones [B, M, D]."""
        if self.place is not None:
            waves = 2 * math.pi / 8 * 2.0 ** torch.arange(_BANDS, device=xyz.device)
            angle = (xyz[..., None] * waves).flatten(2)
            features = features + self.place(torch.cat([angle.sin(), angle.cos()], 2))
        features = self.intra(features)
        if not len(self.inter):
            return features
        return self.inter(features.flatten(0, 1)[None])[0].unflatten(0, features.shape[:2])
