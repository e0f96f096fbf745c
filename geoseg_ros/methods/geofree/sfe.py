"""SFE: attention between the modalities with the graph as its prior, and what each branch takes from it (GeoFree-CoSeg, design 3).

A~ = softmax(A + alpha Z) (posterior ~ likelihood x prior, so log Z by default); F^PI = FFN(phi_p(A~ v) + F^^); F~ = MLP(F + lambda F^PI).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.methods.geofree.config import SfeConfig
from geoseg_ros.methods.geofree.layers import zero_linear


def prior_term(log_z: torch.Tensor, mode: str) -> torch.Tensor:
    """What alpha multiplies, [B, R, C] of log Z [B, R, C]. log C centres the ``log`` mode, so that a uniform Z adds 0."""
    if mode == "log":
        return log_z + math.log(log_z.shape[2])
    return log_z.exp() * (log_z.shape[2] if mode == "scaled" else 1)


class GraphAttention(nn.Module):
    """One direction of the fusion: rows (points or patches) take from columns (patches or points).

    With ``start = zero`` the last layer of the FFN starts at zero: before training nothing is taken, and the branches are what they are
    alone.
    """

    alpha: torch.Tensor

    def __init__(self, width: int, config: SfeConfig) -> None:
        super().__init__()
        self.config = config
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        if config.compare == "identity":
            for projection in (self.query, self.key):
                nn.init.eye_(projection.weight)
                nn.init.zeros_(projection.bias)
        self.phi_p = nn.Linear(width, width)
        alpha = torch.tensor(float(config.alpha))
        if config.alpha_learnable:
            self.alpha = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha)
        last = zero_linear(2 * width, width) if config.start == "zero" else nn.Linear(2 * width, width)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), last)

    def attend(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor) -> torch.Tensor:
        """A~ v [B, R, ds] of rows [B, R, ds], columns [B, C, ds] and log Z [B, R, C] (the same prior for every head)."""
        if self.config.fusion == "graph":
            return log_z.exp() @ self.value(columns)
        return self._heads(rows, columns, log_z, self._split(self.value(columns))).transpose(1, 2).flatten(2)

    def share(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """sum_j A~_ij M_j [B, R], A~ averaged over the heads, of the columns' mask M [B, C]; the others as in :meth:`attend`."""
        value = mask[:, None, :, None].to(rows.dtype).expand(-1, self.config.heads, -1, -1)
        return self._heads(rows, columns, log_z, value).mean(1)[:, :, 0]

    def _heads(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """A~ times values [B, h, C, E] -> [B, h, R, E]."""
        q, k = self._split(self.query(rows)), self._split(self.key(columns))
        scale = None  # 1 / sqrt(d)
        if self.config.attention == "cosine":
            q, k, scale = F.normalize(q, dim=3), F.normalize(k, dim=3), q.shape[3] ** 0.5
        bias = (self.alpha * prior_term(log_z, self.config.prior_mode)).to(q.dtype)[:, None].expand(-1, self.config.heads, -1, -1)
        return F.scaled_dot_product_attention(q, k, values, attn_mask=bias, scale=scale)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.config.heads, -1)).transpose(1, 2)

    def forward(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor) -> torch.Tensor:
        """F^PI (or F^IP) [B, R, ds]; arguments as in :meth:`attend`."""
        return self.combine(rows, self.attend(rows, columns, log_z))

    def combine(self, rows: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """F^PI [B, R, ds] of rows and A~ v, [B, R, ds] each."""
        taken = self.phi_p(attended)
        if self.config.residual == "standardised":
            taken = taken - taken.mean(1, keepdim=True)
            taken = taken / taken.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-3)
        return self.ffn(taken + rows)

    @torch.no_grad()
    def constrain(self) -> None:
        """Put alpha back into its bounds; to be called after each optimiser step."""
        self.alpha.clamp_(0.0, self.config.alpha_max)


class Enhance(nn.Module):
    """F~ = MLP(F + lambda U F^fused): a residual perceptron whose last layer starts at zero, so that it starts as the identity.

    Args:
        dim: of F. width: of F^fused. scale: lambda.
    """

    scale: torch.Tensor

    def __init__(self, dim: int, width: int, scale: float, learnable: bool) -> None:
        super().__init__()
        # U is not zeroed: with the zero of the attention's last layer in front of it neither would ever see a gradient
        self.up = nn.Linear(width, dim, bias=False) if dim != width else nn.Identity()
        value = torch.tensor(float(scale))
        if learnable:
            self.scale = nn.Parameter(value)
        else:
            self.register_buffer("scale", value)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), zero_linear(dim, dim))

    def forward(self, features: torch.Tensor, fused: torch.Tensor | None) -> torch.Tensor:
        """Enhanced features [B, R, dim] of features [B, R, dim] and fused [B, R, width] (None: nothing was fused)."""
        x = features if fused is None else features + self.scale * self.up(fused)
        return x + self.mlp(x)
