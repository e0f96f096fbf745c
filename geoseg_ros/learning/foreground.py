"""Foreground tokens of a set of photographs: those that recur in the set and not in a background, found without masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.learning.affinity import affinity, prototypes, recurrence
from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class ForegroundConfig(Settings):
    """How the foreground tokens of a set of photographs are found, and how many prototypes are kept."""

    scales: tuple[float, ...] = setting(
        (1.0, 1.5), "sizes, relative to image_side, at which photographs are read: views of clouds show objects larger", range=(0.1, 4.0)
    )
    border: float = setting(0.1, "share of each side of a photograph that is taken as background at first (border prior)", range=(0.0, 0.5))
    foreground_low: float = setting(
        0.02,
        "least share of a set's tokens that is first taken as foreground; between both bounds Otsu's threshold decides",
        range=(0.0, 1.0),
    )
    foreground_high: float = setting(0.2, "largest share of a set's tokens that is first taken as foreground", range=(0.0, 1.0))
    foreground_most: float = setting(
        0.5, "largest share of foreground after tokens were added that are more like it than like the rest", range=(0.0, 1.0)
    )
    still: float = setting(
        0.8,
        "tokens at least this similar (median cosine) to those at the same place in the other photographs are never foreground",
        range=(0.0, 1.0),
    )
    rounds: int = setting(2, "times that foreground and prototypes are estimated from each other", range=(1, 20))
    partners: int = setting(
        16, "images, evenly spread over the set, that each image is correlated with: the cost is linear in the set", range=(1, 1000)
    )
    foreground_tokens: int = setting(512, "prototypes kept of the foreground (spherical k-means)", range=(1, 100_000))
    context_tokens: int = setting(512, "prototypes kept of what surrounds the foreground", range=(1, 100_000))
    background_tokens: int = setting(1024, "prototypes kept of the background", range=(1, 100_000))


def inside(height: int, width: int, border: float) -> torch.Tensor:
    """bool [height, width]: True except in a frame of ``border`` times each side (at least one token)."""
    frame = torch.zeros(height, width, dtype=torch.bool)
    top, left = max(1, round(height * border)), max(1, round(width * border))
    frame[top : height - top, left : width - left] = True
    return frame


def otsu(values: NDArray[np.floating], bins: int = 128) -> float:
    """Otsu's threshold: the split with the largest variance between the two sides."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    weighted = counts * centres
    mean_below = np.cumsum(weighted) / np.maximum(below, 1)
    mean_above = np.cumsum(weighted[::-1])[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(edges[1:-1][between.argmax()])


def standing_still(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Per token of all maps, concatenated: its median cosine with the token at the same place in the other images of the same size.

    A camera that does not move between pictures sees its surroundings at the same place in all of them; the object moves.
    """
    result = []
    for i, own in enumerate(maps):
        same = [(own * other).sum(-1) for j, other in enumerate(maps) if j != i and other.shape == own.shape]
        result.append((torch.stack(same).median(0).values if same else own.new_zeros(own.shape[:2])).flatten())
    return torch.cat(result)


def find_foreground(
    maps: Sequence[torch.Tensor], background: torch.Tensor, neighbours: int, config: ForegroundConfig
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Foreground tokens of a set of photographs.

    Round 0 scores a token by its recurrence in the other images minus its affinity with the background; each further round by its
    affinity with the foreground found so far minus that with everything else. The background is the bank and the images' own frame
    (border prior); what stands still is never foreground. The threshold is Otsu's, within bounds on the share. At last everything is
    foreground that is nearer to the mean of the foreground than to the mean of the rest.

    Args:
        maps: unit tokens [h, w, D] of every image of the set. background: [B, D].
        neighbours: of :func:`~geoseg_ros.learning.affinity.affinity`.

    Returns:
        per image bool [h, w], and the final score [h, w].
    """
    flat = [m.reshape(-1, m.shape[-1]) for m in maps]
    sizes = [len(f) for f in flat]
    tokens = torch.cat(flat)
    interior = torch.cat([inside(m.shape[0], m.shape[1], config.border).flatten() for m in maps])
    background = torch.cat([background, prototypes(tokens[~interior], config.background_tokens)])
    eligible = interior & (standing_still(maps) < config.still)
    if not eligible.any():
        eligible = interior if interior.any() else torch.ones_like(interior)
    against = affinity(tokens, background, neighbours)
    score = torch.cat(recurrence(flat, neighbours, config.partners)) - against
    chosen = _threshold(score, eligible, config)
    for _ in range(config.rounds):
        foreground = prototypes(tokens[chosen], config.foreground_tokens)
        rest = prototypes(tokens[~chosen], config.context_tokens)
        score = affinity(tokens, foreground, neighbours) - torch.maximum(affinity(tokens, rest, neighbours), against)
        chosen = _threshold(score, eligible, config)
    if chosen.any() and not chosen.all():
        # so far the size of the foreground was bounded; now tokens nearer to the mean of the foreground than to that of the rest join it
        score = tokens @ _direction(tokens[chosen]) - tokens @ _direction(tokens[~chosen])
        nearer = eligible & (score > max(0.0, float(torch.quantile(score, 1 - config.foreground_most))))
        chosen = nearer if nearer.any() else chosen
    return (
        [c.reshape(m.shape[:2]) for c, m in zip(chosen.split(sizes), maps, strict=True)],
        [s.reshape(m.shape[:2]) for s, m in zip(score.split(sizes), maps, strict=True)],
    )


def _direction(tokens: torch.Tensor) -> torch.Tensor:
    """The mean of tokens [n, D], scaled to length 1."""
    return torch.nn.functional.normalize(tokens.mean(0), dim=0)


def _threshold(score: torch.Tensor, eligible: torch.Tensor, config: ForegroundConfig) -> torch.Tensor:
    candidates = score[eligible]
    low = torch.quantile(candidates, 1 - config.foreground_high)
    high = torch.quantile(candidates, 1 - config.foreground_low)
    threshold = min(max(otsu(candidates.numpy()), float(low)), float(high))
    return eligible & (score >= threshold)
