"""Trained networks as methods: GeoFree-CoSeg, the 3D branch alone (Yang et al., ICCV 2021), and what a cross-modal gain is compared with.

All of them are :mod:`geoseg_ros.train` with other settings, the same number of epochs, and the same extractor. A network of preset
``paper`` learns one concept at a time; that of preset ``default`` learns the rivals with it, each the others' negatives, where there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.coseg.network.bank import build_bank
from geoseg_ros.coseg.network.config import NetworkConfig
from geoseg_ros.coseg.network.inputs import ImageTokens, PreparedCloud, image_tokens, prepare_cloud
from geoseg_ros.coseg.network.predict import predict_clouds, predict_images
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.baselines.memory import PerCloud
from geoseg_ros.evaluate.baselines.tokens import full_size
from geoseg_ros.evaluate.items import Answer, Concept, CosegSet, Image, NamedMethod, Predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.features.dgcnn import Dgcnn
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.train.checkpoint import load_extractor, save_extractor
from geoseg_ros.train.config import FitConfig, fit_preset
from geoseg_ros.train.fit import Fitted, fit
from geoseg_ros.train.pretrain import PretrainConfig, pretrain
from geoseg_ros.train.sets import TrainingSet, controlled

ALARM = 0.98
"""Correlation of the 3D scores under right and under wrong images from which on images do not steer them."""
LEAST_BUDGET = 3


@dataclass(frozen=True)
class NetworkSize:
    """Attributes: points N and samples m of a cloud; width ds; extractor: how the DGCNN is pre-trained."""

    points: int
    samples: int
    width: int
    extractor: PretrainConfig

    def of(self, config: NetworkConfig) -> NetworkConfig:
        """``config`` in this size."""
        sampler = replace(config.sampler, points=self.points, samples=self.samples)
        return replace(config, sampler=sampler, gcsf=replace(config.gcsf, width=self.width))


SIZES = {
    "full": NetworkSize(2048, 256, 256, PretrainConfig()),
    "small": NetworkSize(512, 64, 64, PretrainConfig(epochs=5, shapes=16, held_out=4, points=256, subsets=(64, 128))),
}
"""``full``: of the papers. ``small``: what a processor can train in minutes; its extractor has seen little, too."""


@dataclass(frozen=True)
class Variant:
    """A network under a name. Attributes: name; preset; control and fusion, see :class:`FitConfig` and ``SfeConfig``."""

    name: str
    preset: str = "default"
    control: str = "none"
    fusion: str = "attention"


VARIANTS = (
    Variant("Yang (released)", preset="paper", control="cloud_only"),
    Variant("Yang (intended)", control="cloud_only"),
    Variant("GeoFree"),
    Variant("GeoFree, paper preset", preset="paper"),
    Variant("GeoFree, images of another concept", control="permuted"),
    Variant("GeoFree, images shuffled each step", control="shuffled"),
    Variant("GeoFree, no fusion", fusion="none"),
    Variant("GeoFree, graph without attention", fusion="graph"),
)


def with_budget(config: FitConfig, epochs: int | None) -> FitConfig:
    """The stages shortened or lengthened in proportion, ``epochs`` in all; None: as they are.

    Raises:
        InputError: fewer epochs than stages.
    """
    if epochs is None:
        return config
    if epochs < LEAST_BUDGET:
        raise InputError(f"budget: expected at least {LEAST_BUDGET} epochs, one for each stage, got {epochs}")
    stages = (config.stage1, config.stage2, config.stage3)
    total = sum(stage.epochs for stage in stages)
    ends = [0, *(round(epochs * done / total) for done in accumulate(stage.epochs for stage in stages))]
    first, second, third = (replace(stage, epochs=b - a) for stage, (a, b) in zip(stages, pairwise(ends), strict=True))
    return replace(config, stage1=first, stage2=second, stage3=third)


def settings(variant: Variant, size: NetworkSize, budget: int | None, seed: int) -> FitConfig:
    """How a variant is trained. Without images stage 1 trains nothing that is used and stage 3 is a longer stage 2."""
    config = with_budget(fit_preset(variant.preset), budget)
    network = size.of(config.network)
    network = replace(network, sfe=replace(network.sfe, fusion=variant.fusion))  # type: ignore[arg-type]
    config = replace(config, network=network, control=variant.control, seed=seed)  # type: ignore[arg-type]
    if variant.control != "cloud_only":
        return config
    joint = config.stage2.epochs + config.stage3.epochs
    none, long, last = replace(config.stage1, epochs=0), replace(config.stage2, epochs=joint), replace(config.stage3, epochs=0)
    return replace(config, stage1=none, stage2=long, stage3=last)


@dataclass
class Networks:
    """What the trained methods share.

    Attributes:
        tools: the backbone is used.
        size: of the networks. budget: epochs of each training in all; None: the preset's.
        beside: sets of the same run. A set without rivals takes the images of another concept, for a control, from those of its group.
        device: of the training; auto, cpu or cuda.
        weights: file of the extractor: read, or where there is none trained and written; None: trained in every run.
    """

    tools: Tools
    size: NetworkSize = SIZES["full"]
    budget: int | None = None
    beside: Sequence[CosegSet] = ()
    device: str = "auto"
    weights: Path | None = None
    _known: dict[int, tuple[Concept, TrainingSet]] = field(default_factory=dict)
    _tokens: dict[int, tuple[Sequence[Image], ImageTokens]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with_budget(FitConfig(), self.budget)  # said now, not after the first hour
        self.prepared = PerCloud(self._prepare)
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def extractor(self) -> Dgcnn:
        """The frozen feature extractor. Raises InputError where its file is damaged."""
        if self.weights is not None and self.weights.exists():
            return load_extractor(self.weights)
        network, scores = pretrain(self.size.extractor, device=self.device)
        network.source += f", {scores['accuracy']:.0%} of new instances right after {scores['steps']:.0f} steps"
        if self.weights is not None:
            save_extractor(self.weights, network, scores)
        return network

    def methods(self) -> list[NamedMethod]:
        """One for each of ``VARIANTS``."""
        return [NamedMethod(v.name, NetworkMethod(self, v), learns=True, random=True, backbone=v.control != "cloud_only") for v in VARIANTS]

    def _prepare(self, cloud: Cloud) -> PreparedCloud | None:
        try:
            return prepare_cloud(cloud.xyz, self.size.points)
        except InputError:
            return None  # too few points to be one

    def clouds(self, clouds: Sequence[Cloud]) -> list[PreparedCloud]:
        """Those of the clouds that have points enough."""
        return [found for found in map(self.prepared, clouds) if found is not None]

    def images(self, images: Sequence[Image]) -> ImageTokens:
        """Tokens of pictures, remembered."""
        if id(images) not in self._tokens:
            self._tokens[id(images)] = images, image_tokens(self.tools.backbone, images)
        return self._tokens[id(images)][1]

    def training_set(self, concept: Concept) -> TrainingSet:
        """A concept as the networks learn it, remembered."""
        if id(concept) not in self._known:
            without = self.images(concept.without_images) if concept.without_images else None
            found = TrainingSet(
                concept.name, self.clouds(concept.clouds), self.images(concept.images), self.clouds(concept.without_clouds), without
            )
            self._known[id(concept)] = concept, found
        return self._known[id(concept)][1]

    def others(self, items: CosegSet) -> list[Concept]:
        """Other concepts with pictures: the rivals, else those of the sets beside this one."""
        alike = [s.own for s in self.beside if (s.group, s.protocol, s.seed) == (items.group, items.protocol, items.seed)]
        found = {c.name: c for c in (items.rivals or alike) if c.name != items.own.name and c.images}
        return [found[name] for name in sorted(found)]


class NetworkMethod:
    """One variant. It is trained once per concepts and seed; those of the last concepts are kept."""

    def __init__(self, shared: Networks, variant: Variant) -> None:
        self.shared, self.variant = shared, variant
        self._of: tuple[int, ...] = ()
        self._fitted: dict[int, Fitted] = {}

    @property
    def sees(self) -> bool:
        """Whether images take part."""
        return self.variant.control != "cloud_only"

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """Answers of the trained network; none where a set lacks what is needed: two clouds, and pictures unless it sees none.

        Raises:
            InputError: a control that needs another concept's pictures, and there is none.
        """
        shared = self.shared
        if not self._usable(items.own):
            return Predictions()
        fitted = self._trained(items, seed)
        own = fitted.banks[items.own.name]
        prepared = [shared.prepared(item.data) for item in items.clouds]
        seen = [cloud for cloud in prepared if cloud is not None]
        found = iter(predict_clouds(fitted.network, seen, own))
        clouds, scores = [], []
        for item, cloud in zip(items.clouds, prepared, strict=True):
            if cloud is None:
                clouds.append(Answer(np.zeros(len(item.data), bool), -np.inf if self.sees else None))
                continue
            prediction = next(found)
            scores.append(prediction.score[cloud.rows])
            clouds.append(Answer(prediction.mask, prediction.presence if self.sees else None))
        notes: dict[str, Any] = {"training": fitted.history.summary(), "extractor": shared.extractor.source}
        if not self.sees:
            return Predictions(None, clouds, notes)
        images = None
        if items.images:
            masks = predict_images(fitted.network, image_tokens(shared.tools.backbone, [item.data for item in items.images]), own)
            images = [
                Answer(full_size(mask, item.truth.shape), float(score))
                for mask, score, item in zip(masks.mask, masks.presence, items.images, strict=True)
            ]
        others = shared.others(items)
        if self.variant.control == "none" and fitted.network.fused and others and seen:
            wrong = build_bank(fitted.network, shared.training_set(items.own).clouds, shared.images(others[0].images)).to("cpu")
            under_wrong = [p.score[c.rows] for p, c in zip(predict_clouds(fitted.network, seen, wrong), seen, strict=True)]
            notes["steering"] = correlation(scores, under_wrong)
        return Predictions(images, clouds, notes)

    def _usable(self, concept: Concept) -> bool:
        return len(self.shared.clouds(concept.clouds)) > 1 and (bool(concept.images) or not self.sees)

    def _trained(self, items: CosegSet, seed: int) -> Fitted:
        shared = self.shared
        config = settings(self.variant, shared.size, shared.budget, seed)
        together = [items.own]
        if self.sees and config.network.loss.cross_concept:
            together = sorted([items.own, *filter(self._usable, items.rivals)], key=lambda concept: concept.name)
        concepts = together if len(together) > 1 else [items.own, *shared.others(items)]
        key = tuple(id(concept) for concept in concepts)
        if key != self._of:
            self._of, self._fitted = key, {}
        if seed not in self._fitted:
            sets = [self._set(concept) for concept in (concepts if self.variant.control in ("permuted", "shuffled") else together)]
            sets, config = controlled(sets, config)
            self._fitted[seed] = fit(sets[: len(together)], config, shared.extractor, device=shared.device)
        return self._fitted[seed]

    def _set(self, concept: Concept) -> TrainingSet:
        if self.sees:
            return self.shared.training_set(concept)
        # the trainer asks for pictures whoever looks at them; a blank one shows that nobody does
        blank = image_tokens(self.shared.tools.backbone, [np.full((32, 32, 3), 128, np.uint8)])
        return TrainingSet(concept.name, self.shared.clouds(concept.clouds), blank)


def correlation(first: Sequence[NDArray[np.float32]], second: Sequence[NDArray[np.float32]]) -> float:
    """Pearson's correlation of two sets of scores over all their points; 1 where they are the same, constant ones too."""
    a, b = np.concatenate(first).astype(np.float64), np.concatenate(second).astype(np.float64)
    if np.array_equal(a, b):
        return 1.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def steering(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: per group, protocol and method the correlation of the 3D scores under right and under wrong images; empty without any."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        value = row.get("notes", {}).get("steering")
        if value is not None and row.get("modality") == "clouds":
            found.setdefault((row["group"], row["protocol"], row["method"]), []).append(value)
    if not found:
        return ""
    lines = ["", "## Do images steer the 3D masks?", ""]
    lines += [f"Correlation of the scores of all points, with a bank of the right and of wrong images (alarm from {ALARM} on).", ""]
    lines += ["| group | protocol | method | trainings | lowest | mean | highest | |", "|---" * 8 + "|"]
    for (group, protocol, method), values in found.items():
        verdict = "alarm" if max(values) >= ALARM else "follows"
        shown = [f"{value:.4f}" for value in (min(values), float(np.mean(values)), max(values))]
        lines.append("| " + " | ".join([group, f"`{protocol}`", method, str(len(values)), *shown, verdict]) + " |")
    return "\n".join(lines) + "\n"
