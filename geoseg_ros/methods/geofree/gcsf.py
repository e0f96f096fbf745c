"""GCSF: a sparse graph between points and patches in a shared space (GeoFree-CoSeg, design 2).

S = cos(F^3D, F~2D); for each row only its top K edges count fully, the others keep a small constant; Z = softmax over the row.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.methods.geofree.config import GcsfConfig

NOTHING = 1e-30  # stands for an epsilon of 0: its logarithm is finite
LEAST_EVIDENCE = 1e-3  # no patch is ruled out by its mask alone


class SharedSpace(nn.Module):
    """Projections of points and patches to the shared width ds.

    Args:
        point_dim: D3. patch_dim: D2.
    """

    def __init__(self, point_dim: int, patch_dim: int, config: GcsfConfig) -> None:
        super().__init__()
        self.config = config
        if config.points != "views":
            self.point = nn.Sequential(nn.Linear(point_dim, config.width), nn.LayerNorm(config.width))
        linear = nn.Linear(patch_dim, config.width)
        self.patch = nn.Sequential(linear, nn.LayerNorm(config.width))
        self.refine = nn.Linear(config.width + 1, config.width)
        if config.points != "coordinates":  # what is comparable before the projection must be so after it
            nn.init.orthogonal_(linear.weight)
            nn.init.zeros_(linear.bias)
            nn.init.eye_(self.refine.weight)
            nn.init.zeros_(self.refine.bias)

    def points(self, features: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """F^3D_f [B, N, D3], and F_c of what the views show [B, N, D2] where points are compared by it, -> F^^3D [B, N, ds]."""
        if self.config.points == "coordinates":
            return self._centred(self.point(features))
        if seen is None:
            raise ValueError("points: expected tokens of views beside the coordinates")
        shown = self.patch(seen)
        return self._centred(shown if self.config.points == "views" else shown + self.point(features))

    def _centred(self, features: torch.Tensor) -> torch.Tensor:
        return features - features.mean(1, keepdim=True) if self.config.centre else features

    def patches(self, features: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """F_c [V, Np, D2] and S-bar [V, Np] -> F^^2D and F~2D = Conv([F^^2D ; S-bar]), [V, Np, ds] each.

        S-bar is multiplied by Np: of mean 1 it is of the size of the other channels.
        """
        projected = self._centred(self.patch(features))
        scaled = weights[:, :, None] * weights.shape[1]
        return projected, self.refine(torch.cat([projected, scaled], dim=2))


def similarity(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Cosine [B, R, C] of rows [B, R, ds] with columns [B, C, ds]."""
    return F.normalize(rows, dim=2) @ F.normalize(columns, dim=2).transpose(1, 2)


@torch.no_grad()
def kept_edges(scores: torch.Tensor, blocks: int, config: GcsfConfig) -> torch.Tensor:
    """bool [B, R, C]: the top K of each row of S [B, R, C], in each of ``blocks`` equal runs of columns where ``k_per_image``."""
    grouped = scores.unflatten(2, (blocks, -1) if config.k_per_image else (1, -1))
    top = grouped.topk(min(config.k, grouped.shape[3]), dim=3).indices
    return torch.zeros_like(grouped, dtype=torch.bool).scatter_(3, top, True).flatten(2)


def log_association(scores: torch.Tensor, blocks: int, config: GcsfConfig, evidence: torch.Tensor | None = None) -> torch.Tensor:
    """log Z [B, R, C] of similarities S [B, R, C]; the graph is chosen without gradient, S keeps its own.

    Args:
        evidence: of the columns [B, C], 0 .. 1, the prior of the edges with ``evidence = edges``.
    """
    kept = kept_edges(scores, blocks, config)
    if config.mask_mode == "paper":
        masked = torch.where(kept, scores, config.epsilon * scores)
    else:
        masked = torch.where(kept, scores, scores + math.log(max(config.epsilon, NOTHING)))
    logits = masked.float() / config.tau_z
    if config.evidence == "edges" and evidence is not None:
        logits = logits + evidence.clamp_min(LEAST_EVIDENCE).log()[:, None]
    return torch.log_softmax(logits, dim=2)
