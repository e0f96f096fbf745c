"""What the backbone sees in the pictures and clouds of one concept: read once, learnt from as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace

import torch
from numpy.typing import NDArray

from geoseg_ros.concepts.bank import VIEW_TOKENS, BackgroundBank
from geoseg_ros.coseg.clouds import DrawnProposals, keep_proposals, look_at_proposals
from geoseg_ros.coseg.config import CosegConfig, TrainConfig
from geoseg_ros.coseg.tokens import Domain, photo_tokens, unit
from geoseg_ros.errors import InputError
from geoseg_ros.features.backbone import ImageBackbone
from geoseg_ros.features.views import ViewConfig
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.scene import GeometryConfig, analyse_cloud

Progress = Callable[[str, int, int], object]
Photograph = Sequence[torch.Tensor]
Proposals = Mapping[Domain, DrawnProposals]


@dataclass(frozen=True)
class BuildConfig:
    """Everything a pack is built with."""

    coseg: CosegConfig = field(default_factory=CosegConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    views: ViewConfig = field(default_factory=lambda: ViewConfig(views=1))
    geometry: GeometryConfig = field(default_factory=GeometryConfig)


@dataclass(frozen=True)
class Observations:
    """Attributes:
    images: of each photograph the unit tokens [h, w, D], one map per scale.
    clouds: of each cloud its proposals per view domain: coloured clouds in both, others shaded; empty where it has none.
    without_images, without_clouds: the same of what does not show the concept.
    """

    images: Sequence[Photograph]
    clouds: Sequence[Proposals]
    without_images: Sequence[Photograph]
    without_clouds: Sequence[Proposals]

    def leave_out(self, images: Collection[int], clouds: Collection[int]) -> Observations:
        """The rest: without the items of these numbers."""
        return replace(
            self,
            images=[item for k, item in enumerate(self.images) if k not in images],
            clouds=[item for k, item in enumerate(self.clouds) if k not in clouds],
        )


def observe(
    images: Iterable[NDArray],
    clouds: Iterable[Cloud],
    without_images: Iterable[NDArray],
    without_clouds: Iterable[Cloud],
    backbone: ImageBackbone,
    bank: BackgroundBank,
    config: BuildConfig,
    progress: Progress = lambda stage, done, total: None,
) -> Observations:
    """Run the backbone over all items; arguments as in :func:`~geoseg_ros.concepts.build.build_pack`.

    Raises:
        InputError: the bank is of another backbone.
    """
    if bank.backbone_hash != backbone.hash:
        raise InputError(f"background bank: made with another backbone than {backbone.name}")

    def photographs(stage: str, items: Iterable[NDArray]) -> list[Photograph]:
        total = len(items) if isinstance(items, Sized) else 0
        result: list[Photograph] = []
        for done, image in enumerate(items, 1):
            scales = config.train.scales
            result.append([unit(photo_tokens(backbone, image, config.coseg.image_side, s)[0], bank.mean) for s in scales])
            progress(stage, done, total)
        return result

    def proposals(stage: str, items: Iterable[Cloud]) -> list[Proposals]:
        total = len(items) if isinstance(items, Sized) else 0
        result: list[Proposals] = []
        for done, cloud in enumerate(items, 1):
            views = look_at_proposals(cloud, analyse_cloud(cloud, config.geometry), backbone, bank.mean, config.views)
            if views is None:
                result.append({})
            else:
                kept = keep_proposals(views, VIEW_TOKENS)
                # a coloured cloud also teaches what the thing looks like without colour
                result.append({views.domain: kept} | ({Domain.SHADED: kept.shaded()} if views.domain is Domain.COLOUR else {}))
            progress(stage, done, total)
        return result

    return Observations(
        photographs("images", images),
        proposals("clouds", clouds),
        photographs("images without", without_images),
        proposals("clouds without", without_clouds),
    )
