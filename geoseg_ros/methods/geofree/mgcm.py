"""MGCM, the multi-grain correlation module: finds patches that recur in the images of a set (GeoFree-CoSeg, design 1).

F_c = F + FFN_1(N(F)); S = phi_q(F_c) phi_k(F_c)^T / sqrt(d); S^ = S + lambda Z phi_k(F_c)^T / sqrt(d); the mean of S^ over the keys is
the score r of a patch. The mask M and the weights S-bar are computed from r. The mean over the keys is linear, so one mean key per image
is enough, and the matrix of all pairs of patches is never formed.
"""

from __future__ import annotations

import torch
from torch import nn

from geoseg_ros.methods.geofree.config import MgcmConfig

MASK_CENTRE, MASK_WIDTH = 0.65, 0.15  # SCoSPARC, stage 1


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts as the zero map: the last of a residual branch, so that the branch adds nothing before training."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def squash(score: torch.Tensor) -> torch.Tensor:
    """Soft mask [V, n], 0 .. 1, of scores [V, n]: min-max scaling of each row, then a steep sigmoid (SCoSPARC, stage 1)."""
    low, high = score.amin(1, keepdim=True), score.amax(1, keepdim=True)
    return torch.sigmoid(((score - low) / (high - low).clamp_min(1e-6) - MASK_CENTRE) / MASK_WIDTH)


class Mgcm(nn.Module):
    """Multi-grain correlation module.

    Args:
        dim: D2, width of a token.
        config: its settings.
    """

    def __init__(self, dim: int, config: MgcmConfig) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.norm = nn.LayerNorm(dim)
        self.ffn1 = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), zero_linear(dim, dim))
        self.phi_q, self.phi_k = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def channels(self, tokens: torch.Tensor) -> torch.Tensor:
        """F_c [V, Np, D] of tokens F [V, Np, D]."""
        return tokens + self.ffn1(self.norm(tokens))

    def reference(self, features: torch.Tensor) -> torch.Tensor:
        """Mean key [V, D] of images with F_c [V, Np, D]. Further images are scored against it, without the patches."""
        return self.phi_k(features).mean(1)

    def score(
        self, features: torch.Tensor, cls: torch.Tensor, reference: torch.Tensor | None = None, evidence: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Score r [V, Np] of every patch.

        Args:
            features: F_c [V, Np, D].
            cls: Z [V, D], global vectors.
            reference: [U, D], mean keys of the set, if the images do not belong to it; None: the images are the set.
            evidence: [V, Np], evidence of the patches; with ``signal`` = contrast it is the score.
        """
        if self.config.signal == "contrast":
            if evidence is None:
                raise ValueError("signal contrast: expected images that bring evidence")
            return evidence
        keys = self.reference(features) if reference is None else reference
        queries = self.phi_q(features) + self.config.cls_weight * cls[:, None]
        return (queries @ keys.mean(0).expand(len(features), -1)[:, :, None])[:, :, 0] / self.dim**0.5

    def mask(self, score: torch.Tensor) -> torch.Tensor:
        """Soft mask M [V, Np] in 0 .. 1 of scores r [V, Np]."""
        return torch.sigmoid(score) if self.config.squash == "sigmoid" else squash(score)

    def weights(self, score: torch.Tensor) -> torch.Tensor:
        """Common semantic weights S-bar [V, Np] of scores r [V, Np]; each row sums to 1."""
        if self.config.standardise:
            score = (score - score.mean(1, keepdim=True)) / score.std(1, correction=0, keepdim=True).clamp_min(1e-6)
        return torch.softmax(score / self.config.tau_s, dim=1)
