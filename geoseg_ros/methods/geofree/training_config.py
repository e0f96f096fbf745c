"""Settings of one training of the co-segmentation network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.config import NetworkConfig, check_network, check_settings, preset


@dataclass(frozen=True)
class StageConfig:
    """One stage.

    Attributes:
        epochs: passes over the clouds (stage 1: over the sets' images, one group per set).
        rate: learning rate of the 3D branch and everything between the branches.
        image_rate: learning rate of the 2D branch (MGCM); 0 freezes it.
        share: of the time, where a training is limited by seconds.
    """

    epochs: int
    rate: float
    image_rate: float
    share: float


@dataclass(frozen=True)
class FitConfig:
    """One training (Adam throughout).

    Attributes:
        network: the network.
        stage1: the 2D branch alone, L_s. stage2: the 3D branch on frozen images, L_p + L_sem + L_obj. stage3: both, all losses.
        batch: B, clouds per step. images: V, images per step of stages 2 and 3. group: images per step of stage 1.
        fusion_rate: learning rate of what lies between the branches (graph, attention, enhancement), relative to the stage's.
        weight_decay: of Adam. clip: largest norm of the gradient.
        rotate: each cloud is turned about the up axis (z) by a random angle at each step.
        sign: after stage 1 the masks are inverted if the images are less salient inside than outside (``saliency``), or never (``none``):
            L_s alone does not know which side is the foreground.
        checkpoint: which weights are kept: the ``last`` ones, or those best by a ``criterion`` without labels (:mod:`.guards`).
        check_every: epochs of stages 2 and 3 between two looks at the collapse guards.
        control: ``none``; or what an experiment must be compared with: images of another set in fixed permutation (``permuted``), images
            of all sets mixed at every step (``shuffled``), no image at all (``cloud_only``).
        seed: of everything random.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    stage1: StageConfig = StageConfig(150, 0.0, 1e-4, 0.15)
    stage2: StageConfig = StageConfig(100, 1e-3, 0.0, 0.4)
    stage3: StageConfig = StageConfig(100, 1e-3, 1e-6, 0.45)
    batch: int = 16
    images: int = 16
    group: int = 24
    fusion_rate: float = 1.0
    weight_decay: float = 1e-4
    clip: float = 1.0
    rotate: bool = True
    sign: Literal["saliency", "none"] = "saliency"
    checkpoint: Literal["last", "criterion"] = "last"
    check_every: int = 10
    control: Literal["none", "permuted", "shuffled", "cloud_only"] = "none"
    seed: int = 1


_STAGE = StageConfig(1, 0.0, 0.0, 1.0)


def fit_preset(name: str) -> FitConfig:
    """``default``, or ``paper``: the published training as far as it is known. Raises InputError for another name."""
    network = preset(name)
    return FitConfig(network) if name == "default" else FitConfig(network, rotate=False, sign="none")


def check_config(config: FitConfig) -> None:
    """Raise InputError for settings that cannot work."""
    check_network(config.network)
    check_settings(replace(config, stage1=_STAGE, stage2=_STAGE, stage3=_STAGE, seed=1))  # a stage may have 0 epochs, a seed may be 0
    for name in ("stage1", "stage2", "stage3"):
        stage = getattr(config, name)
        if stage.epochs < 0 or min(stage.rate, stage.image_rate) < 0 or stage.share <= 0:
            raise InputError(f"{name}: expected epochs, rates >= 0 and a share > 0, got {stage}")
    if config.batch < 2:
        raise InputError(f"batch: expected at least 2, got {config.batch}")
