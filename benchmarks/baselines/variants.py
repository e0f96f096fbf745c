"""The networks that are measured: both presets, their controls, and what each lacks without one part, as settings under a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.baselines.extractor_training import PretrainConfig
from benchmarks.baselines.shapes import ShapesConfig
from geoseg_ros.methods.geofree.config import FitConfig, NetworkConfig, preset, with_budget
from geoseg_ros.settings import with_values


@dataclass(frozen=True)
class NetworkSize:
    """Attributes: points N and samples m of a cloud; width ds; extractor: how the DGCNN is pre-trained; shapes: on what."""

    points: int
    samples: int
    width: int
    extractor: PretrainConfig
    shapes: ShapesConfig

    def of(self, config: NetworkConfig) -> NetworkConfig:
        """``config`` in this size."""
        sampler = replace(config.sampler, points=self.points, samples=self.samples)
        return replace(config, sampler=sampler, gcsf=replace(config.gcsf, width=self.width))


SIZES = {
    "full": NetworkSize(2048, 256, 256, PretrainConfig(), ShapesConfig()),
    "small": NetworkSize(512, 64, 64, PretrainConfig(epochs=5, subsets=(64, 128)), ShapesConfig(16, 4, 256)),
}
"""``full``: of the papers. ``small``: what a processor can train in minutes; its extractor has seen little, too."""


@dataclass(frozen=True)
class Variant:
    """A network under a name.

    Attributes:
        name: of the method. group: of methods that are named together.
        preset: views or paper. control: see :class:`FitConfig`.
        clouds: what of a cloud the network gets: the ``whole``, or its ``proposals`` (no large plane) with what views show of them.
        settings: dotted names in :class:`FitConfig` and their values.
    """

    name: str
    group: str = "networks"
    preset: str = "paper"
    control: str = "none"
    clouds: Literal["whole", "proposals"] = "whole"
    settings: Mapping[str, Any] = field(default_factory=dict)


_UNTRAINED = {"stage1.epochs": 0, "stage2.epochs": 0, "stage3.epochs": 0}


def _views(name: str, control: str = "none", settings: Mapping[str, Any] | None = None) -> Variant:
    return Variant(name, "views", "views", control, "proposals", settings or {})


VARIANTS = (
    Variant("Yang (released)", control="cloud_only"),
    Variant("GeoFree, paper preset"),
    Variant("GeoFree, images of another concept", control="permuted"),
    Variant("GeoFree, images shuffled each step", control="shuffled"),
    _views("GeoFree on views"),
    _views("GeoFree on views, images of another concept", "permuted"),
    _views("GeoFree on views, images shuffled each step", "shuffled"),
    _views("GeoFree on views, no fusion", settings={"network.sfe.fused": False}),
    _views("GeoFree on views, no learnt score", settings={"network.sampler.learnt": 0.0}),
    _views("GeoFree on views, untrained", settings=_UNTRAINED),
    _views("GeoFree on views, untrained, images of another concept", "permuted", settings=_UNTRAINED),
    _views("GeoFree on views, untrained, images shuffled each step", "shuffled", settings=_UNTRAINED),
)


GATED = ("GeoFree on views", "GeoFree on views, untrained")
"""Variants that are also measured behind a test of presence."""


def settings(variant: Variant, size: NetworkSize, budget: int | None, seed: int) -> FitConfig:
    """How a variant is trained. Without images stage 1 trains nothing that is used and stage 3 is a longer stage 2."""
    config = with_budget(preset(variant.preset), budget)
    config = replace(config, network=size.of(config.network), control=variant.control, seed=seed)  # type: ignore[arg-type]
    config = with_values(config, variant.settings)
    if variant.control != "cloud_only":
        return config
    joint = config.stage2.epochs + config.stage3.epochs
    none, long, last = replace(config.stage1, epochs=0), replace(config.stage2, epochs=joint), replace(config.stage3, epochs=0)
    return replace(config, stage1=none, stage2=long, stage3=last)
