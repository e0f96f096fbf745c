"""The package's own methods in the form in which they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from geoseg_ros.concepts.bank import BackgroundBank
from geoseg_ros.concepts.build import build_pack
from geoseg_ros.concepts.cross_fit import CrossFit, cross_fit, shows
from geoseg_ros.concepts.observe import BuildConfig, observe
from geoseg_ros.concepts.pack import ConceptPack
from geoseg_ros.evaluate.items import Answer, Concept, CosegSet, Mask, NamedMethod, Predictions
from geoseg_ros.features.backbone import ImageBackbone
from geoseg_ros.runtime.pipeline import CosegPipeline, PipelineConfig
from geoseg_ros.runtime.results import Presence


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

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """Answers by the pipeline; none where nothing is left to learn from. Nothing is random: the seed is not used."""
        used = [self._given(concept) for concept in (items.own, *items.rivals)]
        known = [bool(concept.images) or bool(concept.clouds) for concept in used]
        if not known[0]:
            return Predictions()
        rivals = [self._pack(concept) for concept, some in zip(items.rivals, known[1:], strict=True) if some]
        tools = self._tools
        if items.transductive:  # as `geoseg coseg` does it
            material = (used[0].images, used[0].clouds, used[0].without_images, used[0].without_clouds)
            seen = observe(*material, tools.backbone, tools.bank, tools.config)
            fitted = cross_fit(used[0].name, seen, tools.backbone, tools.bank, tools.config)
        else:
            fitted = CrossFit([self._pack(items.own)], 1, 1)
        config = PipelineConfig(tools.config.coseg, tools.config.views, tools.config.geometry)
        pipelines = [CosegPipeline(tools.backbone, [pack, *rivals], config) for pack in fitted.packs]
        images, clouds = [], []
        for k, image in enumerate(items.images):
            result = pipelines[fitted.image(k)].process_image(image.data)
            images.append(_answer(result.mask == 1, result.presence[0]))
        for k, cloud in enumerate(items.clouds):
            found = pipelines[fitted.cloud(k)].process_cloud(cloud.data)
            clouds.append(_answer(found.label == 1, found.presence[0]))
        if fitted.image_folds > 1:
            images = _showing(images)
        if fitted.cloud_folds > 1:
            clouds = _showing(clouds)
        return Predictions(images, clouds)

    def _pack(self, concept: Concept) -> ConceptPack:
        if id(concept) not in self._packs:
            used = self._given(concept)
            tools = self._tools
            material = (used.images, used.clouds, used.without_images, used.without_clouds)
            self._packs[id(concept)] = concept, build_pack(used.name, *material, tools.backbone, tools.bank, tools.config)
        return self._packs[id(concept)][1]


def _answer(mask: Mask, presence: Presence) -> Answer:
    return Answer(mask, -presence.p_value, 1 - presence.p_value)


def _showing(answers: list[Answer]) -> list[Answer]:
    """The answers of a set about itself: empty where the set tells that an item does not show the thing."""
    shown = shows([-float(answer.score or 0) for answer in answers])
    return [replace(answer, mask=answer.mask & bool(keep)) for answer, keep in zip(answers, shown, strict=True)]


def contrast(tools: Tools) -> NamedMethod:
    """The training-free contrast of the live node."""
    return NamedMethod("contrast", PackMethod(tools), backbone=True)
