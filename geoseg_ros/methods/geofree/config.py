"""Settings of the network, of its training and of the method, and the two presets that they are chosen by.

``views``, the form that looks at its images, has the default of every setting; ``paper`` types the published formulas in as they are
printed, inert ones included (GeoFree-CoSeg, CVPR 2026; Yang et al., ICCV 2021 for the samplers and the 0.007 temperature; SCoSPARC,
ECCV 2024 for the masks).
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

from geoseg_ros.errors import InputError
from geoseg_ros.learning.foreground import ForegroundConfig
from geoseg_ros.settings import Settings, section, setting

_ANY = (0.0, math.inf)
_TEMPERATURE = (1e-6, math.inf)
_COUNT = (1, math.inf)


@dataclass(frozen=True)
class MgcmConfig(Settings):
    """Multi-grain correlation of the images of a set."""

    cls_weight: float = setting(0.2, "lambda, weight of the global vector", range=_ANY)
    squash: Literal["minmax", "sigmoid"] = setting(
        "minmax", "mask of a score: min-max per image and sigmoid((x - 0.65) / 0.15) (SCoSPARC), or sigmoid of the raw score"
    )
    standardise: bool = setting(True, "scores are standardised per image before the softmax that makes the weights")
    tau_s: float = setting(0.5, "temperature of that softmax", range=_TEMPERATURE)
    signal: Literal["correlation", "contrast"] = setting(
        "contrast", "score: correlation with the other images, or the evidence that comes with the images"
    )


@dataclass(frozen=True)
class GcsfConfig(Settings):
    """Point-patch graph."""

    width: int = setting(128, "ds, width of the space that points and patches share", range=_COUNT)
    k: int = setting(20, "K, edges kept per row and image or cloud of the other modality", range=_COUNT)
    epsilon: float = setting(0.1, "what a discarded edge keeps", range=_TEMPERATURE)
    mask_mode: Literal["additive", "paper"] = setting(
        "additive", "additive: Z = softmax((S + log M) / tau_z); paper: Z = softmax(M * S / tau_z)"
    )
    tau_z: float = setting(0.1, "temperature of the graph", range=_TEMPERATURE)
    r_img: int = setting(2, "images drawn for each cloud and step", range=_COUNT)
    points: Literal["coordinates", "views"] = setting(
        "views", "a point's feature is projected from F^3D_f as printed, or from its tokens in views, by the patches' projection"
    )


@dataclass(frozen=True)
class SfeConfig(Settings):
    """Fusion and enhancement."""

    fused: bool = setting(True, "the branches exchange something; off: they stay unimodal")
    heads: int = setting(4, "h, heads of the attention; they divide the graph's width", range=_COUNT)
    prior_mode: Literal["log", "paper"] = setting(
        "log", "what is added to the attention logits: alpha (log Z + log n) with n columns, or alpha Z"
    )
    alpha: float = setting(1.0, "initial weight of the prior", range=_ANY)
    alpha_learnable: bool = setting(True, "alpha is trained")
    scale: float = setting(0.5, "lambda, scale of what each branch takes from the other", range=_ANY)


@dataclass(frozen=True)
class SamplerConfig(Settings):
    """Foreground and background samplers."""

    points: int = setting(2048, "N, points of a cloud", range=_COUNT)
    samples: int = setting(256, "m, points of each subset", range=(2, math.inf))
    mutual: Literal["intended", "released"] = setting("intended", "attention between clouds; released: of rank 1, as in the released code")
    partners: int = setting(4, "r, clouds that each cloud attends to (intended)", range=_COUNT)
    key_points: int = setting(128, "points kept of a partner or in a bank, the first in farthest-point order", range=_COUNT)
    group: int = setting(7, "neighbours of the soft projection", range=_COUNT)
    sigma_min: float = setting(1e-2, "smallest temperature of the soft projection", range=_ANY)
    choose: Literal["scores", "pool"] = setting(
        "scores",
        "m points are drawn by a foreground score of each point, and proposals are decided as wholes; or generated from the largest "
        "features of a cloud (SampleNet), and their 20 neighbours are foreground",
    )
    learnt: float = setting(0.1, "weight of the learnt score beside the evidence sum_j Z_ij M_j of the patches", range=(0.0, 1.0))


@dataclass(frozen=True)
class LossConfig(Settings):
    """Weights and temperatures of the losses."""

    sem: float = setting(1.0, "weight of L_sem", range=_ANY)
    obj: float = setting(1.0, "weight of L_obj", range=_ANY)
    tau: float = setting(0.1, "temperature of L_sem and L_obj", range=_TEMPERATURE)
    anchor: Literal["set", "image"] = setting("set", "anchor of L_sem and L_obj: prototype over all images, or of one image per cloud")
    po_pool: Literal["masked", "gap"] = setting("masked", "the object prototype is pooled over the masked patches, or over all")
    cross_concept: bool = setting(True, "prototypes of the other concepts are negatives too, where several are trained together")
    tau_point: float = setting(0.5, "temperature of L_point", range=_TEMPERATURE)
    tau_object: float = setting(0.07, "temperature of L_object", range=_TEMPERATURE)
    positives: int = setting(1000, "random positive pairs per cloud in L_point", range=_COUNT)
    negatives: int = setting(5000, "random negative pairs per cloud in L_point", range=_COUNT)
    samp_alpha: float = setting(30.0, "weight of L_simp in L_samp", range=_ANY)
    gamma: float = setting(0.7, "weight of the coverage term of L_simp", range=_ANY)
    rep_margin: float = setting(1.0, "rho of L_rep, a squared distance in the unit sphere", range=_ANY)
    sal: float = setting(0.3, "weight of L_sal in L_s", range=_ANY)
    saliency: Literal["area", "mean"] = setting("area", "mean saliency inside the mask, or mean of saliency times mask over the image")
    s_coarse: float = setting(0.5, "weight of L_s on the coarse mask in stage 3", range=_ANY)
    s_final: float = setting(1.0, "weight of L_s on the final mask in stage 3", range=_ANY)


@dataclass(frozen=True)
class BankConfig(Settings):
    """What is kept of a set so that new items can be judged without it. Points per cloud: ``SamplerConfig.key_points``."""

    images: int = setting(64, "largest number of images", range=_COUNT)
    clouds: int = setting(64, "largest number of clouds", range=_COUNT)
    patches: int = setting(64, "T, patches of each image, those with the highest weight", range=_COUNT)


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The network."""

    mgcm: MgcmConfig = section(MgcmConfig, "multi-grain correlation of the images of a set")
    gcsf: GcsfConfig = section(GcsfConfig, "point-patch graph")
    sfe: SfeConfig = section(SfeConfig, "fusion and enhancement")
    sampler: SamplerConfig = section(SamplerConfig, "foreground and background samplers")
    loss: LossConfig = section(LossConfig, "weights and temperatures of the losses")
    bank: BankConfig = section(BankConfig, "what is kept of a set")
    contrast: int = setting(128, "dc, width of the prototypes", range=_COUNT)

    def __post_init__(self) -> None:
        """Raises InputError: settings that do not go together."""
        super().__post_init__()
        if self.gcsf.width % self.sfe.heads:
            raise InputError(f"sfe.heads: {self.sfe.heads} does not divide gcsf.width {self.gcsf.width}")
        if self.sampler.choose == "scores" and 2 * self.sampler.samples > self.sampler.points:
            raise InputError(f"sampler.samples: scores draw two sets apart, expected at most half of {self.sampler.points} points")


def paper_network() -> NetworkConfig:
    """The network as printed."""
    return NetworkConfig(
        MgcmConfig(squash="sigmoid", standardise=False, tau_s=1.0, signal="correlation"),
        GcsfConfig(width=256, mask_mode="paper", tau_z=1.0, r_img=1, points="coordinates"),
        SfeConfig(prior_mode="paper", alpha_learnable=False),
        SamplerConfig(mutual="released", choose="pool"),
        LossConfig(anchor="image", po_pool="gap", cross_concept=False, tau_object=0.007, saliency="mean"),
    )


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
    stage1: StageConfig = section(lambda: StageConfig(150, 0.0, 1e-4, 0.15), "the 2D branch alone, L_s; left out where the masks are given")
    stage2: StageConfig = section(lambda: StageConfig(100, 1e-3, 0.0, 0.4), "the 3D branch on frozen images, L_p + L_sem + L_obj")
    stage3: StageConfig = section(lambda: StageConfig(100, 1e-3, 1e-6, 0.45), "both branches, all losses")
    batch: int = setting(16, "B, clouds per step", range=(2, math.inf))
    images: int = setting(16, "V, images per step of stages 2 and 3", range=(1, math.inf))
    group: int = setting(24, "images per step of stage 1", range=(1, math.inf))
    weight_decay: float = setting(1e-4, "weight decay of Adam", range=(0.0, math.inf))
    clip: float = setting(1.0, "largest norm of the gradient", range=(0.0, math.inf))
    rotate: bool = setting(True, "turn each cloud about the up axis (z) by a random angle at each step")
    check_every: int = setting(10, "epochs of stages 2 and 3 between two checks for a collapse", range=(1, math.inf))
    control: Literal["none", "permuted", "shuffled", "cloud_only"] = setting(
        "none", "for comparison: images of another set, of all sets mixed at every step, or no image at all"
    )
    seed: int = setting(1, "seed of everything random", range=(0, math.inf))


def preset(name: str) -> FitConfig:
    """The training of the preset ``views`` or ``paper``, the published one as far as it is known."""
    return FitConfig(paper_network(), rotate=False) if name == "paper" else FitConfig()


LEAST_EPOCHS = 3


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
    extractor: str = setting("", "weights of the point feature extractor; empty: random ones")
    p_max: float = setting(0.05, "a target is present when its p-value is below this", range=(0.0, 1.0))
    seed: int = setting(1, "seed of everything random", range=(0, math.inf))
    foreground: ForegroundConfig = section(ForegroundConfig, "how the foreground tokens of the photographs are found")

    def fit_config(self) -> FitConfig:
        """The training."""
        config = preset(self.preset)
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
