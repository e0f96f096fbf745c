"""Settings of PointDC. The defaults suit two processor cores and half an hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from geoseg_ros.errors import InputError
from geoseg_ros.learning.clustering import MOST
from geoseg_ros.learning.rooms import AugmentConfig
from geoseg_ros.results import MOST_LABELS
from geoseg_ros.settings import Settings, section, setting

_ANY = (0.0, math.inf)
_COUNT = (1, math.inf)


def _augment() -> AugmentConfig:
    return AugmentConfig(views=0.5, balls=0.25)  # live clouds are single views, and many show no floor


@dataclass(frozen=True)
class DistillConfig(Settings):
    """Cross-modal distillation: the network learns the lifted tokens."""

    epochs: float = setting(30, "passes over the samples", range=_ANY)
    rate: float = setting(1e-3, "learning rate of Adam", range=_ANY)
    loss: Literal["mse", "cosine"] = setting("cosine", "mean square error of unit vectors (PointDC), or 1 - cosine (LogoSP)")


@dataclass(frozen=True)
class ClusterConfig(Settings):
    """Super-voxel clustering: the network learns the classes that its own features fall into."""

    warm_up: float = setting(2, "epochs with learnt prototypes", range=_ANY)
    epochs: float = setting(6, "epochs with fixed centroids", range=_ANY)
    every: int = setting(3, "epochs after which the classes are found anew", range=_COUNT)
    rate: float = setting(1e-2, "learning rate of SGD; momentum 0.9, dampening 0.1, weight decay 1e-4", range=_ANY)
    decay: float = setting(0.8, "factor of the rate every 5 epochs", range=(0.0, 1.0))
    kappa: float = setting(3.0, "factor of the cosines in the cross-entropy", range=(1e-6, math.inf))
    restarts: int = setting(10, "starts of k-means", range=_COUNT)
    grouping: Literal["features", "spectral"] = setting(
        "features", "k-means of the features (PointDC), or of their groups of graph frequencies (LogoSP)"
    )
    groups: int = setting(10, "groups of frequencies, for spectral grouping", range=_COUNT)
    grow_from: int = setting(0, "super-voxels per scene that growth begins with (GrowSP: 80); 0: they do not grow", range=_ANY)
    grow_to: int = setting(20, "super-voxels per scene that growth ends with", range=_COUNT)


@dataclass(frozen=True)
class PointDCConfig(Settings):
    """PointDC as a whole."""

    classes: int = setting(
        13, "number of classes; 0: chosen from the tokens, see docs/methods/pointdc.md for how well", range=(0, MOST_LABELS)
    )
    most: int = setting(MOST, "largest number that may be chosen", range=(2, MOST_LABELS))
    network: Literal["sparse_unet", "encoder"] = setting(
        "sparse_unet", "what is trained: the sparse network from scratch, or the encoder that ships, which engines can run"
    )
    voxel: float = setting(0.05, "voxel edge of the network", unit="m", range=(0.001, 10.0))
    dim: int = setting(128, "width of the network's features", range=_COUNT)
    batch: int = setting(2, "scenes per step", range=_COUNT)
    least: int = setting(32, "samples in an epoch where there are fewer scenes, which are then drawn several times", range=_ANY)
    min_supervoxel: int = setting(10, "super-voxels with fewer points have no part in clustering", unit="points", range=_ANY)
    centred: bool = setting(True, "the mean token of the scenes is removed from every token")
    augment: AugmentConfig = section(_augment, "random changes of a scene")
    distill: DistillConfig = section(DistillConfig, "cross-modal distillation")
    cluster: ClusterConfig = section(ClusterConfig, "super-voxel clustering")
    unlike: float = setting(
        0.01,
        "unlike anything seen: where a smaller share of the class's super-voxels in training was as far from its centre",
        range=(0.0, 1.0),
    )
    seed: int = setting(0, "of everything random", range=(0, 2**63 - 1))

    def __post_init__(self) -> None:
        """Raises InputError: settings that do not go together."""
        super().__post_init__()
        if self.classes == 1:
            raise InputError("classes: expected at least 2 (or 0: chosen from the scenes), got 1")
        if 0 < self.cluster.grow_from < self.cluster.grow_to:
            raise InputError(f"cluster.grow_from: expected at least cluster.grow_to {self.cluster.grow_to}, got {self.cluster.grow_from}")


def paper_config() -> PointDCConfig:
    """The settings of PointDC's released code for S3DIS."""
    return PointDCConfig(
        batch=8,
        least=0,
        min_supervoxel=50,
        centred=False,
        augment=AugmentConfig(crop=0, no_colour=0.0),
        distill=DistillConfig(epochs=200, loss="mse"),
        cluster=ClusterConfig(warm_up=30, epochs=60, every=5, rate=3e-2, kappa=1.0, restarts=20),
    )
