"""The networks that are measured: presets, controls, ladders, and what may make images matter, each as settings under a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from geoseg_ros.learning.shape_pretraining import PretrainConfig
from geoseg_ros.methods.geofree.config import NetworkConfig
from geoseg_ros.methods.geofree.presets import VIEWS, with_budget
from geoseg_ros.methods.geofree.training_config import FitConfig, fit_preset
from geoseg_ros.settings import with_values
from geoseg_ros.simulation.shapes import ShapesConfig


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
        preset, control: see :class:`FitConfig`.
        clouds: what of a cloud the network gets: the ``whole``, or its ``proposals`` (no large plane) with what views show of them.
        settings: dotted names in :class:`FitConfig` and their values.
    """

    name: str
    group: str = "networks"
    preset: str = "default"
    control: str = "none"
    clouds: Literal["whole", "proposals"] = "whole"
    settings: Mapping[str, Any] = field(default_factory=dict)


def _network(**parts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"network.{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


_SCORES = _network(sampler={"choose": "scores"}) | {"network.decode": "scores"}
_VIEWS = _network(gcsf={"points": "views", "width": 128})
_FUSION = _network(sfe={"start": "random", "residual": "standardised", "attention": "cosine"}, gcsf={"centre": True})
_WEIGHT = _FUSION | {"fusion_rate": 10.0}
_ROWS = _network(gcsf={"evidence": "rows"})
_CONTRAST = _network(mgcm={"signal": "contrast"})
_BEST = VIEWS
_UNTRAINED = {"stage1.epochs": 0, "stage2.epochs": 0, "stage3.epochs": 0}
_THROUGH = _network(gcsf={"evidence": "attention"})
_ALIKE = _THROUGH | _network(sfe={"attention": "cosine", "compare": "identity"})
_BASE = _network(mgcm={"channel_grain": False, "cls_weight": 0.0})
_ALONE = _network(sfe={"fusion": "none"}, gcsf={"evidence": "none"})


def _views(name: str, group: str = "views", control: str = "none", settings: Mapping[str, Any] | None = None) -> Variant:
    return Variant(name, group, control=control, clouds="proposals", settings={**_BEST, **(settings or {})})


VARIANTS = (
    Variant("Yang (released)", preset="paper", control="cloud_only"),
    Variant("Yang (intended)", control="cloud_only"),
    Variant("GeoFree"),
    Variant("GeoFree, paper preset", preset="paper"),
    Variant("GeoFree, images of another concept", control="permuted"),
    Variant("GeoFree, images shuffled each step", control="shuffled"),
    Variant("GeoFree, no fusion", settings=_network(sfe={"fusion": "none"})),
    Variant("GeoFree, graph without attention", settings=_network(sfe={"fusion": "graph"})),
    # what may make images matter, one thing after the other
    Variant("GeoFree, fusion starts at random", "steering", settings=_network(sfe={"start": "random"})),
    Variant("GeoFree, fusion weighs more", "steering", settings=_WEIGHT),
    Variant("GeoFree, kept edges only", "steering", settings=_WEIGHT | _network(gcsf={"epsilon": 0.0})),
    Variant("GeoFree, L_samp / 100", "steering", settings=_network(loss={"samp": 0.01})),
    Variant("GeoFree, fusion weighs more, L_samp / 100", "steering", settings=_WEIGHT | _network(loss={"samp": 0.01})),
    Variant("GeoFree, scores", "steering", settings=_SCORES),
    Variant("GeoFree, scores, fusion weighs more", "steering", settings=_WEIGHT | _SCORES),
    Variant("Yang (intended), proposals", "steering", control="cloud_only", clouds="proposals"),
    Variant("GeoFree, proposals", "steering", clouds="proposals"),
    Variant("GeoFree, views", "steering", clouds="proposals", settings=_VIEWS),
    Variant("GeoFree, views, fusion weighs more", "steering", clouds="proposals", settings=_VIEWS | _WEIGHT),
    Variant("GeoFree, views, scores", "steering", clouds="proposals", settings=_VIEWS | _SCORES),
    Variant("GeoFree, views, scores, evidence", "steering", clouds="proposals", settings=_VIEWS | _SCORES | _ROWS),
    Variant("GeoFree, views, scores, contrast as evidence", "steering", clouds="proposals", settings=_VIEWS | _SCORES | _ROWS | _CONTRAST),
    # the form that came out of it
    _views("GeoFree on views"),
    _views("GeoFree on views, images of another concept", control="permuted"),
    _views("GeoFree on views, images shuffled each step", control="shuffled"),
    _views("GeoFree on views, no learnt score", settings=_network(sampler={"learnt": 0.0})),
    _views("GeoFree on views, untrained", settings=_UNTRAINED),
    _views("GeoFree on views, untrained, images of another concept", control="permuted", settings=_UNTRAINED),
    _views("GeoFree on views, untrained, images shuffled each step", control="shuffled", settings=_UNTRAINED),
    # its ladders: Table 6, Table 3, K, prior, decode
    _views("ladder: base", "ladder", settings=_BASE | _ALONE),
    _views("ladder: + MGCM", "ladder", settings=_ALONE),
    _views("ladder: + GCSF", "ladder", settings=_network(sfe={"fusion": "graph"})),
    _views("ladder: + SFE", "ladder"),
    _views("ladder: + SFE, evidence through it", "ladder", settings=_THROUGH),
    _views("ladder: + SFE, evidence through it, comparable", "ladder", settings=_ALIKE),
    _views("ladder: + SFE, evidence through it, untrained", "ladder", settings=_THROUGH | _UNTRAINED),
    _views("ladder: + SFE, evidence through it, comparable, untrained", "ladder", settings=_ALIKE | _UNTRAINED),
    _views("ladder: L_sem alone", "ladder", settings=_network(loss={"obj": 0.0})),
    _views("ladder: L_obj alone", "ladder", settings=_network(loss={"sem": 0.0})),
    _views("ladder: neither", "ladder", settings=_network(loss={"sem": 0.0, "obj": 0.0})),
    *(_views(f"ladder: K {k}", "ladder", settings=_network(gcsf={"k": k})) for k in (5, 10, 40, 80)),
    *(_views(f"ladder: K {k}, untrained", "ladder", settings=_network(gcsf={"k": k}) | _UNTRAINED) for k in (5, 10, 40, 80)),
    _views("ladder: decode scores, untrained", "ladder", settings={**_UNTRAINED, "network.decode": "scores"}),
    _views("ladder: decode competitive, untrained", "ladder", settings={**_UNTRAINED, "network.decode": "competitive"}),
    _views("ladder: decode knn20, untrained", "ladder", settings={**_UNTRAINED, "network.decode": "knn20"}),
    _views("ladder: correlation and contrast", "ladder", settings=_network(mgcm={"signal": "both"})),
    _views("ladder: paper prior", "ladder", settings=_network(sfe={"prior_mode": "paper"})),
    _views("ladder: decode knn20", "ladder", settings={"network.decode": "knn20"}),
    _views("ladder: decode competitive", "ladder", settings={"network.decode": "competitive"}),
    _views("ladder: decode scores", "ladder", settings={"network.decode": "scores"}),
)


GATED = ("GeoFree on views", "GeoFree on views, untrained")
"""Variants that are also measured behind a test of presence."""


def settings(variant: Variant, size: NetworkSize, budget: int | None, seed: int) -> FitConfig:
    """How a variant is trained. Without images stage 1 trains nothing that is used and stage 3 is a longer stage 2."""
    config = with_budget(fit_preset(variant.preset), budget)
    config = replace(config, network=size.of(config.network), control=variant.control, seed=seed)  # type: ignore[arg-type]
    config = with_values(config, variant.settings)
    if variant.control != "cloud_only":
        return config
    joint = config.stage2.epochs + config.stage3.epochs
    none, long, last = replace(config.stage1, epochs=0), replace(config.stage2, epochs=joint), replace(config.stage3, epochs=0)
    return replace(config, stage1=none, stage2=long, stage3=last)
