"""Where the clouds of a set hold several kinds of objects: the kind that the photographs show, and its rivals from within the set.

The background bank is from other places, so it competes with every kind of this place alike. The photographs separate the kinds: among
proposals that do not overlap, those most like the photographs' foreground are taken for the target and those least like it for rivals.
Whether these are two kinds, or the two ends of one, is tested by cross-validation over the clouds: both groups of the *other* clouds must
separate the groups of a cloud. A single kind does not pass this test, and is not split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from geoseg_ros.learning.affinity import affinity, evenly

APART = 1.5  # standard deviations between two kinds, at least
SURE = 3.3  # and standard errors; of one kind's ends the second were up to 3.0, of two kinds of objects 3.6 to 17 (development sets)
ROUNDS = 2  # times that groups and scores are estimated from each other
LEAST = 3  # proposals in a group
_EDGE = 0.35  # of the way between the usual best and the lowest quarter: nearer to the one is target, nearer to the other rival
_WITHIN = 0.9  # share of a proposal in another, above which it is a part of it
_COVERED = 0.8  # share of a proposal in its parts, above which it consists of them
_OVERLAP = 0.5  # share of a proposal in better ones, above which it is not chosen

Domains = Sequence[Mapping[int, torch.Tensor]]
"""Per domain: cloud number -> unit tokens [p, t, D] of its proposals, the same clouds and proposals in each domain."""


@dataclass(frozen=True)
class Split:
    """Attributes: target, rival: cloud number -> bool [p], the proposals of either group; score: cloud number -> float [p]."""

    target: Mapping[int, torch.Tensor]
    rival: Mapping[int, torch.Tensor]
    score: Mapping[int, torch.Tensor]


def split_kinds(domains: Domains, foreground: torch.Tensor, inside: Mapping[int, torch.Tensor], neighbours: int) -> Split | None:
    """Divide the proposals of a set into the kind that its photographs show and others.

    Args:
        domains: the proposals of the clouds that have some.
        foreground: [F, D] unit tokens of what the photographs show.
        inside: cloud number -> [p, p], share of each proposal (row) that lies in each other.
        neighbours: of :func:`~geoseg_ros.learning.affinity.affinity`.

    Returns:
        None where there are no photographs, or no two kinds that can be separated.
    """
    if len(foreground) == 0 or len(domains[0]) < 2:
        return None
    likeness = {k: torch.stack([affinity(items[k], foreground, neighbours).mean(1) for items in domains]).mean(0) for k in domains[0]}
    score = likeness
    split = None
    for round_ in range(ROUNDS):
        found = _groups({k: by_parts(value, inside[k]) for k, value in score.items()}, inside)
        if found is None:
            return None
        contrast = _cross_validated(domains, found, neighbours)
        if not round_ and not _two_kinds(contrast, found):
            return None
        split = found
        score = _standardised([likeness, contrast])
    return split


def best_first(score: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """bool [p]: the proposals that are chosen if each takes its place in the order of ``score`` [p], where no better one has taken it.

    Args:
        inside: [p, p], share of each proposal that lies in each other.
    """
    chosen = torch.zeros(len(score), dtype=torch.bool)
    for p in score.argsort(descending=True, stable=True).tolist():
        chosen[p] = bool(inside[p, chosen].sum() < _OVERLAP)
    return chosen


def by_parts(score: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """``score`` [p], where a proposal that consists of others has at most the mean of these: the target and what stands beside it, taken
    together, may look like a photograph of several targets."""
    result = score.clone()
    for p in range(len(score)):
        parts = torch.zeros(len(score), dtype=torch.bool)
        share = inside[p]  # of the proposal that lies in each other
        for q in share.argsort(descending=True, stable=True).tolist():
            if inside[q, p] > _WITHIN and share[q] < _WITHIN and inside[q, parts].sum() < 1 - _WITHIN:
                parts[q] = True
        if parts.sum() > 1 and share[parts].sum() > _COVERED:
            result[p] = min(score[p], (share[parts] * score[parts]).sum() / share[parts].sum())
    return result


def _groups(score: Mapping[int, torch.Tensor], inside: Mapping[int, torch.Tensor]) -> Split | None:
    """The proposals near the usual best of a cloud, and those near the lowest quarter of all that are no part of the former's like."""
    alone = {k: best_first(value, inside[k]) for k, value in score.items()}
    level = float(torch.stack([value.max() for value in score.values()]).median())
    low = float(torch.cat([value[alone[k]] for k, value in score.items()]).quantile(0.25))
    reach = _EDGE * (level - low)
    if reach <= 0:
        return None
    high = {k: value >= level - reach for k, value in score.items()}
    target = {k: alone[k] & high[k] for k in score}
    part = {k: (inside[k] * high[k]).max(1).values > _OVERLAP for k in score}
    rival = {k: alone[k] & (value <= low + reach) & ~part[k] for k, value in score.items()}
    if any(sum(int(flags.sum()) for flags in group.values()) < LEAST for group in (target, rival)):
        return None
    return Split(target, rival, score)


def _cross_validated(domains: Domains, groups: Split, neighbours: int) -> dict[int, torch.Tensor]:
    """Affinity [p] of each cloud's proposals with the target group of the other clouds less that with their rivals, as many of each."""
    result = {}
    for k in domains[0]:
        result[k] = torch.zeros(len(domains[0][k]))
        for items in domains:
            sides = [[tokens[group[j]] for j, tokens in items.items() if j != k] for group in (groups.target, groups.rival)]
            target, rival = (torch.cat(parts) for parts in sides)
            count = min(len(target), len(rival))
            if count:
                rows = [part[evenly(range(len(part)), count)].flatten(0, 1) for part in (target, rival)]
                own, other = (affinity(items[k], part, neighbours).mean(1) for part in rows)
                result[k] += (own - other) / len(domains)
    return result


def _two_kinds(score: Mapping[int, torch.Tensor], groups: Split) -> bool:
    """Whether the groups' mean scores are far apart, in standard deviations within the groups, and surely so."""
    target, rival = (torch.cat([score[k][group[k]] for k in score]) for group in (groups.target, groups.rival))
    spread = max(float(((target.var() + rival.var()) / 2).sqrt()), 1e-6)
    distance = float(target.mean() - rival.mean()) / spread
    return distance >= APART and distance * (1 / len(target) + 1 / len(rival)) ** -0.5 >= SURE


def _standardised(parts: Sequence[Mapping[int, torch.Tensor]]) -> dict[int, torch.Tensor]:
    """The mean of several scores, each with mean 0 and standard deviation 1 over the set."""
    total: dict[int, torch.Tensor] = {}
    for part in parts:
        flat = torch.cat(list(part.values()))
        mean, spread = flat.mean(), flat.std(correction=0).clamp_min(1e-6)
        for k, value in part.items():
            total[k] = total.get(k, torch.zeros_like(value)) + (value - mean) / spread / len(parts)
    return total
