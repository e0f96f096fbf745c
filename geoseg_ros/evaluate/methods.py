"""The package's own methods in the form in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.evaluate.items import Answer, Concept, CosegSet, Image, Item, Mask, NamedMethod, Predictions
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.cross_fitting import CrossFit, cross_fit
from geoseg_ros.methods.contrast.learning import build_pack
from geoseg_ros.methods.contrast.observations import BuildConfig, Observations, observe
from geoseg_ros.methods.contrast.pack import ConceptPack
from geoseg_ros.methods.contrast.verdict import decide, judging
from geoseg_ros.packs.bank import BackgroundBank
from geoseg_ros.results import Presence
from geoseg_ros.runtime.pipeline import CosegPipeline, PipelineConfig


@dataclass(frozen=True)
class Tools:
    """What methods see with. Attributes: backbone; bank: its background; config."""

    backbone: ImageBackbone
    bank: BackgroundBank
    config: BuildConfig


class PackMethod:
    """Packs are built from the concept and its rivals, loaded together, and run by the pipeline of the live node.

    Packs are kept as long as the object lives: sets share concepts.

    Args:
        given: what of a concept is used; the identity is the method itself, others are ablations.
    """

    def __init__(self, tools: Tools, given: Callable[[Concept], Concept] = lambda concept: concept) -> None:
        self._tools, self._given = tools, given
        self._packs: dict[int, tuple[Concept, ConceptPack]] = {}  # the concept is kept so that its id stays taken
        self._last: tuple[CosegSet, Observations, CrossFit] | None = None  # of the last set about itself

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """Answers by the pipeline; none where nothing is left to learn from. Nothing is random: the seed is not used."""
        return self._answers(items, outliers=True)

    def no_outliers(self, items: CosegSet, seed: int) -> Predictions:
        """The same where every item of a set about itself is known to show the thing; other sets are not answered."""
        return self._answers(items, outliers=False) if items.transductive else Predictions()

    def _answers(self, items: CosegSet, outliers: bool) -> Predictions:
        used = [self._given(concept) for concept in (items.own, *items.rivals)]
        known = [bool(concept.images) or bool(concept.clouds) for concept in used]
        if not known[0]:
            return Predictions()
        rivals = [self._pack(concept) for concept, some in zip(items.rivals, known[1:], strict=True) if some]
        if items.transductive:
            return self._about_itself(used[0], items, rivals, outliers)
        pipeline = self._pipeline(self._pack(items.own), rivals, self._tools.config.coseg)
        return Predictions([_image(pipeline, item) for item in items.images], [_cloud(pipeline, item) for item in items.clouds])

    def _about_itself(self, own: Concept, items: CosegSet, rivals: Sequence[ConceptPack], outliers: bool) -> Predictions:
        """The items are those that are learnt from: as ``geoseg coseg`` does it."""
        tools = self._tools
        if self._last is None or self._last[0] is not items:
            learnt = observe(own.images, own.clouds, own.without_images, own.without_clouds, tools.backbone, tools.bank, tools.config)
            self._last = items, learnt, cross_fit(own.name, learnt, tools.backbone, tools.bank, tools.config)
        _, seen, fitted = self._last
        coseg = [judging(tools.config.coseg, folds) for folds in (fitted.image_folds, fitted.cloud_folds)]
        pipelines = {c: [self._pipeline(pack, rivals, c) for pack in fitted.packs] for c in set(coseg)}
        shown = () if outliers else (own.name,)
        images = [_image(pipelines[coseg[0]][fitted.image(k)], item, shown) for k, item in enumerate(items.images)]
        clouds = [_cloud(pipelines[coseg[1]][fitted.cloud(k)], item, shown) for k, item in enumerate(items.clouds)]
        verdict = decide(fitted, seen, _p_values(images), _p_values(clouds), tools.config.coseg, outliers)
        return Predictions(_showing(images, verdict.images), _showing(clouds, verdict.clouds))

    def _pipeline(self, pack: ConceptPack, rivals: Sequence[ConceptPack], coseg: CosegConfig) -> CosegPipeline:
        tools = self._tools
        return CosegPipeline(tools.backbone, [pack, *rivals], PipelineConfig(coseg, tools.config.views, tools.config.geometry))

    def _pack(self, concept: Concept) -> ConceptPack:
        if id(concept) not in self._packs:
            used = self._given(concept)
            tools = self._tools
            material = (used.images, used.clouds, used.without_images, used.without_clouds)
            self._packs[id(concept)] = concept, build_pack(used.name, *material, tools.backbone, tools.bank, tools.config)
        return self._packs[id(concept)][1]


def _image(pipeline: CosegPipeline, item: Item[Image], shown: Sequence[str] = ()) -> Answer:
    result = pipeline.process_image(item.data, shown)
    return _answer(result.mask == 1, result.presence[0])


def _cloud(pipeline: CosegPipeline, item: Item[Cloud], shown: Sequence[str] = ()) -> Answer:
    result = pipeline.process_cloud(item.data, shown)
    return _answer(result.label == 1, result.presence[0])


def _answer(mask: Mask, presence: Presence) -> Answer:
    return Answer(mask, -presence.p_value, 1 - presence.p_value)


def _p_values(answers: Sequence[Answer]) -> list[float]:
    return [-float(answer.score or 0) for answer in answers]


def _showing(answers: Sequence[Answer], flags: NDArray[np.bool_]) -> list[Answer]:
    """The answers of a set about itself: empty where the set tells that an item does not show the thing."""
    return [replace(answer, mask=answer.mask & bool(keep)) for answer, keep in zip(answers, flags, strict=True)]


def own_methods(tools: Tools) -> list[NamedMethod]:
    """The training-free contrast of the live node; and the same as ``geoseg coseg --no-outliers``. They learn a set once."""
    method = PackMethod(tools)
    return [
        NamedMethod("contrast", method, backbone=True),
        NamedMethod("contrast, no outliers", method.no_outliers, backbone=True),
    ]


def contrast(tools: Tools) -> NamedMethod:
    """The first of :func:`own_methods`."""
    return own_methods(tools)[0]
