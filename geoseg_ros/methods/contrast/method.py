"""The contrast method, training-free: learning of packs and sets, and opening of packs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

from geoseg_ros.errors import InputError
from geoseg_ros.methods.base import Context, Material, Method, Pack, Presence, SetModel, SetOptions, Verdict
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.cross_fitting import CrossFit, cross_fit
from geoseg_ros.methods.contrast.learning import learn
from geoseg_ros.methods.contrast.observations import BuildConfig, Observations, observe
from geoseg_ros.methods.contrast.pack import METHOD, Concept
from geoseg_ros.methods.contrast.segmenter import ContrastSegmenter
from geoseg_ros.methods.contrast.verdict import decide, judging
from geoseg_ros.packs.bank import BackgroundBank


class ContrastMethod(Method):
    """The contrast method. ``Context.settings`` is a :class:`BuildConfig`, or a :class:`CosegConfig` where packs are only opened."""

    name = METHOD
    settings = BuildConfig

    def learn(self, material: Material, context: Context, seconds: float | None = None) -> Pack:
        """Learn a concept pack; see :meth:`Method.learn`. Nearly all of the time goes into reading the items' tokens."""
        config = build_config(context)
        observations = self._observe(material, context, config, seconds)
        return learn(material.name, observations, context.backbone, _bank(context), config).to_pack()

    def open(self, packs: Sequence[Pack], context: Context) -> ContrastSegmenter:
        """Open concept packs together."""
        return ContrastSegmenter([Concept.from_pack(pack) for pack in packs], settings(context))

    def check(self, pack: Pack) -> None:
        """See :meth:`Method.check`."""
        super().check(pack)
        Concept.from_pack(pack)

    def learn_set(self, material: Material, context: Context, options: SetOptions) -> ContrastSet:
        """Learn from a set by cross-fitting: each item is judged by a concept that was learnt from the others."""
        config, bank = build_config(context), _bank(context)
        observations = self._observe(material, context, config, options.seconds)
        pack = learn(material.name, observations, context.backbone, bank, config).to_pack() if options.keep_pack else None
        step = partial(context.progress, "learning")
        fitted = cross_fit(material.name, observations, context.backbone, bank, config, options.folds, step)
        return ContrastSet(
            fitted, observations, config.coseg, [Concept.from_pack(rival) for rival in options.rivals], options.outliers, pack
        )

    def _observe(self, material: Material, context: Context, config: BuildConfig, seconds: float | None) -> Observations:
        items = (material.images, material.clouds, material.without_images, material.without_clouds)
        return observe(*items, context.backbone, _bank(context), config, context.progress, seconds, context.remember)


class ContrastSet(SetModel):
    """A cross-fitted set, see :class:`~geoseg_ros.methods.base.SetModel`."""

    def __init__(
        self,
        fitted: CrossFit,
        observations: Observations,
        config: CosegConfig,
        rivals: Sequence[Concept],
        outliers: bool,
        pack: Pack | None,
    ) -> None:
        self.pack = pack
        self.folds = (fitted.image_folds, fitted.cloud_folds)
        self.used = (len(observations.images), len(observations.clouds))
        self._fitted, self._observations, self._config, self._outliers = fitted, observations, config, outliers
        self._versions = [concept.to_pack().version for concept in fitted.concepts]
        # one segmenter per fold and settings; images and clouds may share it
        self._open = cache(lambda fold, settings: ContrastSegmenter([fitted.concepts[fold], *rivals], settings))

    def image_judge(self, number: int) -> tuple[ContrastSegmenter, str]:
        return self._judge(self._fitted.image(number), self.folds[0])

    def cloud_judge(self, number: int) -> tuple[ContrastSegmenter, str]:
        return self._judge(self._fitted.cloud(number), self.folds[1])

    def _judge(self, fold: int, folds: int) -> tuple[ContrastSegmenter, str]:
        config = judging(self._config, folds)
        return self._open(fold, config), f"{self._versions[fold]}, p_max {config.p_max}"

    def decide(self, images: Sequence[Presence], clouds: Sequence[Presence]) -> Verdict:
        p_values = [[presence.p_value for presence in found] for found in (images, clouds)]
        return decide(self._fitted, self._observations, p_values[0], p_values[1], self._config, self._outliers)


def settings(context: Context) -> CosegConfig:
    """Settings of an open segmenter, with the image size of the context's scenes."""
    found = context.settings.coseg if isinstance(context.settings, BuildConfig) else context.settings or CosegConfig()
    return replace(found, image_side=context.scene.image_side)


def build_config(context: Context) -> BuildConfig:
    """All settings with which a concept is learnt: the context's, where they are a :class:`BuildConfig`."""
    if isinstance(context.settings, BuildConfig):
        return context.settings
    return BuildConfig(settings(context), views=context.scene.views, geometry=context.scene.geometry)


def _bank(context: Context) -> BackgroundBank:
    if context.bank is None:
        raise InputError("contrast: a background bank is needed to learn")
    return context.bank
