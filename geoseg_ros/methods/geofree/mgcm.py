"""MGCM: what recurs in the images of a set, by channel, patch and global correlation (GeoFree-CoSeg, design 1).

F_c = F + FFN_1(N(F)); S = phi_q(F_c) phi_k(F_c)^T / sqrt(d); S^ = S + lambda Z phi_k(F_c)^T / sqrt(d); a mean of S^ is the score r of a
patch, from which come the mask M and the weights S-bar. The mean over a set is linear in it, so one vector per image replaces its
patches and the matrix over all pairs of patches is never formed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from geoseg_ros.methods.geofree.config import MgcmConfig
from geoseg_ros.methods.geofree.layers import zero_linear

MASK_CENTRE, MASK_WIDTH = 0.65, 0.15  # SCoSPARC, stage 1


class SetReference(NamedTuple):
    """What the images of a set leave behind: all that a further image needs.

    Attributes:
        mean: [V, D], mean over patches of the queries phi_q(F_c) + lambda Z, or of the keys phi_k(F_c) where the mean runs over keys.
        tokens: [V, T, D], the same patch by patch, for ``aggregate = max_per_image``; else [V, 0, D].
    """

    mean: torch.Tensor
    tokens: torch.Tensor


def squash(score: torch.Tensor) -> torch.Tensor:
    """Soft mask in 0 .. 1 of scores [V, n]: minimum to maximum of each row, then a steep sigmoid (SCoSPARC, stage 1)."""
    low, high = score.amin(1, keepdim=True), score.amax(1, keepdim=True)
    return torch.sigmoid(((score - low) / (high - low).clamp_min(1e-6) - MASK_CENTRE) / MASK_WIDTH)


def _standardised(score: torch.Tensor) -> torch.Tensor:
    """Scores [V, n] of mean 0 and variance 1 in each row."""
    return (score - score.mean(1, keepdim=True)) / score.std(1, correction=0, keepdim=True).clamp_min(1e-6)


class Mgcm(nn.Module):
    """Multi-grain correlation module.

    Args:
        dim: D2, width of a token.
    """

    def __init__(self, dim: int, config: MgcmConfig) -> None:
        super().__init__()
        self.config, self.dim = config, dim
        self.norm = nn.LayerNorm(dim)
        self.ffn1 = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), zero_linear(dim, dim))
        self.phi_q, self.phi_k = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def channels(self, tokens: torch.Tensor) -> torch.Tensor:
        """F_c [V, Np, D] of tokens F [V, Np, D]."""
        return tokens + self.ffn1(self.norm(tokens)) if self.config.channel_grain else tokens

    def queries(self, features: torch.Tensor, cls: torch.Tensor) -> torch.Tensor:
        """phi_q(F_c) + lambda Z [V, Np, D]: the rows of S^, whose second part is the same for all rows of an image."""
        vectors = self.phi_q(cls) if self.config.cls_through_q else cls
        return self.phi_q(features) + self.config.cls_weight * vectors[:, None]

    def reference(self, features: torch.Tensor, cls: torch.Tensor, keep: torch.Tensor | None = None) -> SetReference:
        """What is kept of images.

        Args:
            features: F_c [V, Np, D]. cls: Z [V, D].
            keep: int64 [V, T], the patches kept for ``max_per_image``; default: all.
        """
        tokens = self.queries(features, cls) if self.config.mean_axis == "query" else self.phi_k(features)
        mean = tokens.mean(1)
        if self.config.aggregate == "mean":
            tokens = tokens[:, :0]
        elif keep is not None:
            tokens = tokens.gather(1, keep[:, :, None].expand(-1, -1, tokens.shape[2]))
        return SetReference(mean, tokens)

    def correlate(
        self, features: torch.Tensor, cls: torch.Tensor, reference: SetReference | None = None, evidence: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, SetReference]:
        """Score r of every patch.

        Args:
            features: F_c [V, Np, D]. cls: Z [V, D].
            reference: of a set that the images do not belong to; None: they are the set themselves.
            evidence: of the patches [V, Np], for ``signal = contrast`` and ``both``.

        Returns:
            r [V, Np], and the reference used.
        """
        own = reference is None
        reference = self.reference(features, cls) if reference is None else reference
        probe = self.phi_k(features) if self.config.mean_axis == "query" else self.queries(features, cls)
        exclude = own and self.config.exclude_self and len(features) > 1
        count = len(reference.mean)
        if self.config.aggregate == "mean":
            others = (reference.mean.sum(0) - reference.mean) / (count - 1) if exclude else reference.mean.mean(0).expand(len(features), -1)
            score = (probe @ others[:, :, None])[:, :, 0]
        else:
            best = torch.stack([(probe @ tokens.T).max(2).values for tokens in reference.tokens], dim=2)  # [V, Np, images]
            score = (best.sum(2) - best.diagonal(dim1=0, dim2=2).T) / (count - 1) if exclude else best.mean(2)
        score = score / self.dim**0.5
        if self.config.signal == "correlation":
            return score, reference
        if evidence is None:
            raise ValueError(f"signal {self.config.signal}: expected images that bring evidence")
        return evidence if self.config.signal == "contrast" else _standardised(score) + _standardised(evidence), reference

    def mask(self, score: torch.Tensor) -> torch.Tensor:
        """Soft mask M [V, Np] in 0 .. 1 of scores r [V, Np]."""
        return torch.sigmoid(score) if self.config.squash == "sigmoid" else squash(score)

    def weights(self, score: torch.Tensor) -> torch.Tensor:
        """Common semantic weights S-bar [V, Np] of scores r [V, Np]; each row sums to 1."""
        if self.config.standardise:
            score = _standardised(score)
        return torch.softmax(score / self.config.tau_s, dim=1)

    @torch.no_grad()
    def flip(self) -> None:
        """Exchange foreground and background: every score changes its sign."""
        self.phi_k.weight.neg_()
        self.phi_k.bias.neg_()
