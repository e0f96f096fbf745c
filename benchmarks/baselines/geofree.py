"""Trained networks as methods: GeoFree-CoSeg, the 3D branch alone (Yang et al., ICCV 2021), and what a cross-modal gain is compared with.

All of them are :mod:`geoseg_ros.methods.geofree.training` with other settings, the same number of epochs, and the same extractor.
A network of preset ``paper`` learns one concept at a time; that of preset ``views`` learns the rivals with it, each the others'
negatives, where there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.extractor_training import pretrain
from benchmarks.baselines.gated import Gated, Judge
from benchmarks.baselines.graph import Graphs
from benchmarks.baselines.shapes import pretraining_shapes
from benchmarks.baselines.tokens import full_size
from benchmarks.baselines.variants import GATED, SIZES, VARIANTS, NetworkSize, Variant, settings
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, Image, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.methods import PackMethod, Tools
from geoseg_ros.evaluate.trivial import PerCloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.references import Contrast
from geoseg_ros.methods.geofree.bank import build_bank
from geoseg_ros.methods.geofree.config import FitConfig, with_budget
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, image_tokens, prepare_cloud, prepare_with_views
from geoseg_ros.methods.geofree.pack import load_extractor, save_extractor
from geoseg_ros.methods.geofree.predict import predict_clouds, predict_images
from geoseg_ros.methods.geofree.training import Fitted, fit
from geoseg_ros.methods.geofree.training_sets import TrainingSet, apply_control, digest
from geoseg_ros.nets.dgcnn import Dgcnn

ALARM = 0.98
"""Correlation of the 3D scores under right and under wrong images from which on images do not steer them."""

PATCHES = 28
"""Patches per side of a picture that is compared with drawings: as many as the paper's backbone has at 224 pixels."""

Made = TypeVar("Made")


@dataclass
class Networks:
    """What the trained methods share.

    Attributes:
        tools: the backbone is used.
        size: of the networks. budget: epochs of each training in all; None: the preset's.
        beside: sets of the same run. A set without rivals takes the images of another concept, for a control, from those of its group.
        device: of the training; auto, cpu or cuda.
        weights: file of the extractor: read, or where there is none trained and written; None: trained in every run.
        states: folder where trainings keep their states, so that a run that was killed goes on where it was, and one that is made again
            trains nothing twice; None: nowhere.
    """

    tools: Tools
    size: NetworkSize = SIZES["full"]
    budget: int | None = None
    beside: Sequence[CosegSet] = ()
    device: str = "auto"
    weights: Path | None = None
    states: Path | None = None
    _known: dict[tuple[object, ...], tuple[object, Any]] = field(default_factory=dict)  # the key's objects are kept so that ids stay taken

    def __post_init__(self) -> None:
        with_budget(FitConfig(), self.budget)  # said now, not after the first hour
        self.graphs = Graphs(self.tools)
        self.prepared = {"whole": PerCloud(self._prepare), "proposals": PerCloud(self._prepare_with_views)}
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def extractor(self) -> Dgcnn:
        """The frozen feature extractor. Raises InputError where its file is damaged."""
        if self.weights is not None and self.weights.exists():
            return load_extractor(self.weights)
        network, scores = pretrain(*pretraining_shapes(self.size.shapes), self.size.extractor, device=self.device)
        network.source += f", {scores['accuracy']:.0%} of new instances right after {scores['steps']:.0f} steps"
        if self.weights is not None:
            save_extractor(self.weights, network, scores)
        return network

    def methods(self) -> list[NamedMethod]:
        """One for each of ``VARIANTS`` and of ``GATED``."""
        return [method for group in self.groups().values() for method in group]

    def groups(self) -> dict[str, list[NamedMethod]]:
        """The same by the group of the variant; and those of ``GATED``, group ``gated``."""
        found: dict[str, list[NamedMethod]] = {}
        judge = Judge(PackMethod(self.tools))
        for v in VARIANTS:
            run = NetworkMethod(self, v)
            found.setdefault(v.group, []).append(NamedMethod(v.name, run, random=True, backbone=v.control != "cloud_only"))
            if v.name in GATED:
                gated = NamedMethod(f"{v.name}, where the contrast marks something", Gated(run, judge), random=True, backbone=True)
                found.setdefault("gated", []).append(gated)
        return found

    def _prepare(self, cloud: Cloud) -> PreparedCloud | None:
        try:
            return prepare_cloud(cloud.xyz, self.size.points)
        except InputError:
            return None  # too few points to be one

    def _prepare_with_views(self, cloud: Cloud) -> PreparedCloud | None:
        scene, views = self.graphs.look(cloud)
        try:
            return prepare_with_views(cloud, scene, views, self.size.points)
        except InputError:
            return None

    def clouds(self, clouds: Collection[Cloud], part: str = "whole") -> list[PreparedCloud]:
        """Those of the clouds of which ``part`` (see :class:`Variant`) has points enough."""
        return [found for found in map(self.prepared[part], clouds) if found is not None]

    def images(self, images: Collection[Image], own: Material | None = None, rivals: Sequence[Material] = ()) -> ImageTokens:
        """Tokens of pictures, remembered; with a concept they are comparable with drawings, and bring the evidence of the contrast for
        ``own`` and against its ``rivals``."""

        def make() -> ImageTokens:
            if own is None:
                return image_tokens(self.tools.backbone, list(images))
            side = PATCHES * self.tools.backbone.stride
            tokens = image_tokens(self.tools.backbone, list(images), side, mean=self.tools.bank.mean)
            known = [self.graphs.pack(concept).references for concept in (own, *rivals) if concept.images]
            width = tokens.tokens.shape[2] ** 0.5
            evidence = Contrast(known, self.tools.config.coseg.neighbours).photo(tokens.tokens / width)[0]
            against = torch.cat([*(rival.foreground for rival in known[1:]), *known[0].background])
            blocks = max(1, len(against) // tokens.tokens.shape[1])
            rows = torch.arange(blocks * tokens.tokens.shape[1]) * len(against) // (blocks * tokens.tokens.shape[1])
            return replace(tokens, evidence=evidence, against=against[rows].unflatten(0, (blocks, -1)) * width)

        return self._once((images, own, *rivals), make)

    def training_set(self, concept: Material, part: str = "whole", rivals: Sequence[Material] | None = None) -> TrainingSet:
        """A concept as the networks learn it, remembered; ``rivals``: see :meth:`images`, None: plain tokens."""

        def make() -> TrainingSet:
            own = None if rivals is None else concept
            without = self.images(concept.without_images, own, rivals or ()) if concept.without_images else None
            clouds, without_clouds = self.clouds(concept.clouds, part), self.clouds(concept.without_clouds, part)
            return TrainingSet(concept.name, clouds, self.images(concept.images, own, rivals or ()), without_clouds, without)

        return self._once((concept, part, *((None,) if rivals is None else rivals)), make)

    def _once(self, key: tuple[object, ...], make: Callable[[], Made]) -> Made:
        ids = tuple(x if isinstance(x, str) else id(x) for x in key)
        if ids not in self._known:
            self._known[ids] = key, make()
        made: Made = self._known[ids][1]
        return made

    def others(self, items: CosegSet) -> list[Material]:
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
        """Predictions of the trained network; none where a set lacks what is needed: two clouds, and pictures unless it sees none.

        Raises:
            InputError: a control that needs another concept's pictures, and there is none.
        """
        shared = self.shared
        if not self._usable(items.own):
            return Predictions()
        fitted = self._trained(items, seed)
        own = fitted.banks[items.own.name]
        part = self.variant.clouds
        prepared = [shared.prepared[part](item.data) for item in items.clouds]
        seen = [cloud for cloud in prepared if cloud is not None]
        found = iter(predict_clouds(fitted.network, seen, own))
        clouds, scores = [], []
        for item, cloud in zip(items.clouds, prepared, strict=True):
            if cloud is None:
                clouds.append(Prediction(np.zeros(len(item.data), bool), -np.inf if self.sees else None))
                continue
            prediction = next(found)
            scores.append(prediction.score[cloud.rows])
            clouds.append(Prediction(prediction.mask, prediction.presence if self.sees else None))
        notes: dict[str, Any] = {"training": fitted.history.summary(), "extractor": shared.extractor.source}
        if not self.sees:
            return Predictions(None, clouds, notes)
        images = None
        if items.images:
            tokens = self._images([item.data for item in items.images], items.own, items.rivals)
            masks = predict_images(fitted.network, tokens, own)
            images = [
                Prediction(full_size(mask, item.truth.shape), float(score))
                for mask, score, item in zip(masks.mask, masks.presence, items.images, strict=True)
            ]
        others = shared.others(items)
        if self.variant.control == "none" and fitted.network.fused and others and seen:
            shown = self._images(others[0].images, others[0], [items.own] if items.rivals else [])
            wrong = build_bank(fitted.network, self._set(items.own, items).clouds, shown).to("cpu")
            under_wrong = [p.score[c.rows] for p, c in zip(predict_clouds(fitted.network, seen, wrong), seen, strict=True)]
            notes["steering"] = correlation(scores, under_wrong)
        return Predictions(images, clouds, notes)

    def _usable(self, concept: Material) -> bool:
        return len(self.shared.clouds(concept.clouds, self.variant.clouds)) > 1 and (bool(concept.images) or not self.sees)

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
            mixes = self.variant.control in ("permuted", "shuffled")
            sets = [self._set(concept, items) for concept in (concepts if mixes else together)]
            sets, config = apply_control(sets, config)
            sets = sets[: len(together)]
            self._fitted[seed] = fit(sets, config, shared.extractor, device=shared.device, state=self._state(sets, config))
        return self._fitted[seed]

    def _state(self, sets: Sequence[TrainingSet], config: FitConfig) -> Path | None:
        if self.shared.states is None:
            return None
        name = re.sub(r"\W+", "-", f"{self.variant.name} {' '.join(s.name for s in sets)} {config.seed}")
        self.shared.states.mkdir(parents=True, exist_ok=True)
        return self.shared.states / f"{name}-{digest(sets, config, self.shared.extractor)[:12]}.state"

    def _images(self, images: Collection[Image], own: Material, rivals: Sequence[Material]) -> ImageTokens:
        """Tokens as the variant wants them."""
        return self.shared.images(images, own, rivals) if self._comparable else self.shared.images(images)

    @property
    def _comparable(self) -> bool:
        network = settings(self.variant, self.shared.size, None, 0).network
        return network.gcsf.points == "views"

    def _set(self, concept: Material, items: CosegSet) -> TrainingSet:
        if self.sees:
            known = [items.own, *items.rivals]
            rivals = [c for c in known if c is not concept] if items.rivals else []
            return self.shared.training_set(concept, self.variant.clouds, rivals if self._comparable else None)
        # the trainer asks for pictures whoever looks at them; a blank one shows that nobody does
        blank = image_tokens(self.shared.tools.backbone, [np.full((32, 32, 3), 128, np.uint8)])
        return TrainingSet(concept.name, self.shared.clouds(concept.clouds, self.variant.clouds), blank)


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
