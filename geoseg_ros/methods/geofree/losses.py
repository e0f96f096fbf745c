"""The losses of the network, computed from features in float32.

L = L_sem + L_obj + L_p + L_s (GeoFree-CoSeg); L_p = L_point + L_object + L_samp + L_rep (Yang et al., ICCV 2021);
L_s = L_cooc + 0.3 L_sal (SCoSPARC, ECCV 2024).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from geoseg_ros.nets.neighbours import square_distances

NEVER = -1e4  # stands for log 0, for pairs that were not drawn


def nt_xent(positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean of -log exp(p / t) / (exp(p / t) + sum_k exp(n_k / t)).

    Args:
        positive: cosine [P]. negative: cosines [P, K] of the same anchors. temperature: t.
    """
    p, n = positive.float() / temperature, negative.float() / temperature
    return (torch.logsumexp(torch.cat([p[:, None], n], dim=1), dim=1) - p).mean()


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of the rows of a [..., P, D] with the rows of b [..., Q, D]: [..., P, Q], float32."""
    return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).transpose(-1, -2)


def point_loss(
    foreground: torch.Tensor,
    background: torch.Tensor,
    temperature: float,
    positives: int,
    negatives: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """L_point: within a cloud, foreground points are alike and unlike background points.

    ``positives`` random pairs of different foreground points; ``negatives`` random pairs (foreground, background); a positive pair meets
    the negative pairs of its first point. A pair that is drawn n times counts n times.

    Args:
        foreground, background: point features [B, m, D] of the projected samples, m >= 2.
    """
    batch, m, _ = foreground.shape
    device = foreground.device

    def draw(high: int, count: int) -> torch.Tensor:
        return torch.randint(high, (batch, count), generator=generator).to(device)

    first, step = draw(m, positives), draw(m - 1, positives) + 1
    pairs = first * m + (first + step) % m
    positive = cosines(foreground, foreground).flatten(1).gather(1, pairs)
    drawn = draw(m, negatives) * background.shape[1] + draw(background.shape[1], negatives)
    between = cosines(foreground, background) / temperature
    count = torch.zeros(batch, m * background.shape[1], device=device).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float32))
    # finite also for an anchor without any negative, whose row would else have no gradient
    times = torch.where(count > 0, count.log(), torch.full_like(count, NEVER)).view_as(between)
    against = torch.logsumexp(between + times, dim=2).gather(1, first)
    return (torch.logaddexp(positive / temperature, against) - positive / temperature).mean()


def object_loss(foreground: torch.Tensor, background: torch.Tensor, temperature: float) -> torch.Tensor:
    """L_object: the foregrounds of different clouds are alike and unlike every background.

    Args:
        foreground, background: embeddings [B, E], B >= 2.
    """
    among = cosines(foreground, foreground)
    against = cosines(foreground, background)
    first, second = (~torch.eye(len(among), dtype=torch.bool, device=among.device)).nonzero(as_tuple=True)
    return nt_xent(among[first, second], against[first], temperature)


def simplification_loss(simplified: torch.Tensor, points: torch.Tensor, gamma: float) -> torch.Tensor:
    """L_simp = mean_q d(q, P) + mean_b max_q d(q, P) + gamma mean_p d(p, Q), d the squared distance to the nearest.

    Args:
        simplified: Q [B, m, 3]. points: P [B, N, 3].
    """
    distances = square_distances(simplified, points)
    there, back = distances.min(2).values, distances.min(1).values
    return there.mean() + there.max(1).values.mean() + gamma * back.mean()


def repulsion_loss(foreground: torch.Tensor, background: torch.Tensor, margin: float) -> torch.Tensor:
    """L_rep = mean relu(rho - d(R_fg, R_bg)) + mean relu(rho - d(R_bg, R_fg)) of samples [B, m, 3]; d as in :func:`simplification_loss`."""
    distances = square_distances(foreground, background)
    return (margin - distances.min(2).values).clamp_min(0).mean() + (margin - distances.min(1).values).clamp_min(0).mean()


def prototype_loss(
    prototypes: torch.Tensor,
    foreground: torch.Tensor,
    background: torch.Tensor,
    temperature: float,
    anchor: str,
    extra: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_sem or L_obj: the clouds' foregrounds are like the images' prototype, their backgrounds are not.

    Args:
        prototypes: of images [V, dc]. foreground, background: y^o, y^b of clouds [B, dc].
        anchor: ``set``: the images' mean; ``image``: image i mod V for cloud i.
        extra: [E, dc], more negatives of every foreground: other concepts' prototypes.
    """
    unit = F.normalize(prototypes.float(), dim=1)
    if anchor == "image":
        anchors = unit[torch.arange(len(foreground), device=unit.device) % len(unit)]
    else:
        anchors = F.normalize(unit.mean(0, keepdim=True), dim=1).expand(len(foreground), -1)
    positive = (anchors * F.normalize(foreground.float(), dim=1)).sum(1)
    negative = cosines(anchors, background)
    if extra is not None:
        negative = torch.cat([negative, cosines(foreground, extra)], dim=1)
    return nt_xent(positive, negative, temperature)


def cooccurrence_loss(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """L_cooc = mean over pairs of images of d+ / (d+ + d-), d+ = exp(1 - cos(f_i, f_j)), d- = exp(1 - cos(f_i, b_i) - cos(f_j, b_j)).

    Args:
        tokens: backbone tokens x [V, Np, D], V >= 2. mask: M [V, Np]. f = mean of M x, b = mean of (1 - M) x.
    """
    tokens, mask = tokens.float(), mask.float()[:, :, None]
    foreground, background = (tokens * mask).mean(1), (tokens * (1 - mask)).mean(1)
    among = cosines(foreground, foreground)
    own = F.cosine_similarity(foreground, background, dim=1)
    first, second = torch.triu_indices(len(tokens), len(tokens), 1, device=tokens.device)
    # d+ / (d+ + d-) of exponentials is a sigmoid of the difference of their exponents
    return torch.sigmoid(own[first] + own[second] - among[first, second]).mean()


def saliency_loss(saliency: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """L_sal = 1 - mean(a M) (``mean``), or 1 - sum(a M) / sum(M) per image (``area``: a larger mask is not a better one).

    Args:
        saliency: a [V, Np] in 0 .. 1. mask: M [V, Np].
    """
    inside = (saliency * mask).float()
    return 1 - (inside.mean() if mode == "mean" else (inside.sum(1) / mask.float().sum(1).clamp_min(1e-6)).mean())
