"""Learning of a concept from the tokens of its photographs and clouds, without labels, masks, pairing or calibration."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import torch

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.learning.affinity import even_rows
from geoseg_ros.learning.photo_references import find_photo_references, halves_of
from geoseg_ros.methods.contrast.observations import BuildConfig, Observations, Proposals
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.references import Contrast, References, SizePrior, strongest
from geoseg_ros.methods.contrast.rivals import Split
from geoseg_ros.methods.contrast.selection import select_views
from geoseg_ros.packs.bank import VIEW_TOKENS, BackgroundBank, per_proposal
from geoseg_ros.projection.proposal_views import DrawnProposals

NULL_TOKENS = 16  # kept of a null photograph, evenly spread over those most like the concept
LARGEST_NULL = 256  # items per kind
LEAST_SIZES = 5  # fewest clouds that show the concept for a size prior
Item = TypeVar("Item")


def learn(name: str, seen: Observations, backbone: ImageBackbone, bank: BackgroundBank, config: BuildConfig) -> Concept:
    """Learn a concept.

    Args:
        name: of the concept.
        seen: the tokens of its items.
        backbone: that gave the tokens.
        bank: its background bank.
        config: all settings of learning.

    Raises:
        InputError: no image, and no object proposal in any cloud.
    """
    own, without = seen.images, seen.without_images
    if not own and not any(seen.clouds):
        raise InputError(f"concept '{name}': nothing to learn from: no image, and no object proposal in any cloud")

    references = References.of(find_photo_references(own, without, bank.photos, config.coseg.neighbours, config.train))
    null_views = {domain: _nullhalves_of(seen.without_clouds, bank, domain) for domain in Domain}
    items = {d: {k: rows[d].first(VIEW_TOKENS).tokens for k, rows in enumerate(seen.clouds) if d in rows} for d in Domain}
    null = {domain: [half.first(VIEW_TOKENS).tokens for half in halves] for domain, halves in null_views.items()}
    # items without the target say better what it is not
    alone = not (without or seen.without_clouds)
    inside = dict(enumerate(seen.inside)) if alone else None
    selection = select_views(items, null, references, config.coseg, config.train, inside)
    views = selection.references
    if not own:  # a concept given by clouds alone: what its views show is what photographs are searched for
        references = References(torch.cat([drawn.own for drawn in views.values()]), references.context, references.background)
    best = [seen.clouds[cloud][Domain.SHADED].size[proposal] for cloud, proposal in selection.best.items()]
    other_sizes = torch.cat([half.size for halves in null_views.values() for half in halves])
    size = SizePrior.of(torch.stack(best), other_sizes) if len(best) >= LEAST_SIZES and len(other_sizes) else None
    references = replace(references, views=views, size=size)
    if selection.split:
        references = replace(references, level=_levels(seen.clouds, selection.split, references, config))
    stamp = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    info = {
        "created": time.strftime("%Y-%m-%d", stamp),
        "config": asdict(config),
        "training": {
            "images": len(own),
            "clouds": len(seen.clouds),
            "without_images": len(without),
            "without_clouds": len(seen.without_clouds),
            "clouds_with_a_positive_proposal": len(selection.best),
            "background": bank.source,
            "supervision_of_backbone": backbone.supervision,
        },
    }
    return Concept(
        name,
        backbone.name,
        backbone.hash,
        bank.mean,
        references,
        _null_photos(references, [scales[0].reshape(-1, backbone.dim) for scales in without], bank.photos, config),
        _null_photos(references, seen.without_pictures, bank.pictures, config),
        {domain: _null_rows(references, halves, domain, config) for domain, halves in null_views.items()},
        info=info,
    )


def _levels(clouds: Sequence[Proposals], split: Split, references: References, config: BuildConfig) -> dict[Domain, float]:
    """Evidence halfway between the target's proposals and their rivals', per domain."""
    contrast = Contrast([references], config.coseg.neighbours, config.coseg.size_weight)
    levels = {}
    for domain in Domain:
        middle = []
        for group in (split.target, split.rival):
            rows = [clouds[k][domain][flags] for k, flags in group.items() if domain in clouds[k] and flags.any()]
            if rows:
                some = DrawnProposals.join(rows, rows[0].tokens.shape[1], rows[0].tokens.shape[2])
                middle.append(float((contrast.view(some.tokens, domain).mean(2) + contrast.size(some.size))[0].median()))
        if len(middle) == 2:
            levels[domain] = sum(middle) / 2
    return levels


def _null_photos(references: References, without: Sequence[torch.Tensor], bank: torch.Tensor, config: BuildConfig) -> torch.Tensor:
    """The tokens most like the concept of each picture without it and of each of the bank's [m, t, D]: [n, NULL_TOKENS, D], for
    :func:`~geoseg_ros.methods.contrast.references.null_scores`: even rows are of half 0 of the background, odd ones of half 1."""
    contrast = Contrast([references], config.coseg.neighbours)
    pairs = list(zip(*halves_of(without), strict=False))[: LARGEST_NULL // 2]
    general = list(zip(bank[0::2], bank[1::2], strict=False))
    free = min(len(general), LARGEST_NULL // 2 - len(pairs))
    pairs += [general[k * len(general) // free] for k in range(free)]
    rows = []
    for row, tokens in enumerate(photo for pair in pairs for photo in pair):
        evidence = contrast.photo(tokens, [1 - row % 2])[0]
        best = evidence.topk(strongest(len(tokens), config.coseg.top_share)).indices
        rows.append(even_rows(tokens[best], NULL_TOKENS))
    return torch.stack(rows) if rows else torch.zeros(0, NULL_TOKENS, bank.shape[2])


def _null_rows(references: References, halves: Sequence[DrawnProposals], domain: Domain, config: BuildConfig) -> DrawnProposals:
    """Rows of both halves in turn, equally many and at most ``LARGEST_NULL``: every so many-th by its score, so that few have the
    distribution of all."""
    contrast = Contrast([references], config.coseg.neighbours, config.coseg.size_weight)
    count = min(*(len(half) for half in halves), LARGEST_NULL // 2)
    pair = []
    for number, half in enumerate(halves):
        score = (contrast.view(half.tokens, domain, [1 - number]).mean(2) + contrast.size(half.size))[0]
        pair.append(half[score.argsort(stable=True)[(2 * torch.arange(count) + 1) * len(half) // max(2 * count, 1)]])
    tokens, size = (torch.stack(parts, 1).flatten(0, 1) for parts in zip(*((p.tokens, p.size) for p in pair), strict=True))
    return DrawnProposals(tokens, size)


def _nullhalves_of(without: Sequence[Proposals], bank: BackgroundBank, domain: Domain) -> list[DrawnProposals]:
    """Proposals that are not the concept in two halves; those of one cloud are in the same half."""
    general, number = bank.views(domain)
    halves = []
    for half, place in enumerate(halves_of(without)):
        parts = [*(rows[domain] for rows in place if domain in rows), general[number % 2 == half]]
        halves.append(DrawnProposals.join(parts, per_proposal(domain), len(bank.mean)))
    return halves
