"""Tokens of the images and clouds of one concept, computed once for all folds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain, photo_tokens, unit
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.proposals import overlaps
from geoseg_ros.io.items import Items
from geoseg_ros.learning.affinity import even_rows
from geoseg_ros.learning.photo_references import Photograph
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.selection import TrainConfig
from geoseg_ros.packs.bank import PHOTO_TOKENS, VIEW_TOKENS, BackgroundBank
from geoseg_ros.progress import Progress, silent
from geoseg_ros.projection.proposal_views import DrawnProposals, keep_proposals
from geoseg_ros.projection.scene import CloudScene, Remember, SceneConfig, Worked, uncached
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.settings import Settings, section

Proposals = Mapping[Domain, DrawnProposals]
Item = TypeVar("Item")
FIRST = 4  # items of each kind that are read however little time there is


@dataclass(frozen=True)
class BuildConfig(Settings):
    """All settings with which a pack is learnt."""

    coseg: CosegConfig = section(CosegConfig, "evidence for concepts, and decisions")
    train: TrainConfig = section(TrainConfig, "how reference tokens are found in the set")
    views: ViewConfig = section(ViewConfig, "how proposals are drawn for the image backbone")
    geometry: GeometryConfig = section(GeometryConfig, "voxels, planes, superpoints and proposals of a cloud")

    @property
    def scene(self) -> SceneConfig:
        """Settings of scenes."""
        return SceneConfig(self.coseg.image_side, self.views, self.geometry)


@dataclass(frozen=True)
class Observations:
    """The tokens of a set.

    Attributes:
        images: unit tokens [h, w, D] of each photograph, one map per scale.
        clouds: proposals of each cloud per view domain: coloured clouds have both domains, others the shaded one; empty without proposals.
        inside: [p, p] for each cloud, the share of each proposal (row) that lies in each other.
        without_images, without_clouds: the same for items without the concept.
        without_pictures: [PHOTO_TOKENS, D], of the picture that each organised coloured cloud without the concept is.
        image_numbers, cloud_numbers: numbers of the given items that were read, ascending; empty: all of them, in order.
    """

    images: Sequence[Photograph]
    clouds: Sequence[Proposals]
    inside: Sequence[torch.Tensor]
    without_images: Sequence[Photograph]
    without_clouds: Sequence[Proposals]
    without_pictures: Sequence[torch.Tensor] = ()
    image_numbers: Sequence[int] = ()
    cloud_numbers: Sequence[int] = ()

    def leave_out(self, images: Collection[int], clouds: Collection[int]) -> Observations:
        """A copy without the items at these positions of ``images`` and ``clouds``."""

        def rest(items: Sequence[Item], places: Collection[int]) -> list[Item]:
            return [item for k, item in enumerate(items) if k not in places]

        return replace(
            self,
            images=rest(self.images, images),
            clouds=rest(self.clouds, clouds),
            inside=rest(self.inside, clouds),
            image_numbers=rest(self.image_numbers, images),
            cloud_numbers=rest(self.cloud_numbers, clouds),
        )


def observe(
    images: Iterable[NDArray],
    clouds: Iterable[Cloud],
    without_images: Iterable[NDArray],
    without_clouds: Iterable[Cloud],
    backbone: ImageBackbone,
    bank: BackgroundBank,
    config: BuildConfig,
    progress: Progress = silent,
    seconds: float | None = None,
    remember: Remember = uncached,
) -> Observations:
    """Run the backbone over the items.

    Args:
        images, clouds, without_images, without_clouds: see :class:`~geoseg_ros.methods.base.Material`.
        backbone: the image backbone.
        bank: its background bank.
        config: settings of scenes and training.
        progress: called with (stage, done, total).
        seconds: approximate time; an evenly spread subset of each kind is read where it is too short, at least the first ``FIRST`` items.
            None: no limit.
        remember: cache of results per item.

    Raises:
        InputError: the bank was made with another backbone.
    """
    if bank.backbone_hash != backbone.hash:
        raise InputError(f"background bank: made with another backbone than {backbone.name}")
    left = sum(1 for items in (images, clouds, without_images, without_clouds) if not isinstance(items, Sized) or len(items))
    reader = _Reader(math.inf if seconds is None else time.monotonic() + seconds, left, progress, remember)

    photograph, proposals = (partial(work, backbone=backbone, bank=bank, config=config) for work in (_photograph, _proposals))

    def photographs(stage: str, items: Iterable[NDArray]) -> dict[int, Photograph]:
        return {number: [found[f"{s}"] for s in config.train.scales] for number, found in reader.read(stage, items, photograph)}

    photos, drawn = photographs("images", images), dict(reader.read("clouds", clouds, proposals))
    without = photographs("images without", without_images), dict(reader.read("clouds without", without_clouds, proposals))
    return Observations(
        list(photos.values()),
        [_both_domains(seen) for seen in drawn.values()],
        [seen.get("inside", torch.zeros(0, 0)) for seen in drawn.values()],
        list(without[0].values()),
        [_both_domains(seen) for seen in without[1].values()],
        [seen["picture"] for seen in without[1].values() if "picture" in seen],
        list(photos),
        list(drawn),
    )


def _photograph(image: NDArray, backbone: ImageBackbone, bank: BackgroundBank, config: BuildConfig) -> Worked:
    """Tokens of a photograph by scale."""
    scales = config.train.scales
    return {f"{s}": unit(photo_tokens(backbone, image, config.coseg.image_side, s)[0], bank.mean) for s in scales}


def _proposals(cloud: Cloud, backbone: ImageBackbone, bank: BackgroundBank, config: BuildConfig) -> Worked:
    """Tokens of the drawings of a cloud's proposals and of the sensor's picture, and which proposals lie in one another."""
    scene = CloudScene(cloud, backbone, config.scene)
    views, seen = scene.views, {}
    if scene.picture is not None:
        seen["picture"] = even_rows(unit(scene.picture.tokens, bank.mean).reshape(-1, backbone.dim), PHOTO_TOKENS)
    if views is None:
        return seen
    kept = keep_proposals(views.unit(bank.mean), VIEW_TOKENS)
    inside = torch.from_numpy(overlaps(scene.geometry.proposals, len(scene.geometry.xyz)))
    return seen | {f"{views.domain.value}.tokens": kept.tokens, f"{views.domain.value}.size": kept.size, "inside": inside}


@dataclass
class _Reader:
    """Reads the kinds of items one after the other within a common time.

    Attributes: end: of the time, as of ``time.monotonic``; left: kinds that are not read yet; progress, remember: see :func:`observe`.
    """

    end: float
    left: int
    progress: Progress
    remember: Remember

    def read(self, stage: str, items: Iterable[Item], step: Callable[[Item], Worked]) -> Iterator[tuple[int, Worked]]:
        """(number, result of ``step``) of the items that there is time for."""
        total = len(items) if isinstance(items, Sized) else 0
        for number, item in affordable(items, (self.end - time.monotonic()) / max(self.left, 1)):
            yield number, self.remember(stage.removesuffix(" without"), item, partial(step, item))
            self.progress(stage, number + 1, total)
        self.left -= bool(total) or not isinstance(items, Sized)


def _both_domains(seen: Worked) -> Proposals:
    """Proposals of one cloud by domain; a coloured cloud also gives shaded ones."""
    rows = {d: DrawnProposals(seen[f"{d.value}.tokens"], seen[f"{d.value}.size"]) for d in Domain if f"{d.value}.size" in seen}
    return rows | ({Domain.SHADED: rows[Domain.COLOUR].shaded()} if Domain.COLOUR in rows else {})


def affordable(items: Iterable[Item], seconds: float) -> Iterator[tuple[int, Item]]:
    """(number, item) of an evenly spread subset of items that the caller can process in about ``seconds``.

    The time per item is measured between the first ``FIRST`` items, which are always included.
    """
    begin, every = time.monotonic(), 1

    def choose(number: int) -> bool:
        nonlocal every
        if number == FIRST and math.isfinite(seconds) and isinstance(items, Sized):
            each = max(time.monotonic() - begin, 1e-6) / FIRST
            every = math.ceil((len(items) - FIRST) / max((seconds - FIRST * each) / each, 1e-3))
        return number < FIRST or (number - FIRST) % max(every, 1) == 0

    if isinstance(items, Items):  # what is not chosen is not even decoded
        yield from ((number, item) for number, _, item in items.pick(choose))
    else:
        yield from ((number, item) for number, item in enumerate(items) if choose(number))
