"""Settings of HICL. The defaults suit two processor cores; what the paper leaves open is named with its source in docs/methods/hicl.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from geoseg_ros.learning.rooms import AugmentConfig
from geoseg_ros.results import MOST_LABELS
from geoseg_ros.settings import Settings, section, setting

_ANY = (0.0, math.inf)
_COUNT = (1, math.inf)


@dataclass(frozen=True)
class PairConfig(Settings):
    """The noisy labels: what the teacher says of the points that a frame shows."""

    frames: int = setting(8, "random frames of a scene per step, as CLIP2Scene", range=_COUNT)
    refine: Literal["none", "image", "views"] = setting(
        "views", "labels of a super-voxel: as they are, the most frequent in each image (HICL), or over all views weighted by 1 / distance"
    )
    least: float = setting(0.0, "labels with a smaller probability are left out (MaskCLIP's prompt denoising: 0.5)", range=(0.0, 1.0))


@dataclass(frozen=True)
class AttentionConfig(Settings):
    """Correlation of points sampled by super-voxel, in the training only."""

    intra: int = setting(3, "layers within a scene; 0: none", range=_ANY)
    inter: int = setting(3, "layers across the scenes of a batch; 0: none", range=_ANY)
    points: int = setting(128, "points M sampled of a scene (HICL: 1024)", range=_COUNT)
    heads: int = setting(8, "heads, reduced to a divisor of the teacher's width", range=_COUNT)
    ratio: int = setting(2, "width of the hidden layer over that of the features (ViT: 4)", range=_COUNT)
    place: bool = setting(False, "Fourier code of the place of a point is added within a scene; the paper mentions none")
    rate: float = setting(2e-4, "learning rate of AdamW", range=_ANY)
    decay: float = setting(1e-2, "weight decay of AdamW", range=_ANY)
    begin: float = setting(10, "epoch from which sampled points learn through the transformers (HICL: 10)", range=_ANY)
    feedback: float = setting(20, "epoch from which the network learns their output (HICL: 20); 0: never", range=_ANY)
    distribution: Literal["channels", "classes"] = setting("channels", "what the feedback compares: softmax of channels, or of classes")


@dataclass(frozen=True)
class HICLConfig(Settings):
    """HICL as a whole."""

    classes: int = setting(0, "number of classes for a teacher without text", range=(0, MOST_LABELS))
    network: Literal["encoder", "sparse_unet"] = setting(
        "encoder", "what is trained: the encoder that ships, with a new last layer, or the sparse network from scratch (as published)"
    )
    voxel: float = setting(0.05, "voxel edge of the network", unit="m", range=(0.001, 10.0))
    batch: int = setting(4, "scenes per step", range=_COUNT)
    least: int = setting(32, "samples in an epoch where there are fewer scenes, which are then drawn several times", range=_ANY)
    epochs: float = setting(40, "passes over the samples (HICL: 120)", range=_ANY)
    rate: float = setting(0.1, "learning rate of SGD for the network; momentum 0.9, dampening 0.1 (HICL: 0.2)", range=_ANY)
    decay: float = setting(1e-4, "weight decay of SGD", range=_ANY)
    logits: Literal["inner", "cosine"] = setting("cosine", "inner product with the anchors (HICL), or the cosine times ``scale``")
    scale: float = setting(1 / 0.07, "factor of the cosine", range=(1e-6, math.inf))
    spatial: float = setting(0.5, "weight of the head that learns the teacher's features themselves; 0: none (CLIP2Scene: 1)", range=_ANY)
    switch: float = setting(0, "epoch from which every other step learns the network's own labels (CLIP2Scene: 10); 0: never", range=_ANY)
    pairs: PairConfig = section(PairConfig, "noisy labels")
    attention: AttentionConfig = section(AttentionConfig, "correlation of points")
    augment: AugmentConfig = section(partial(AugmentConfig, crop=6000), "random changes of a scene")
    unlike: float = setting(
        0.01,
        "unlike anything seen: where a smaller share of the class's super-voxels in training was as far from its anchor",
        range=(0.0, 1.0),
    )
    seed: int = setting(0, "of everything random", range=(0, 2**63 - 1))


def paper_config() -> HICLConfig:
    """As published for ScanNet, with the base of CLIP2Scene."""
    return HICLConfig(
        network="sparse_unet",
        batch=8,
        least=0,
        epochs=120,
        rate=0.2,
        logits="inner",
        spatial=1.0,
        switch=10,
        pairs=PairConfig(refine="image"),
        attention=AttentionConfig(points=1024, ratio=4, begin=10, feedback=20),
        augment=AugmentConfig(crop=0, no_colour=0.0),
    )
