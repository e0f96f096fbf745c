"""The methods of the package, wrapped for measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.evaluate.items import CosegSet, Image, Item, Mask, NamedMethod, Prediction, Predictions
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.items import Arrays, Items
from geoseg_ros.methods.base import Context, Material, Method, Pack, SetModel, SetOptions
from geoseg_ros.methods.registry import SCENE_METHODS, method_names, open_method
from geoseg_ros.packs.bank import BackgroundBank
from geoseg_ros.results import Presence, SetCloud, SetImage
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.runtime.set_segmentation import segment_set


@dataclass(frozen=True)
class Tools:
    """The backbone, its background bank and the settings that methods are measured with."""

    backbone: ImageBackbone
    bank: BackgroundBank
    config: PipelineConfig

    @property
    def context(self) -> Context:
        """The context in which methods learn and open packs."""
        return Context(self.backbone, self.bank, self.config.scene, self.config.coseg)


class PackMethod:
    """A method of the package as its users run it: the pipeline of the live node, or the co-segmentation of a set about itself.

    Packs are built from the concept and its rivals and loaded together. They are kept as long as the object lives: sets share concepts.

    Args:
        tools: backbone, bank and settings.
        given: selects the part of a concept that is used; the identity is the method itself, others are ablations.
        method: its name.
    """

    def __init__(self, tools: Tools, given: Callable[[Material], Material] = lambda concept: concept, method: str = "contrast") -> None:
        self._tools, self._given, self._name = tools, given, method
        self._packs: dict[int, tuple[Material, Pack]] = {}  # the concept is kept so that its id stays taken
        self._last: tuple[CosegSet, SetModel] | None = None  # of the last set about itself

    @cached_property
    def _method(self) -> Method:
        return open_method(self._name)

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """Predictions by the pipeline; none where nothing is left to learn from. Nothing is random: the seed is not used."""
        return self._predict(items, outliers=True)

    def no_outliers(self, items: CosegSet, seed: int) -> Predictions:
        """The same where every item of a set about itself is known to show the target; of other sets nothing is predicted."""
        return self._predict(items, outliers=False) if items.transductive else Predictions()

    def _predict(self, items: CosegSet, outliers: bool) -> Predictions:
        used = [self._given(concept) for concept in (items.own, *items.rivals)]
        known = [bool(concept.images) or bool(concept.clouds) for concept in used]
        if not known[0]:
            return Predictions()
        rivals = [self._pack(concept) for concept, some in zip(items.rivals, known[1:], strict=True) if some]
        if items.transductive:
            return self._about_itself(used[0], items, rivals, outliers)
        pipeline = Pipeline(self._tools.backbone, [self._pack(items.own), *rivals], self._tools.config)
        return Predictions([_image(pipeline, item) for item in items.images], [_cloud(pipeline, item) for item in items.clouds])

    def _about_itself(self, own: Material, items: CosegSet, rivals: Sequence[Pack], outliers: bool) -> Predictions:
        """Predictions for a set that is also learnt from, as by :func:`geoseg_ros.cosegment`."""
        context = self._tools.context
        if self._last is None or self._last[0] is not items:
            self._last = items, self._method.learn_set(own, context, SetOptions(outliers, rivals=rivals))
        model = self._last[1].with_outliers(outliers)
        images = Items([Arrays([item.data for item in items.images])])
        clouds = Items([Arrays([item.data for item in items.clouds])])
        found = segment_set(model, own.name, images, clouds, context, self._tools.config, outliers)
        return Predictions([_set_prediction(item) for item in found.images], [_set_prediction(item) for item in found.clouds])

    def _pack(self, concept: Material) -> Pack:
        if id(concept) not in self._packs:
            self._packs[id(concept)] = concept, self._method.learn(self._given(concept), self._tools.context)
        return self._packs[id(concept)][1]


def _image(pipeline: Pipeline, item: Item[Image]) -> Prediction:
    result = pipeline.process_image(item.data)
    return _prediction(result.mask == 1, result.presence[0])


def _cloud(pipeline: Pipeline, item: Item[Cloud]) -> Prediction:
    result = pipeline.process_cloud(item.data)
    return _prediction(result.label == 1, result.presence[0])


def _set_prediction(item: SetImage | SetCloud) -> Prediction:
    mask = item.mask if isinstance(item, SetImage) else item.label == 1
    return Prediction(mask, -item.p_value, 1 - item.p_value)


def _prediction(mask: Mask, presence: Presence) -> Prediction:
    return Prediction(mask, -presence.p_value, 1 - presence.p_value)


def own_methods(tools: Tools) -> list[NamedMethod]:
    """The training-free contrast of the live node; and the same as ``geoseg coseg --no-outliers``. They learn a set once."""
    method = PackMethod(tools)
    return [
        NamedMethod("contrast", method, backbone=True),
        NamedMethod("contrast, no outliers", method.no_outliers, backbone=True),
    ]


def further_methods(tools: Tools) -> list[NamedMethod]:
    """The other methods that can be opened here, of the package and of installed ones, each also with the knowledge that all items of a set
    about itself show the target. They may train for long."""
    methods = {name: PackMethod(tools, method=name) for name in method_names() if name not in ("contrast", *SCENE_METHODS)}
    named = [pair for name, method in methods.items() for pair in ((name, method), (f"{name}, no outliers", method.no_outliers))]
    return [NamedMethod(name, predict, backbone=True) for name, predict in named]


def contrast(tools: Tools) -> NamedMethod:
    """The first of :func:`own_methods`."""
    return own_methods(tools)[0]
