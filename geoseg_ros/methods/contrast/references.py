"""The reference tokens of a concept, and the evidence of tokens for a set of concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.learning.affinity import affinity
from geoseg_ros.learning.photo_references import PhotoReferences, background_affinity, photo_evidence

LEAST_SPREAD = 0.3  # of a logarithm: +-35 %
LEAST_RATIO = -8.0  # nats


@dataclass(frozen=True)
class ViewReferences:
    """Unit tokens of views in one domain.

    Attributes:
        own: [., D] prototypes of the concept's own proposals.
        other: [., D] prototypes of the other proposals of its clouds.
        background: prototypes [., D] of the two halves of the background proposals, see :class:`References`.
    """

    own: torch.Tensor
    other: torch.Tensor
    background: tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class SizePrior:
    """Metric size of a concept, learnt from its clouds.

    Attributes:
        own, other: float32 [2, 3], of the concept's proposals and of others: medians (row 0) and robust spreads (row 1) of the natural
            logarithms of height, length and width in metres.
    """

    own: torch.Tensor
    other: torch.Tensor

    @classmethod
    def of(cls, own: torch.Tensor, other: torch.Tensor) -> SizePrior:
        """Estimate the statistics from sizes ``own`` [n, 3] and ``other`` [m, 3] in metres; n, m > 0."""
        return cls(_location_scale(own), _location_scale(other))

    def against(self, size: torch.Tensor) -> torch.Tensor:
        """Evidence against the concept by size, as a log-normal likelihood ratio with independent lengths.

        Args:
            size: float32 [n, 3], height, length and width of objects, metres.

        Returns:
            float32 [n] <= 0, nats, relative to the ratio at the concept's medians; at least ``LEAST_RATIO``, because objects may be
            visible only in part.
        """
        log = torch.cat([self.own[:1], _log_size(size)])

        def likelihood(statistics: torch.Tensor) -> torch.Tensor:
            return -(((log - statistics[0]) / statistics[1]) ** 2 / 2).sum(1)

        ratio = likelihood(self.own) - likelihood(self.other)
        return (ratio[1:] - ratio[0]).clamp(LEAST_RATIO, 0.0)


def _location_scale(size: torch.Tensor) -> torch.Tensor:
    log = _log_size(size)
    centre = log.median(0).values
    spread = 1.4826 * (log - centre).abs().median(0).values  # median absolute deviation, scaled to a normal distribution's
    return torch.stack([centre, spread.clamp_min(LEAST_SPREAD)])


def _log_size(size: torch.Tensor) -> torch.Tensor:
    return size.clamp_min(0.01).log()  # flat objects get a thickness of 1 cm


@dataclass(frozen=True)
class References(PhotoReferences):
    """References from photographs and clouds.

    Attributes:
        views: per view domain, where the concept has clouds.
        size: where it has enough clouds.
        level: per domain, where rivals from within the set are known: the evidence halfway between these and the target. A proposal below
            it is not the target, whatever its p-value.
    """

    views: Mapping[Domain, ViewReferences] = field(default_factory=dict)
    size: SizePrior | None = None
    level: Mapping[Domain, float] = field(default_factory=dict)

    @classmethod
    def of(cls, photos: PhotoReferences) -> References:
        """References from photographs alone."""
        return cls(photos.foreground, photos.context, photos.background)


class Contrast:
    """Evidence of C concepts that are loaded together; each is a competitor of the others.

    The evidence of a token for a concept is its :func:`~geoseg_ros.learning.affinity.affinity` with the concept's foreground minus the
    largest affinity with a competitor (context, background or another concept), in cosine.

    Args:
        concepts: references of each concept.
        neighbours: nearest references over which an affinity is averaged.
        size_weight: evidence, in cosine, per nat of :meth:`SizePrior.against`.
    """

    def __init__(self, concepts: Sequence[References], neighbours: int, size_weight: float = 0.0) -> None:
        self.concepts = concepts
        self.neighbours = neighbours
        self.size_weight = size_weight

    def _affinity(self, tokens: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        return affinity(tokens, references, self.neighbours)

    def _background(self, tokens: torch.Tensor, concept: References | ViewReferences, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        return background_affinity(tokens, concept.background, self.neighbours, halves)

    def photo(self, tokens: torch.Tensor, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence [C, ...] of photo tokens [..., D], see :func:`~geoseg_ros.learning.photo_references.photo_evidence`."""
        return photo_evidence(tokens, self.concepts, self.neighbours, halves)

    def described(self, tokens: torch.Tensor) -> torch.Tensor:
        """Evidence [C, ...] of tokens [..., D] of objects without their surroundings, unit length, by photographs alone: the competitors
        are the background and the other concepts, not contexts."""
        photo = [self._affinity(tokens, c.foreground) for c in self.concepts]
        against = [[self._background(tokens, c), *photo[:i], *photo[i + 1 :]] for i, c in enumerate(self.concepts)]
        return torch.stack([own - torch.stack(rest).amax(0) for own, rest in zip(photo, against, strict=True)])

    def drawn(self, tokens: torch.Tensor, domain: Domain, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence of tokens of views of one domain.

        It is that of :meth:`described`. Where a concept has views of this domain, it is the mean of that and of the evidence from views.

        Args:
            tokens: [..., D], unit length.
            domain: of the views.
            halves: halves of the background to compare with.

        Returns:
            [C, ...].
        """
        evidence = []
        for i, (concept, own) in enumerate(zip(self.concepts, self.described(tokens), strict=True)):
            if domain in concept.views:
                views = concept.views[domain]
                rivals = [self._affinity(tokens, views.other), self._background(tokens, views, halves)]
                rivals += [self._affinity(tokens, c.views[domain].own) for j, c in enumerate(self.concepts) if j != i and domain in c.views]
                own = (own + self._affinity(tokens, views.own) - torch.stack(rivals).amax(0)) / 2
            evidence.append(own)
        return torch.stack(evidence)

    def view(self, tokens: torch.Tensor, domain: Domain, halves: Sequence[int] = (0, 1), used: torch.Tensor | None = None) -> torch.Tensor:
        """Evidence of the tokens of proposals.

        Args:
            tokens: [P, n, D], unit length; of a coloured cloud the first half of n is in colour, the rest shaded.
            domain: of the cloud.
            halves: halves of the background to compare with.
            used: bool [P, n], the tokens to work on; None: all.

        Returns:
            [C, P, n]; 0 for tokens that are not used.
        """
        used = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if used is None else used
        evidence = tokens.new_zeros(len(self.concepts), *used.shape)
        domains = (Domain.COLOUR, Domain.SHADED) if domain is Domain.COLOUR else (Domain.SHADED,)
        ways = (x.tensor_split(len(domains), dim) for x, dim in ((evidence, 2), (tokens, 1), (used, 1)))
        for part, seen, wanted, way in zip(*ways, domains, strict=True):
            part[:, wanted] = self.drawn(seen[wanted], way, halves)
        return evidence

    def size(self, size: torch.Tensor) -> torch.Tensor:
        """Evidence [C, P] <= 0 of the metric ``size`` [P, 3] of proposals, in cosine; 0 for a concept without :class:`SizePrior`."""
        nothing = size.new_zeros(len(size))
        return self.size_weight * torch.stack([nothing if c.size is None else c.size.against(size) for c in self.concepts])


def image_score(evidence: torch.Tensor, top_share: float) -> torch.Tensor:
    """Mean of the strongest tokens, ``top_share`` of all, [C] from evidence [C, n]."""
    return evidence.topk(strongest(evidence.shape[1], top_share), dim=1).values.mean(1)


def strongest(count: int, top_share: float) -> int:
    """How many of ``count`` tokens are ``top_share`` of them, at least one."""
    return min(count, max(1, round(top_share * count)))


def null_scores(score: Callable[[Sequence[int]], torch.Tensor]) -> torch.Tensor:
    """Scores [C, n] of null items, cross-fitted: even items belong to half 0 of the background and are scored against half 1, odd ones the
    other way round.

    Args:
        score: returns the scores [C, n] of all items against the given halves.
    """
    even, odd = (score([half]) for half in (1, 0))
    return torch.where(torch.arange(even.shape[1]) % 2 == 0, even, odd)


def view_score(evidence: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean evidence of a proposal's tokens [C, P, n], weighted by coverage [P, n] -> [C, P]."""
    return (evidence * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)
