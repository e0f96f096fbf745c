"""The two forms in which GeoFree-CoSeg can be chosen: as printed, and the one that looks at its images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

from geoseg_ros.errors import InputError
from geoseg_ros.learning.foreground import ForegroundConfig
from geoseg_ros.methods.geofree.training_config import FitConfig, fit_preset
from geoseg_ros.settings import Settings, section, setting, with_values

LEAST_EPOCHS = 3
VIEWS: dict[str, Any] = {
    "network.gcsf.points": "views",
    "network.gcsf.width": 128,
    "network.gcsf.evidence": "rows",
    "network.mgcm.signal": "contrast",
    "network.sampler.choose": "scores",
    "network.decode": "proposals",
}
"""What makes the images count: points are seen in virtual views by the images' backbone, masks are the contrast of the photographs, the
graph hands their evidence to the points, and proposals are decided as wholes."""


@dataclass(frozen=True)
class GeoFreeConfig(Settings):
    """How GeoFree-CoSeg is trained and used as a method."""

    preset: Literal["views", "paper"] = setting("views", "the form that looks at its images, or the published one")
    epochs: int = setting(14, "passes over the set, shared among the stages; 0: the network is used untrained", range=(0, math.inf))
    points: int = setting(512, "points of a cloud that the network sees", range=(64, 100_000))
    samples: int = setting(64, "points of each sampled subset", range=(8, 50_000))
    width: int = setting(128, "width of the space that points and patches share", range=(8, 4096))
    patches: int = setting(28, "patches per side of a picture", range=(2, 256))
    neighbours: int = setting(3, "most similar reference tokens that a token's similarity is averaged over", range=(1, 64))
    extractor: str = setting("", "weights of the point feature extractor (geoseg_ros.learning.shape_pretraining); empty: random ones")
    p_max: float = setting(0.05, "a target is present when its p-value is below this", range=(0.0, 1.0))
    seed: int = setting(1, "seed of everything random", range=(0, math.inf))
    foreground: ForegroundConfig = section(ForegroundConfig, "how the foreground tokens of the photographs are found")

    def fit_config(self) -> FitConfig:
        """The training."""
        config = fit_preset("paper" if self.preset == "paper" else "default")
        if self.preset == "views":
            config = with_values(config, VIEWS)
        sampler = replace(config.network.sampler, points=self.points, samples=self.samples)
        network = replace(config.network, sampler=sampler, gcsf=replace(config.network.gcsf, width=self.width))
        return with_budget(replace(config, network=network, seed=self.seed), self.epochs)


def with_budget(config: FitConfig, epochs: int | None) -> FitConfig:
    """The stages shortened or lengthened in proportion.

    Args:
        config: a training.
        epochs: of all stages together; 0: nothing is trained; None: as they are.

    Raises:
        InputError: fewer epochs than stages.
    """
    if epochs is None:
        return config
    if 0 < epochs < LEAST_EPOCHS:
        raise InputError(f"budget: expected at least {LEAST_EPOCHS} epochs, one for each stage, got {epochs}")
    stages = (config.stage1, config.stage2, config.stage3)
    total = sum(stage.epochs for stage in stages)
    ends = [0, *(round(epochs * done / total) for done in accumulate(stage.epochs for stage in stages))]
    first, second, third = (replace(stage, epochs=b - a) for stage, (a, b) in zip(stages, pairwise(ends), strict=True))
    return replace(config, stage1=first, stage2=second, stage3=third)
