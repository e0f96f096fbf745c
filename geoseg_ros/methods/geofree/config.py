"""Every decision of the network that its source leaves open, as a typed setting.

The defaults are the product's. :func:`preset` ``paper`` types the published formulas in as they are printed, inert ones included
(GeoFree-CoSeg, CVPR 2026; Yang et al., ICCV 2021 for the samplers and the 0.007 temperature; SCoSPARC, ECCV 2024 for the masks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from geoseg_ros.errors import InputError
from geoseg_ros.settings import Settings, section, setting

_ANY = (0.0, math.inf)
_TEMPERATURE = (1e-6, math.inf)
_COUNT = (1, math.inf)

HANDED_OVER = ("rows", "attention")
"""Of ``GcsfConfig.evidence``: what reaches the foreground sampler."""


@dataclass(frozen=True)
class MgcmConfig(Settings):
    """Multi-grain correlation of the images of a set."""

    channel_grain: bool = setting(True, "F_c = F + FFN_1(N(F)) before the correlation; off: F_c = F")
    cls_weight: float = setting(0.2, "lambda, weight of the global vector; 0: no global grain", range=_ANY)
    mean_axis: Literal["query", "key"] = setting(
        "query",
        "S [query, key] is averaged over the queries, which scores each key, or over the keys, which makes the global term constant",
    )
    aggregate: Literal["mean", "max_per_image"] = setting(
        "mean", "over all tokens of the other images, in closed form; or the largest per image, then the mean over images"
    )
    exclude_self: bool = setting(True, "an image is not correlated with itself, unless it is alone")
    cls_through_q: bool = setting(True, "the global vector passes phi_q like the tokens; off: it is used as it is")
    squash: Literal["minmax", "sigmoid"] = setting(
        "minmax", "mask of a score: min-max per image and sigmoid((x - 0.65) / 0.15) (SCoSPARC), or sigmoid of the raw score"
    )
    standardise: bool = setting(True, "scores are standardised per image before the softmax that makes the weights")
    tau_s: float = setting(0.5, "temperature of that softmax", range=_TEMPERATURE)
    signal: Literal["correlation", "contrast", "both"] = setting(
        "correlation",
        "score: correlation with the other images; contrast: the evidence that comes with the images; both: their standardised sum",
    )


@dataclass(frozen=True)
class GcsfConfig(Settings):
    """Point-patch graph."""

    width: int = setting(256, "ds, width of the space that points and patches share", range=_COUNT)
    k: int = setting(20, "K, edges kept per row", range=_COUNT)
    k_per_image: bool = setting(True, "K per block (image or cloud) of the other modality instead of K in all")
    epsilon: float = setting(0.1, "what a discarded edge keeps; 0: only the kept edges are left", range=_ANY)
    mask_mode: Literal["additive", "paper"] = setting(
        "additive", "additive: Z = softmax((S + log M) / tau_z); paper: Z = softmax(M * S / tau_z)"
    )
    tau_z: float = setting(0.1, "temperature of the graph", range=_TEMPERATURE)
    r_img: int = setting(2, "images drawn for each cloud and step", range=_COUNT)
    r_cld: int = setting(1, "clouds drawn for each image and step", range=_COUNT)
    points: Literal["coordinates", "views", "both"] = setting(
        "coordinates",
        "a point's feature is projected from F^3D_f as printed; from its tokens in views, by the patches' projection; or their sum",
    )
    centre: bool = setting(False, "subtract from F^^ the mean over the points of a cloud and over the patches of an image")
    evidence: Literal["none", "edges", "rows", "attention"] = setting(
        "none",
        "use of the patches' mask M: prior of the edges, Z ~ M Z; rows: sum_j Z_ij M_j for the sampler; attention: the same of A~",
    )


@dataclass(frozen=True)
class SfeConfig(Settings):
    """Fusion and enhancement."""

    fusion: Literal["attention", "graph", "none"] = setting(
        "attention", "attention corrected by the graph; the graph's own weights; or none: the branches stay unimodal"
    )
    heads: int = setting(4, "h, heads of the attention; they divide the graph's width", range=_COUNT)
    prior_mode: Literal["log", "paper", "scaled"] = setting(
        "log", "what is added to the attention logits: alpha (log Z + log n), alpha Z, or alpha n Z, with n columns"
    )
    alpha: float = setting(1.0, "initial weight of the prior", range=_ANY)
    alpha_learnable: bool = setting(True, "alpha is trained")
    alpha_max: float = setting(4.0, "upper bound of alpha; the lower is 0", range=_ANY)
    lambda_p: float = setting(0.5, "scale of the residual of points", range=_ANY)
    lambda_i: float = setting(0.5, "scale of the residual of images", range=_ANY)
    lambda_learnable: bool = setting(False, "both scales are trained")
    start: Literal["zero", "random"] = setting(
        "zero", "the last layer of the FFN at the start; zero: training starts from the unimodal branches"
    )
    attention: Literal["dot", "cosine"] = setting("dot", "logits: q k / sqrt(d), or sqrt(d) cos(q, k), with d the width of a head")
    compare: Literal["random", "identity"] = setting(
        "random", "start of the projections to q and k; identity: what the graph compares is comparable here too"
    )
    residual: Literal["plain", "standardised"] = setting(
        "plain", "what the attention returns is added as it is, or with mean 0 over the rows of an item and variance 1"
    )


@dataclass(frozen=True)
class SamplerConfig(Settings):
    """Foreground and background samplers."""

    points: int = setting(2048, "N, points of a cloud", range=_COUNT)
    samples: int = setting(256, "m, points of each subset", range=(2, math.inf))
    mutual: Literal["intended", "released", "none"] = setting(
        "intended", "attention between clouds; released: of rank 1, as in the released code"
    )
    partners: int = setting(4, "r, clouds that each cloud attends to (intended)", range=_COUNT)
    key_points: int = setting(128, "points kept of a partner or in a bank, the first in farthest-point order", range=_COUNT)
    group: int = setting(7, "neighbours of the soft projection", range=_COUNT)
    sigma_min: float = setting(1e-2, "smallest temperature of the soft projection", range=_ANY)
    choose: Literal["pool", "scores"] = setting(
        "pool", "m points are generated from the largest features of a cloud (SampleNet), or drawn by a foreground score of each point"
    )
    learnt: float = setting(0.1, "weight of the learnt score beside the evidence of patches (gcsf.evidence)", range=(0.0, 1.0))


@dataclass(frozen=True)
class LossConfig(Settings):
    """Weights and temperatures of the losses."""

    sem: float = setting(1.0, "weight of L_sem", range=_ANY)
    obj: float = setting(1.0, "weight of L_obj", range=_ANY)
    tau: float = setting(0.1, "temperature of L_sem and L_obj", range=_TEMPERATURE)
    anchor: Literal["set", "image", "cloud"] = setting(
        "set", "anchor of L_sem and L_obj: prototype over all images; of one image per cloud; or the cloud's own foreground"
    )
    po_pool: Literal["masked", "gap"] = setting("masked", "the object prototype is pooled over the masked patches, or over all")
    sym: bool = setting(False, "the image's background prototype is one more negative of each cloud's foreground")
    cross_concept: bool = setting(True, "prototypes of the other concepts are negatives too, where several are trained together")
    point: float = setting(1.0, "weight of L_point", range=_ANY)
    object: float = setting(1.0, "weight of L_object", range=_ANY)
    samp: float = setting(1.0, "weight of L_samp", range=_ANY)
    rep: float = setting(1.0, "weight of L_rep", range=_ANY)
    tau_point: float = setting(0.5, "temperature of L_point", range=_TEMPERATURE)
    tau_object: float = setting(0.07, "temperature of L_object", range=_TEMPERATURE)
    positives: int = setting(1000, "random positive pairs per cloud in L_point", range=_COUNT)
    negatives: int = setting(5000, "random negative pairs per cloud in L_point", range=_COUNT)
    samp_alpha: float = setting(30.0, "weight of L_simp in L_samp", range=_ANY)
    samp_lambda: float = setting(1.0, "weight of L_proj in L_samp", range=_ANY)
    gamma: float = setting(0.7, "the coverage term is weighted gamma + delta m", range=_ANY)
    delta: float = setting(0.0, "see gamma", range=_ANY)
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
    mask_from: Literal["coarse", "final"] = setting("final", "the mask is taken before (coarse) or after (final) the fusion")
    decode: Literal["competitive", "knn20", "scores", "proposals"] = setting(
        "competitive",
        "nearer to foreground samples; 20 neighbours of matched samples; score of the nearest point; best mean score of its proposals",
    )

    def __post_init__(self) -> None:
        """Raises InputError: settings that do not go together."""
        super().__post_init__()
        if self.gcsf.width % self.sfe.heads:
            raise InputError(f"sfe.heads: {self.sfe.heads} does not divide gcsf.width {self.gcsf.width}")
        scored = self.sampler.choose == "scores"
        if scored and 2 * self.sampler.samples > self.sampler.points:
            raise InputError(f"sampler.samples: scores draw two sets apart, expected at most half of {self.sampler.points} points")
        if self.decode in ("scores", "proposals") and not scored:
            raise InputError(f"decode: {self.decode} needs sampler.choose = scores")
        if self.gcsf.evidence in HANDED_OVER and not scored:
            raise InputError(f"gcsf.evidence: {self.gcsf.evidence} needs sampler.choose = scores")
        if self.gcsf.evidence == "attention" and self.sfe.fusion != "attention":
            raise InputError(f"gcsf.evidence: attention needs sfe.fusion = attention, got {self.sfe.fusion}")


PRESETS = ("default", "paper")


def preset(name: str) -> NetworkConfig:
    """One of ``PRESETS``. Raises InputError for another name."""
    config = NetworkConfig()
    if name == "default":
        return config
    if name != "paper":
        raise InputError(f"preset {name}: unknown, expected one of {', '.join(PRESETS)}")
    mgcm = MgcmConfig(mean_axis="key", exclude_self=False, cls_through_q=False, squash="sigmoid", standardise=False, tau_s=1.0)
    loss = replace(config.loss, anchor="image", po_pool="gap", cross_concept=False, tau_object=0.007, saliency="mean")
    return replace(
        config,
        mgcm=mgcm,
        gcsf=replace(config.gcsf, mask_mode="paper", tau_z=1.0, r_img=1),
        sfe=replace(config.sfe, prior_mode="paper", alpha_learnable=False),
        sampler=replace(config.sampler, mutual="released"),
        loss=loss,
        decode="knn20",
    )
