"""The reference tokens of a concept, and the evidence that a set of concepts gives to tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from geoseg_ros.coseg.correlation import affinity
from geoseg_ros.coseg.tokens import Domain


@dataclass(frozen=True)
class ViewReferences:
    """Unit tokens of views in one domain.

    Attributes:
        own: [., D] prototypes of the concept's own proposals.
        other: [., D] prototypes of the other proposals of its clouds.
        background: prototypes [., D] of the two halves of the proposals from elsewhere, see :class:`References`.
    """

    own: torch.Tensor
    other: torch.Tensor
    background: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class References:
    """Unit tokens with the bank's mean removed, float32.

    Attributes:
        foreground: [F, D] prototypes of what recurs in the concept's photographs and not elsewhere.
        context: [C, D] prototypes of the rest of these photographs.
        background: prototypes [., D] of the two halves of the background bank and of the photographs without the concept. A photograph of
            one half is a null item for the other only: what the references were made from does not tell how new photographs score.
        views: per view domain, where the concept has clouds.
    """

    foreground: torch.Tensor
    context: torch.Tensor
    background: tuple[torch.Tensor, torch.Tensor]
    views: Mapping[Domain, ViewReferences] = field(default_factory=dict)


class Contrast:
    """Evidence of C concepts that are loaded together, each the others' background.

    The evidence of a token for a concept is its :func:`~geoseg_ros.coseg.correlation.affinity` with the concept's foreground minus the
    largest affinity with anything that speaks against it, in cosine.
    """

    def __init__(self, concepts: Sequence[References], neighbours: int) -> None:
        self.concepts = concepts
        self.neighbours = neighbours

    def _affinity(self, tokens: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        return affinity(tokens, references, self.neighbours)

    def _background(self, tokens: torch.Tensor, concept: References | ViewReferences, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        # the mean, not the maximum: a null item meets one half only, and its score must be comparable
        filled = [half for half in halves if len(concept.background[half])] or [1 - halves[0]]
        return torch.stack([self._affinity(tokens, concept.background[half]) for half in filled]).mean(0)

    def photo(self, tokens: torch.Tensor, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence [C, ...] of photo tokens [..., D]. Against a concept speak every context, every bank (its ``halves``), the other
        concepts."""
        foreground = [self._affinity(tokens, c.foreground) for c in self.concepts]
        against = [torch.maximum(self._affinity(tokens, c.context), self._background(tokens, c, halves)) for c in self.concepts]
        ground = torch.stack(against).amax(0)
        evidence = []
        for i, own in enumerate(foreground):
            others = [f for j, f in enumerate(foreground) if j != i]
            evidence.append(own - torch.stack([ground, *others]).amax(0))
        return torch.stack(evidence)

    def drawn(self, tokens: torch.Tensor, domain: Domain, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence [C, ...] of tokens [..., D] of views drawn in one way: the photographs' and, where the concept has clouds, the mean with
        its own views'.

        A view shows a thing without its surroundings, so contexts say nothing against it; the bank and the other concepts do.
        """
        photo = [self._affinity(tokens, c.foreground) for c in self.concepts]
        evidence = []
        for i, concept in enumerate(self.concepts):
            against = [self._background(tokens, concept), *(p for j, p in enumerate(photo) if j != i)]
            own = photo[i] - torch.stack(against).amax(0)
            if domain in concept.views:
                views = concept.views[domain]
                rivals = [self._affinity(tokens, views.other), self._background(tokens, views, halves)]
                rivals += [self._affinity(tokens, c.views[domain].own) for j, c in enumerate(self.concepts) if j != i and domain in c.views]
                own = (own + self._affinity(tokens, views.own) - torch.stack(rivals).amax(0)) / 2
            evidence.append(own)
        return torch.stack(evidence)

    def view(self, tokens: torch.Tensor, domain: Domain, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence [C, P, n] of proposals' tokens [P, n, D]. Of a coloured cloud, the first half of n is in colour, the rest shaded."""
        if domain is Domain.SHADED:
            return self.drawn(tokens, Domain.SHADED, halves)
        colour, shaded = tokens.tensor_split(2, 1)
        return torch.cat([self.drawn(colour, Domain.COLOUR, halves), self.drawn(shaded, Domain.SHADED, halves)], dim=2)


def image_score(evidence: torch.Tensor, top_share: float) -> torch.Tensor:
    """Mean of the strongest tokens, ``top_share`` of all, [C] from evidence [C, n]."""
    return evidence.topk(strongest(evidence.shape[1], top_share), dim=1).values.mean(1)


def strongest(count: int, top_share: float) -> int:
    """How many of ``count`` tokens are ``top_share`` of them, at least one."""
    return min(count, max(1, round(top_share * count)))


def null_scores(evidence: Callable[[Sequence[int]], torch.Tensor]) -> torch.Tensor:
    """Scores [C, n] of null items. Even ones belong to half 0 of the background and are scored against half 1, and the other way round
    (cross-fitting).

    Args:
        evidence: from the halves to score against to the evidence [C, n, t] of the items' tokens.
    """
    even, odd = (evidence([half]).mean(2) for half in (1, 0))
    return torch.where(torch.arange(even.shape[1]) % 2 == 0, even, odd)


def view_score(evidence: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean evidence of a proposal's tokens [C, P, n], weighted by coverage [P, n] -> [C, P]."""
    return (evidence * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)
