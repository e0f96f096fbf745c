"""Settings of one training of the co-segmentation network."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass
from typing import Literal

from geoseg_ros.methods.geofree.config import NetworkConfig, preset
from geoseg_ros.settings import Settings, section, setting


@dataclass(frozen=True)
class StageConfig(Settings):
    """One stage."""

    epochs: int = setting(MISSING, "passes over the clouds; in stage 1 over the sets' images, one group per set", range=(0, math.inf))
    rate: float = setting(MISSING, "learning rate of the 3D branch and of everything between the branches", range=(0.0, math.inf))
    image_rate: float = setting(MISSING, "learning rate of the 2D branch (MGCM); 0 freezes it", range=(0.0, math.inf))
    share: float = setting(MISSING, "share of the time, where a training is limited by seconds", range=(1e-6, math.inf))


@dataclass(frozen=True)
class FitConfig(Settings):
    """One training (Adam throughout)."""

    network: NetworkConfig = section(NetworkConfig, "the network")
    stage1: StageConfig = section(lambda: StageConfig(150, 0.0, 1e-4, 0.15), "the 2D branch alone, L_s")
    stage2: StageConfig = section(lambda: StageConfig(100, 1e-3, 0.0, 0.4), "the 3D branch on frozen images, L_p + L_sem + L_obj")
    stage3: StageConfig = section(lambda: StageConfig(100, 1e-3, 1e-6, 0.45), "both branches, all losses")
    batch: int = setting(16, "B, clouds per step", range=(2, math.inf))
    images: int = setting(16, "V, images per step of stages 2 and 3", range=(1, math.inf))
    group: int = setting(24, "images per step of stage 1", range=(1, math.inf))
    fusion_rate: float = setting(
        1.0, "learning rate of graph, attention and enhancement, relative to that of the stage", range=(0.0, math.inf)
    )
    weight_decay: float = setting(1e-4, "weight decay of Adam", range=(0.0, math.inf))
    clip: float = setting(1.0, "largest norm of the gradient", range=(0.0, math.inf))
    rotate: bool = setting(True, "turn each cloud about the up axis (z) by a random angle at each step")
    sign: Literal["saliency", "none"] = setting(
        "saliency", "invert the masks after stage 1 if images are less salient inside than outside: L_s alone does not know the sides"
    )
    checkpoint: Literal["last", "criterion"] = setting("last", "weights that are kept: the last, or the best by a criterion without labels")
    check_every: int = setting(10, "epochs of stages 2 and 3 between two checks for a collapse", range=(1, math.inf))
    control: Literal["none", "permuted", "shuffled", "cloud_only"] = setting(
        "none", "for comparison: images of another set, of all sets mixed at every step, or no image at all"
    )
    seed: int = setting(1, "seed of everything random", range=(0, math.inf))


def fit_preset(name: str) -> FitConfig:
    """``default``, or ``paper``: the published training as far as it is known. Raises InputError for another name."""
    network = preset(name)
    return FitConfig(network) if name == "default" else FitConfig(network, rotate=False, sign="none")
