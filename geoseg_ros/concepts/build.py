"""``geoseg train``: from photographs and clouds of one thing to its concept pack. No labels, no masks, no pairing, no calibration."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.concepts.bank import VIEW_TOKENS, BackgroundBank, spread
from geoseg_ros.concepts.pack import ConceptPack
from geoseg_ros.concepts.select import select_views
from geoseg_ros.coseg.clouds import look_at_proposals, sample_tokens
from geoseg_ros.coseg.config import CosegConfig, TrainConfig
from geoseg_ros.coseg.correlation import affinity, prototypes
from geoseg_ros.coseg.foreground import find_foreground
from geoseg_ros.coseg.references import Contrast, References, strongest
from geoseg_ros.coseg.tokens import Domain, photo_tokens, unit
from geoseg_ros.errors import InputError
from geoseg_ros.features.backbone import ImageBackbone
from geoseg_ros.features.views import ViewConfig
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.scene import GeometryConfig, analyse_cloud

NULL_TOKENS = 16  # kept of a null photograph, evenly spread over those most like the concept
LARGEST_NULL = 256  # items per kind
Progress = Callable[[str, int, int], object]
Item = TypeVar("Item")


@dataclass(frozen=True)
class BuildConfig:
    """Everything a pack is built with."""

    coseg: CosegConfig = field(default_factory=CosegConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    views: ViewConfig = field(default_factory=lambda: ViewConfig(views=1))
    geometry: GeometryConfig = field(default_factory=GeometryConfig)


@dataclass
class _Seen:
    """Tokens [p, per_proposal(domain), D] of the proposals of the cloud with this number."""

    cloud: int
    domain: Domain
    tokens: torch.Tensor


def build_pack(
    name: str,
    images: Iterable[NDArray[np.uint8]],
    clouds: Iterable[Cloud],
    without_images: Iterable[NDArray[np.uint8]],
    without_clouds: Iterable[Cloud],
    backbone: ImageBackbone,
    bank: BackgroundBank,
    config: BuildConfig | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> ConceptPack:
    """Build the pack of one concept. Deterministic but for the date (``SOURCE_DATE_EPOCH`` fixes it).

    Args:
        images, clouds: of the thing; either may be empty, not both. without_images, without_clouds: of the place without it, optional.
        bank: the background bank of ``backbone``.

    Raises:
        InputError: nothing to learn from, or a bank of another backbone.
    """
    config = config or BuildConfig()
    if bank.backbone_hash != backbone.hash:
        raise InputError(f"background bank: made with another backbone than {backbone.name}")

    def photographs(stage: str, items: Iterable[NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        total = len(items) if isinstance(items, Sized) else 0
        result = []
        for done, image in enumerate(items, 1):
            scales = config.train.scales
            result.append([unit(photo_tokens(backbone, image, config.coseg.image_side, s)[0], bank.mean) for s in scales])
            progress(stage, done, total)
        return result

    own = photographs("images", images)
    without = photographs("images without", without_images)
    own_clouds, clouds_count = _look("clouds", clouds, backbone, bank, config, progress)
    other_clouds, others_count = _look("clouds without", without_clouds, backbone, bank, config, progress)
    if not own and not any(len(seen.tokens) for seen in own_clouds):
        raise InputError(f"concept '{name}': nothing to learn from: no image, and no object proposal in any cloud")

    references = _photo_references(own, without, bank, config)
    null_views = {domain: _null_halves(other_clouds, others_count, bank, domain) for domain in Domain}
    items = {domain: {s.cloud: s.tokens[:, :VIEW_TOKENS] for s in own_clouds if s.domain is domain} for domain in Domain}
    null = {domain: [half[:, :VIEW_TOKENS] for half in halves] for domain, halves in null_views.items()}
    selection = select_views(items, null, references, config.coseg, config.train)
    views = selection.references
    if not own:  # a concept given by clouds alone: what its views show is what photographs are searched for
        references = References(torch.cat([seen.own for seen in views.values()]), references.context, references.background)
    references = References(references.foreground, references.context, references.background, views)
    stamp = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    info = {
        "created": time.strftime("%Y-%m-%d", stamp),
        "config": asdict(config),
        "training": {
            "images": len(own),
            "clouds": clouds_count,
            "without_images": len(without),
            "without_clouds": others_count,
            "clouds_with_a_positive_proposal": selection.clouds,
            "background": bank.source,
            "supervision_of_backbone": backbone.supervision,
        },
    }
    return ConceptPack(
        name,
        backbone.name,
        backbone.hash,
        bank.mean,
        references,
        _null_photos(references, [scales[0].reshape(-1, backbone.dim) for scales in without], bank, config),
        {domain: _alternate(*halves) for domain, halves in null_views.items()},
        info=info,
    )


def _photo_references(
    own: list[list[torch.Tensor]], without: list[list[torch.Tensor]], bank: BackgroundBank, config: BuildConfig
) -> References:
    """Foreground, context and background prototypes from the photographs; the scales are searched one by one and pooled."""
    dim = bank.mean.shape[0]
    neighbours, train = config.coseg.neighbours, config.train
    nothing = torch.zeros(0, dim)
    general = [bank.photos[half::2].reshape(-1, dim) for half in (0, 1)]
    place = [
        prototypes(torch.cat([nothing, *(tokens.reshape(-1, dim) for scales in part for tokens in scales)]), train.background_tokens // 4)
        for part in _halves(without)
    ]

    def background(front: torch.Tensor, typical: float) -> tuple[torch.Tensor, torch.Tensor]:
        kept = [prototypes(g[affinity(g, front, neighbours) < typical], train.background_tokens // 4) for g in general]
        return torch.cat([kept[0], place[0]]), torch.cat([kept[1], place[1]])

    everything = background(nothing, 1.0)
    if not own:
        return References(nothing, nothing, everything)
    foreground, context = [], []
    for scale in range(len(train.scales)):
        maps = [scales[scale] for scales in own]
        chosen, _ = find_foreground(maps, torch.cat(everything), config.coseg, train)
        foreground += [tokens[mask] for tokens, mask in zip(maps, chosen, strict=True)]
        context += [tokens[~mask] for tokens, mask in zip(maps, chosen, strict=True)]
    front = prototypes(torch.cat(foreground), train.foreground_tokens)
    # a bank that happens to hold the concept must not speak against it: leave out what looks like it as much as it does itself
    typical = float(affinity(torch.cat(foreground), front, neighbours).quantile(0.25))
    return References(front, prototypes(torch.cat(context), train.context_tokens), background(front, typical))


def _halves(without: list[Item]) -> tuple[list[Item], list[Item]]:
    """First and second half: neighbours in a row of pictures are often alike, and must not be in different halves."""
    middle = (len(without) + 1) // 2
    return without[:middle], without[middle:]


def _null_photos(references: References, without: list[torch.Tensor], bank: BackgroundBank, config: BuildConfig) -> torch.Tensor:
    """The tokens most like the concept of each photograph without it and of each of the bank's, [n, NULL_TOKENS, D], for
    :func:`~geoseg_ros.coseg.references.null_scores`: even rows are of half 0 of the background, odd ones of half 1."""
    contrast = Contrast([references], config.coseg.neighbours)
    pairs = list(zip(*_halves(without), strict=False))[: LARGEST_NULL // 2]
    general = list(zip(bank.photos[0::2], bank.photos[1::2], strict=False))
    free = min(len(general), LARGEST_NULL // 2 - len(pairs))
    pairs += [general[k * len(general) // free] for k in range(free)]
    rows = []
    for row, tokens in enumerate(photo for pair in pairs for photo in pair):
        evidence = contrast.photo(tokens, [1 - row % 2])[0]
        best = evidence.topk(strongest(len(tokens), config.coseg.top_share)).indices
        rows.append(spread(tokens[best], NULL_TOKENS))
    return torch.stack(rows) if rows else torch.zeros(0, NULL_TOKENS, bank.mean.shape[0])


def _alternate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Rows of both in turn, equally many and at most ``LARGEST_NULL``."""
    count = min(len(first), len(second), LARGEST_NULL // 2)
    return torch.stack([spread(first, count), spread(second, count)], 1).flatten(0, 1)


def _look(
    stage: str, clouds: Iterable[Cloud], backbone: ImageBackbone, bank: BackgroundBank, config: BuildConfig, progress: Progress
) -> tuple[list[_Seen], int]:
    total = len(clouds) if isinstance(clouds, Sized) else 0
    result, done = [], 0
    for done, cloud in enumerate(clouds, 1):
        scene = analyse_cloud(cloud, config.geometry)
        views = look_at_proposals(cloud, scene, backbone, bank.mean, config.views)
        if views is not None:
            tokens = sample_tokens(views, VIEW_TOKENS)
            result.append(_Seen(done - 1, views.domain, tokens))
            if views.domain is Domain.COLOUR:  # a coloured cloud also teaches what the thing looks like without colour
                result.append(_Seen(done - 1, Domain.SHADED, tokens[:, VIEW_TOKENS:]))
        progress(stage, done, total)
    return result, done


def _null_halves(seen: list[_Seen], clouds: int, bank: BackgroundBank, domain: Domain) -> list[torch.Tensor]:
    """Proposals that are not the concept in two halves [., per_proposal(domain), D]; those of one cloud are in the same half."""
    return [
        torch.cat([
            *(s.tokens for s in seen if s.domain is domain and (s.cloud >= (clouds + 1) // 2) == bool(half)),
            bank.views[domain][bank.clouds[domain] % 2 == half],
        ])
        for half in (0, 1)
    ]  # fmt: skip
