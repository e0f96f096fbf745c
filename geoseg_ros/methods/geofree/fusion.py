"""The exchange between both branches: GCSF, a sparse graph of points and patches, and SFE, attention with this graph as its prior.

GCSF: S = cos(F^3D, F~2D); for each row only its top K edges count fully, the others keep a small constant; Z = softmax over the row.
SFE: A~ = softmax(A + alpha Z) (posterior ~ likelihood x prior, so log Z in the preset ``views``); F^PI = FFN(phi_p(A~ v) + F^^);
F~ = MLP(F + lambda F^PI). (GeoFree-CoSeg, designs 2 and 3.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.methods.geofree.config import GcsfConfig, SfeConfig
from geoseg_ros.methods.geofree.mgcm import zero_linear

MOST_ALPHA = 4.0  # upper bound of the weight of the prior; the lower is 0


class SharedSpace(nn.Module):
    """Projections of points and patches into one space of width ds.

    Args:
        point_dim: D3, width of point features.
        patch_dim: D2, width of tokens.
        config: settings of the graph.
    """

    def __init__(self, point_dim: int, patch_dim: int, config: GcsfConfig) -> None:
        super().__init__()
        self.config = config
        if config.points == "coordinates":
            self.point = nn.Sequential(nn.Linear(point_dim, config.width), nn.LayerNorm(config.width))
        linear = nn.Linear(patch_dim, config.width)
        self.patch = nn.Sequential(linear, nn.LayerNorm(config.width))
        self.refine = nn.Linear(config.width + 1, config.width)
        if config.points == "views":  # tokens of points and patches are comparable, and the projection must keep them so
            nn.init.orthogonal_(linear.weight)
            nn.init.zeros_(linear.bias)
            nn.init.eye_(self.refine.weight)
            nn.init.zeros_(self.refine.bias)

    def points(self, features: torch.Tensor, view_tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Project points into the shared space.

        Args:
            features: F^3D_f [B, N, D3].
            view_tokens: F_c [B, N, D2] of the tokens of the points in views; used instead of the features with ``points`` = views.

        Returns:
            F^^3D [B, N, ds].
        """
        if self.config.points == "coordinates":
            return self.point(features)
        if view_tokens is None:
            raise ValueError("points: expected tokens of views beside the coordinates")
        return self.patch(view_tokens)

    def patches(self, features: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Project patches into the shared space.

        Args:
            features: F_c [V, Np, D2].
            weights: S-bar [V, Np]. They are multiplied by Np, so that their mean is 1 and they have the size of the other channels.

        Returns:
            F^^2D and F~2D = Conv([F^^2D ; S-bar]), [V, Np, ds] each.
        """
        projected = self.patch(features)
        scaled = weights[:, :, None] * weights.shape[1]
        return projected, self.refine(torch.cat([projected, scaled], dim=2))


def similarity(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Cosine [B, R, C] of rows [B, R, ds] with columns [B, C, ds]."""
    return F.normalize(rows, dim=2) @ F.normalize(columns, dim=2).transpose(1, 2)


@torch.no_grad()
def kept_edges(scores: torch.Tensor, blocks: int, k: int) -> torch.Tensor:
    """bool [B, R, C]: the top K of each row of S [B, R, C] in each of ``blocks`` equal runs of columns (images or clouds)."""
    grouped = scores.unflatten(2, (blocks, -1))
    top = grouped.topk(min(k, grouped.shape[3]), dim=3).indices
    return torch.zeros_like(grouped, dtype=torch.bool).scatter_(3, top, True).flatten(2)


def log_association(scores: torch.Tensor, blocks: int, config: GcsfConfig) -> torch.Tensor:
    """log Z [B, R, C] of similarities S [B, R, C]; the graph is chosen without gradient, S keeps its own."""
    kept = kept_edges(scores, blocks, config.k)
    if config.mask_mode == "paper":
        masked = torch.where(kept, scores, config.epsilon * scores)
    else:
        masked = torch.where(kept, scores, scores + math.log(config.epsilon))
    return torch.log_softmax(masked.float() / config.tau_z, dim=2)


def prior_term(log_z: torch.Tensor, mode: str) -> torch.Tensor:
    """The term [B, R, C] that alpha multiplies, from log Z [B, R, C]. In the mode ``log`` a uniform Z gives 0, by the addend log C."""
    return log_z + math.log(log_z.shape[2]) if mode == "log" else log_z.exp()


class GraphAttention(nn.Module):
    """One direction of the fusion: rows (points or patches) attend to columns (patches or points).

    The last layer of the FFN starts at zero, so that the untrained branches exchange nothing.

    Args:
        width: ds, width of rows and columns.
        config: settings of the fusion.
    """

    alpha: torch.Tensor

    def __init__(self, width: int, config: SfeConfig) -> None:
        super().__init__()
        self.config = config
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.phi_p = nn.Linear(width, width)
        alpha = torch.tensor(float(config.alpha))
        if config.alpha_learnable:
            self.alpha = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha)
        last = zero_linear(2 * width, width)
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), last)

    def attend(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor) -> torch.Tensor:
        """A~ v [B, R, ds] of rows [B, R, ds], columns [B, C, ds] and log Z [B, R, C] (the same prior for every head)."""
        heads = self.config.heads
        q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (self.query(rows), self.key(columns), self.value(columns)))
        bias = (self.alpha * prior_term(log_z, self.config.prior_mode)).to(q.dtype)[:, None].expand(-1, heads, -1, -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)

    def forward(self, rows: torch.Tensor, columns: torch.Tensor, log_z: torch.Tensor) -> torch.Tensor:
        """F^PI (or F^IP) [B, R, ds]; arguments as in :meth:`attend`."""
        return self.ffn(self.phi_p(self.attend(rows, columns, log_z)) + rows)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp alpha to its bounds. Call it after each optimiser step."""
        self.alpha.clamp_(0.0, MOST_ALPHA)


class Enhance(nn.Module):
    """F~ = MLP(F + lambda U F^fused): a residual perceptron. Its last layer starts at zero, so that it starts as the identity.

    Args:
        dim: width of F.
        width: width of F^fused.
        scale: lambda.
    """

    scale: torch.Tensor

    def __init__(self, dim: int, width: int, scale: float) -> None:
        super().__init__()
        # U does not start at zero: the last layer of the attention does, and with two zeros neither would get a gradient
        self.up = nn.Linear(width, dim, bias=False) if dim != width else nn.Identity()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), zero_linear(dim, dim))

    def forward(self, features: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
        """Enhanced features [B, R, dim] of features [B, R, dim] and fused [B, R, width]."""
        x = features + self.scale * self.up(fused)
        return x + self.mlp(x)
