"""Foreground and background samplers (Yang et al., ICCV 2021) on SampleNet's soft projection (Lang et al., CVPR 2020).

A sampler computes a feature for every point of a cloud, combines it with the features of partner clouds (mutual attention), and chooses m
points Q ("simplified"). Soft projection moves them onto the cloud, which gives the points R ("projected").
"""

from __future__ import annotations

import torch
from torch import nn

from geoseg_ros.methods.geofree.config import SamplerConfig
from geoseg_ros.nets.neighbours import gather, nearest
from geoseg_ros.nets.pointnet import PointNet, SharedMlp


class SoftProjection(nn.Module):
    """R(q) = sum_i w_i p_i over the k nearest points p_i of q, w_i = softmax(-|p_i - q|^2 / sigma), sigma = max(t^2, sigma_min)."""

    def __init__(self, group: int, sigma_min: float) -> None:
        super().__init__()
        self.group, self.sigma_min = group, sigma_min
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def sigma(self) -> torch.Tensor:
        """Squared distance at which the weight of a neighbour is 1/e, a scalar. It is also the projection loss L_proj."""
        return self.temperature.square().clamp_min(self.sigma_min)

    def forward(self, queries: torch.Tensor, points: torch.Tensor, log_share: torch.Tensor | None = None) -> torch.Tensor:
        """Project queries onto a cloud.

        Args:
            queries: Q [B, m, 3].
            points: P [B, N, 3].
            log_share: [B, N], logarithm of a further weight of each point; through it gradients reach the scores that chose the queries.

        Returns:
            R [B, m, 3], inside the convex hull of the neighbours.
        """
        index = nearest(queries, points, self.group)
        neighbours = gather(points, index)
        logits = -(neighbours - queries[:, :, None]).square().sum(3) / self.sigma()
        if log_share is not None:
            logits = logits + gather(log_share[:, :, None], index)[..., 0]
        return (torch.softmax(logits, dim=2)[..., None] * neighbours).sum(2)


def matched(queries: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Index int64 [B, m] of the point of ``points`` [B, N, 3] nearest to each query [B, m, 3]. At inference these are the samples."""
    return nearest(queries, points, 1)[:, :, 0]


class MutualAttention(nn.Module):
    """Attention between a cloud and its partners: y = x + BN(W [out_fg ; out_bg]); BN starts at zero.

    ``intended``: every point of a partner distributes one vote over the own points, T = softmax_i(theta(partner)_j . phi(own)_i),
    a_i = N mean_j T_ji; out_fg = a_i g(own)_i + sum_j softmax_j(theta(own)_i . phi(partner)_j) g(partner)_j, out_bg = max(0, 2 - a_i)
    g(own)_i; averaged over the partners. ``released``: t = mean_i softmax_j(theta(own)_i . phi(partner)_j), out_fg[i] = t_i sum_j
    g(partner)_j, out_bg[i] = (1 - t_i) sum_j g(partner)_j, one partner of equally many points: rank 1, and i counts the partner's points.
    """

    def __init__(self, dim: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.theta, self.phi, self.g = (nn.Linear(dim, dim // 2) for _ in range(3))
        self.out = nn.Linear(2 * (dim // 2), dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.norm.weight)

    def streams(self, own: torch.Tensor, partners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(out_fg, out_bg), [B, N, dim / 2] each; arguments as in :meth:`forward`."""
        if self.mode == "released":
            return self._released(own, partners)
        theta_own, phi_own, value = self.theta(own), self.phi(own), self.g(own)
        received = context = torch.zeros(())
        for k in range(partners.shape[1]):
            partner = partners[:, k]
            votes = torch.softmax(self.theta(partner) @ phi_own.transpose(1, 2), dim=2)  # [B, P, N]
            received = received + own.shape[1] * votes.mean(1)
            context = context + torch.softmax(theta_own @ self.phi(partner).transpose(1, 2), dim=2) @ self.g(partner)
        received, context = received / partners.shape[1], context / partners.shape[1]
        return received[:, :, None] * value + context, (2 - received).clamp_min(0)[:, :, None] * value

    def _released(self, own: torch.Tensor, partners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        partner = partners[:, 0]
        if partner.shape[1] != own.shape[1]:
            raise ValueError(f"partners: the released attention needs {own.shape[1]} points, got {partner.shape[1]}")
        share = torch.softmax(self.theta(own) @ self.phi(partner).transpose(1, 2), dim=2).mean(1)[:, :, None]  # [B, N, 1]
        total = self.g(partner).sum(1, keepdim=True)
        return share * total, (1 - share) * total

    def forward(self, own: torch.Tensor, partners: torch.Tensor) -> torch.Tensor:
        """Features of the own points [B, N, dim] and of the partners' points [B, r, P, dim] -> [B, N, dim]."""
        change = self.out(torch.cat(self.streams(own, partners), dim=2))
        return own + self.norm(change.flatten(0, 1)).view_as(own)


@torch.no_grad()
def draw_by_score(log_share: torch.Tensor, count: int, generator: torch.Generator | None) -> torch.Tensor:
    """Choose points by their share of foreground or background.

    Args:
        log_share: [B, N], logarithm of the share of each point.
        count: number of points chosen.
        generator: points are drawn at random, with probabilities in proportion to their share (Gumbel top-k); None: the points with the
            largest share are taken.

    Returns:
        int64 [B, count], indices of different points.
    """
    if generator is not None:
        uniform = torch.rand(log_share.shape, generator=generator).to(log_share.device)
        log_share = log_share - (-uniform.clamp(1e-7, 1 - 1e-7).log()).log()
    return log_share.topk(count, dim=1).indices


class Sampler(nn.Module):
    """The foreground or the background sampler: encoder, mutual attention, and a generator of points or a score of points."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PointNet()
        self.mutual = MutualAttention(self.encoder.dim, config.mutual)
        width = self.encoder.dim
        if config.choose == "pool":
            self.generate = nn.Sequential(SharedMlp((width, width, width, width)), nn.Linear(width, 3 * config.samples))
        else:
            self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.project = SoftProjection(config.group, config.sigma_min)

    def encode(self, points: torch.Tensor) -> torch.Tensor:
        """Points P [B, N, 3] -> features before the mutual attention [B, N, D3]."""
        return self.encoder(points)

    def exchange(self, features: torch.Tensor, partners: torch.Tensor | None = None) -> torch.Tensor:
        """Features after the mutual attention, F^3D [B, N, D3].

        Args:
            features: [B, N, D3] of :meth:`encode`.
            partners: [B, r, P, D3]; None: the other clouds of the batch. A single cloud is its own partner, as in the released evaluation.
        """
        return self.mutual(features, self._rolled(features) if partners is None else partners)

    def _rolled(self, features: torch.Tensor) -> torch.Tensor:
        if self.config.mutual == "released":
            return features.roll(1, dims=0)[:, None]
        count = max(1, min(self.config.partners, len(features) - 1))
        return torch.stack([features[:, : self.config.key_points].roll(k, dims=0) for k in range(1, count + 1)], dim=1)

    def simplify(self, features: torch.Tensor) -> torch.Tensor:
        """Generate points Q [B, m, 3] from features [B, N, D3]. The result does not depend on the order of the points."""
        return self.generate(features.max(1).values).unflatten(1, (self.config.samples, 3))
