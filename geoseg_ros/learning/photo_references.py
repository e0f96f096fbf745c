"""Reference tokens of a concept's photographs, and the evidence that they give: own foreground minus everything else, in cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from geoseg_ros.learning.affinity import affinity, prototypes
from geoseg_ros.learning.foreground import ForegroundConfig, find_foreground

Photograph = Sequence[torch.Tensor]
"""Unit tokens [h, w, D] of one photograph, one map per scale."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class PhotoReferences:
    """Unit tokens with the bank's mean removed, float32.

    Attributes:
        foreground: [F, D] prototypes of the foreground tokens of the concept's photographs.
        context: [C, D] prototypes of the rest of these photographs.
        background: prototypes [., D] of the two halves of the background bank and of the photographs without the concept. A photograph of
            one half is a null item for the other only: what the references were made from does not show how new photographs score.
    """

    foreground: torch.Tensor
    context: torch.Tensor
    background: tuple[torch.Tensor, torch.Tensor]


def find_photo_references(
    own: Sequence[Photograph], without: Sequence[Photograph], bank: torch.Tensor, neighbours: int, config: ForegroundConfig
) -> PhotoReferences:
    """Foreground, context and background prototypes of photographs; the scales are searched one by one and pooled.

    Args:
        own: photographs that (mostly) show the concept; may be empty.
        without: photographs that do not show it; may be empty.
        bank: float32 [n, t, D], the photographs of the background bank.
        neighbours: of :func:`~geoseg_ros.learning.affinity.affinity`.
    """
    dim = bank.shape[-1]
    nothing, most = torch.zeros(0, dim), config.background_tokens // 4
    general = [bank[half::2].reshape(-1, dim) for half in (0, 1)]
    place = [
        prototypes(torch.cat([nothing, *(tokens.reshape(-1, dim) for scales in part for tokens in scales)]), most)
        for part in halves_of(without)
    ]

    def background(front: torch.Tensor, typical: float) -> tuple[torch.Tensor, torch.Tensor]:
        kept = [prototypes(g[affinity(g, front, neighbours) < typical], most) for g in general]
        return torch.cat([kept[0], place[0]]), torch.cat([kept[1], place[1]])

    everything = background(nothing, 1.0)
    if not own:
        return PhotoReferences(nothing, nothing, everything)
    foreground, context = [], []
    for scale in range(len(own[0])):
        maps = [scales[scale] for scales in own]
        chosen, _ = find_foreground(maps, torch.cat(everything), neighbours, config)
        foreground += [tokens[mask] for tokens, mask in zip(maps, chosen, strict=True)]
        context += [tokens[~mask] for tokens, mask in zip(maps, chosen, strict=True)]
    front = prototypes(torch.cat(foreground), config.foreground_tokens)
    # a bank that happens to hold the concept must not count against it: leave out what is as similar to it as it is to itself
    typical = float(affinity(torch.cat(foreground), front, neighbours).quantile(0.25))
    return PhotoReferences(front, prototypes(torch.cat(context), config.context_tokens), background(front, typical))


def background_affinity(
    tokens: torch.Tensor, background: tuple[torch.Tensor, torch.Tensor], neighbours: int, halves: Sequence[int] = (0, 1)
) -> torch.Tensor:
    """Mean affinity of tokens [..., D] with the ``halves`` of a background.

    It is the mean, not the maximum: a null item meets one half only, and its score must be comparable.
    """
    filled = [half for half in halves if len(background[half])] or [1 - halves[0]]
    return torch.stack([affinity(tokens, background[half], neighbours) for half in filled]).mean(0)


def photo_evidence(
    tokens: torch.Tensor, concepts: Sequence[PhotoReferences], neighbours: int, halves: Sequence[int] = (0, 1)
) -> torch.Tensor:
    """Evidence [C, ...] of photo tokens [..., D] for C concepts: affinity with the own foreground minus the largest with anything else.

    Anything else is every concept's context, every background (its ``halves``), and the other concepts' foregrounds.
    """
    foreground = [affinity(tokens, c.foreground, neighbours) for c in concepts]
    rest = [
        torch.maximum(affinity(tokens, c.context, neighbours), background_affinity(tokens, c.background, neighbours, halves))
        for c in concepts
    ]
    ground = torch.stack(rest).amax(0)
    evidence = []
    for i, own in enumerate(foreground):
        others = [f for j, f in enumerate(foreground) if j != i]
        evidence.append(own - torch.stack([ground, *others]).amax(0))
    return torch.stack(evidence)


def halves_of(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """First and second half: neighbours in a row of pictures are often alike, and must not be in different halves."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]
