"""Every decision of the network that its source leaves open, as a typed setting.

The defaults are the product's. :func:`preset` ``paper`` types the published formulas in as they are printed, inert ones included
(GeoFree-CoSeg, CVPR 2026; Yang et al., ICCV 2021 for the samplers and the 0.007 temperature; SCoSPARC, ECCV 2024 for the masks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

from geoseg_ros.errors import InputError


@dataclass(frozen=True)
class MgcmConfig:
    """Multi-grain correlation of the images of a set.

    Attributes:
        channel_grain: F_c = F + FFN_1(N(F)) before the correlation; off: F_c = F.
        cls_weight: lambda, weight of the global vector; 0 switches the global grain off.
        mean_axis: the correlation S [query, key] is averaged over the queries (each key is scored) or over the keys (each query is
            scored; then the global term is constant over an image).
        aggregate: ``mean`` over all tokens of the other images, in closed form, or ``max_per_image`` and then the mean over images.
        exclude_self: an image is not correlated with itself (unless it is alone).
        cls_through_q: the global vector passes phi_q like the tokens; off: it is used as it is.
        squash: how a score becomes the mask: ``minmax`` per image, then sigmoid((x - 0.65) / 0.15) (SCoSPARC), or ``sigmoid`` of the
            raw score.
        standardise: scores are standardised per image before the softmax that makes the weights.
        tau_s: temperature of that softmax.
        signal: what the score is: ``correlation`` with the other images; ``contrast``: the evidence that the images bring with them
            (:class:`~geoseg_ros.methods.geofree.inputs.ImageTokens`; own foreground minus everything else, nothing trained); ``both``: the
            sum of the two, each standardised per image.
    """

    channel_grain: bool = True
    cls_weight: float = 0.2
    mean_axis: Literal["query", "key"] = "query"
    aggregate: Literal["mean", "max_per_image"] = "mean"
    exclude_self: bool = True
    cls_through_q: bool = True
    squash: Literal["minmax", "sigmoid"] = "minmax"
    standardise: bool = True
    tau_s: float = 0.5
    signal: Literal["correlation", "contrast", "both"] = "correlation"


@dataclass(frozen=True)
class GcsfConfig:
    """Point-patch graph.

    Attributes:
        width: ds, of the space that points and patches share.
        k: K, edges kept per row.
        k_per_image: K per block (image or cloud) of the other modality instead of K in all.
        epsilon: what a discarded edge keeps; 0: the kept edges are the only ones.
        mask_mode: ``additive``: Z = softmax((S + log M) / tau_z); ``paper``: Z = softmax(M * S / tau_z).
        tau_z: temperature.
        r_img: images drawn for each cloud and step. r_cld: clouds drawn for each image and step.
        points: F^^3D of a point is projected from ``coordinates``: F^3D_f, as printed; ``views``: what the image backbone sees of the point
            in drawings of it (tokens that come with the points), by the projection of the patches, so that both are comparable before
            training; ``both``: the sum of the two. With views that projection starts orthogonal and the graph's convolution as identity.
        centre: the mean over the points of a cloud, and over the patches of an image, is taken from F^^.
        evidence: the mask M of the patches in the graph: ``none``; ``edges``: as a prior of the edges, Z ~ M Z; ``rows``: sum_j Z_ij M_j is
            handed to the foreground sampler (``SamplerConfig.choose = scores``); ``attention``: the same with the corrected attention A~,
            averaged over its heads, in place of Z.
    """

    width: int = 256
    k: int = 20
    k_per_image: bool = True
    epsilon: float = 0.1
    mask_mode: Literal["additive", "paper"] = "additive"
    tau_z: float = 0.1
    r_img: int = 2
    r_cld: int = 1
    points: Literal["coordinates", "views", "both"] = "coordinates"
    centre: bool = False
    evidence: Literal["none", "edges", "rows", "attention"] = "none"


@dataclass(frozen=True)
class SfeConfig:
    """Fusion and enhancement.

    Attributes:
        fusion: ``attention``: attention corrected by the graph; ``graph``: the graph's own weights; ``none``: the branches stay unimodal.
        heads: h, of the attention.
        prior_mode: what is added to the attention logits: ``log``: alpha (log Z + log n); ``paper``: alpha Z; ``scaled``: alpha n Z, with
            n columns.
        alpha: initial weight of the prior. alpha_learnable: trained. alpha_max: upper bound; the lower is 0.
        lambda_p, lambda_i: scale of the residual. lambda_learnable: trained.
        start: the last layer of the FFN starts at ``zero`` (training starts from the unimodal branches) or at ``random``.
        attention: ``dot``: logits q k / sqrt(d); ``cosine``: sqrt(d) cos(q, k), d the width of a head.
        compare: the projections to q and k start ``random``, or as ``identity``: what the graph compares is comparable here, too.
        residual: what the attention returns is added ``plain``, or ``standardised``: of mean 0 over the rows of an item and variance 1.
    """

    fusion: Literal["attention", "graph", "none"] = "attention"
    heads: int = 4
    prior_mode: Literal["log", "paper", "scaled"] = "log"
    alpha: float = 1.0
    alpha_learnable: bool = True
    alpha_max: float = 4.0
    lambda_p: float = 0.5
    lambda_i: float = 0.5
    lambda_learnable: bool = False
    start: Literal["zero", "random"] = "zero"
    attention: Literal["dot", "cosine"] = "dot"
    compare: Literal["random", "identity"] = "random"
    residual: Literal["plain", "standardised"] = "plain"


@dataclass(frozen=True)
class SamplerConfig:
    """Foreground and background samplers.

    Attributes:
        points: N, of a cloud. samples: m, of each subset.
        mutual: attention between clouds: ``intended``, ``released`` (rank 1, as in the released code) or ``none``.
        partners: r, clouds that each cloud attends to (``intended``).
        key_points: of a partner, the first in farthest-point order.
        group: neighbours of the soft projection. sigma_min: its smallest temperature.
        choose: ``pool``: m points are generated from the largest features of the cloud (SampleNet); ``scores``: every point gets a
            foreground score, squashed as that of a patch, and the m points of each kind are drawn by it.
        learnt: weight of the learnt score beside the evidence of patches, a share in 0 .. 1 (``GcsfConfig.evidence``).
    """

    points: int = 2048
    samples: int = 256
    mutual: Literal["intended", "released", "none"] = "intended"
    partners: int = 4
    key_points: int = 128
    group: int = 7
    sigma_min: float = 1e-2
    choose: Literal["pool", "scores"] = "pool"
    learnt: float = 0.1


@dataclass(frozen=True)
class LossConfig:
    """Weights and temperatures.

    Attributes:
        sem, obj: weights of L_sem, L_obj. tau: their temperature.
        anchor: of L_sem and L_obj: ``set`` (prototype averaged over the images), ``image`` (prototype of one image per cloud), or ``cloud``
            (the cloud's foreground; negatives are measured from it).
        po_pool: the object prototype is pooled over the ``masked`` patches or over all (``gap``).
        sym: the image's background prototype is one more negative of each cloud's foreground.
        cross_concept: prototypes of the other concepts are negatives too, where several are trained together.
        point, object, samp, rep: weights of L_point, L_object, L_samp, L_rep. tau_point, tau_object: temperatures.
        positives, negatives: random pairs per cloud in L_point.
        samp_alpha, samp_lambda: of L_simp and L_proj in L_samp. gamma, delta: the coverage term is weighted gamma + delta m.
        rep_margin: rho, squared distance in the unit sphere.
        sal: weight of L_sal in L_s. saliency: ``area``: mean saliency inside the mask; ``mean``: of saliency times mask over the image.
        s_coarse, s_final: weights of L_s on the coarse and on the final mask in stage 3.
    """

    sem: float = 1.0
    obj: float = 1.0
    tau: float = 0.1
    anchor: Literal["set", "image", "cloud"] = "set"
    po_pool: Literal["masked", "gap"] = "masked"
    sym: bool = False
    cross_concept: bool = True
    point: float = 1.0
    object: float = 1.0
    samp: float = 1.0
    rep: float = 1.0
    tau_point: float = 0.5
    tau_object: float = 0.07
    positives: int = 1000
    negatives: int = 5000
    samp_alpha: float = 30.0
    samp_lambda: float = 1.0
    gamma: float = 0.7
    delta: float = 0.0
    rep_margin: float = 1.0
    sal: float = 0.3
    saliency: Literal["area", "mean"] = "area"
    s_coarse: float = 0.5
    s_final: float = 1.0


@dataclass(frozen=True)
class BankConfig:
    """What is kept of a set so that new items can be judged without it.

    Attributes:
        images, clouds: most entries of each. patches: T, of each image, those with the highest weight. (Points per cloud:
            ``SamplerConfig.key_points``.)
    """

    images: int = 64
    clouds: int = 64
    patches: int = 64


@dataclass(frozen=True)
class NetworkConfig:
    """The network.

    Attributes:
        mgcm, gcsf, sfe, sampler, loss, bank: of its parts.
        contrast: dc, width of the prototypes.
        mask_from: the mask is taken before (``coarse``) or after (``final``) the fusion.
        decode: ``competitive``: nearer to foreground or to background samples; ``knn20``: the 20 neighbours of each matched sample;
            ``scores``: the score of the nearest point; ``proposals``: the same after every point has taken the best of the mean scores of
            the proposals that hold it (both need ``SamplerConfig.choose = scores``).
    """

    mgcm: MgcmConfig = field(default_factory=MgcmConfig)
    gcsf: GcsfConfig = field(default_factory=GcsfConfig)
    sfe: SfeConfig = field(default_factory=SfeConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    contrast: int = 128
    mask_from: Literal["coarse", "final"] = "final"
    decode: Literal["competitive", "knn20", "scores", "proposals"] = "competitive"


HANDED_OVER = ("rows", "attention")
"""Of ``GcsfConfig.evidence``: what reaches the foreground sampler."""


def check_settings(config: object, where: str = "") -> None:
    """Check a dataclass of settings and those inside it: options are known, counts at least 1, numbers finite and >= 0, temperatures > 0.

    Raises:
        InputError: naming the setting and what was expected.
    """
    hints = get_type_hints(type(config))
    for f in fields(config):  # type: ignore[arg-type]
        name, value = where + f.name, getattr(config, f.name)
        options = get_args(hints[f.name]) if get_origin(hints[f.name]) is Literal else ()
        if is_dataclass(value):
            check_settings(value, name + ".")
        elif options and value not in options:
            raise InputError(f"{name}: expected one of {', '.join(options)}, got {value!r}")
        elif hints[f.name] is int and value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}")
        elif hints[f.name] is float and not (math.isfinite(value) and value >= 0 and (value > 0 or not f.name.startswith("tau"))):
            raise InputError(f"{name}: expected a finite number {'above' if f.name.startswith('tau') else 'of at least'} 0, got {value}")


def check_network(config: NetworkConfig) -> None:
    """Raise InputError for settings that no network can be built with."""
    check_settings(config)
    if config.gcsf.width % config.sfe.heads:
        raise InputError(f"sfe.heads: {config.sfe.heads} does not divide gcsf.width {config.gcsf.width}")
    if config.sampler.samples < 2:
        raise InputError(f"sampler.samples: expected at least 2, got {config.sampler.samples}")
    scored = config.sampler.choose == "scores"
    if scored and 2 * config.sampler.samples > config.sampler.points:
        raise InputError(f"sampler.samples: scores draw two sets apart, expected at most half of {config.sampler.points} points")
    if config.decode in ("scores", "proposals") and not scored:
        raise InputError(f"decode: {config.decode} needs sampler.choose = scores")
    if config.gcsf.evidence in HANDED_OVER and not scored:
        raise InputError(f"gcsf.evidence: {config.gcsf.evidence} needs sampler.choose = scores")
    if config.gcsf.evidence == "attention" and config.sfe.fusion != "attention":
        raise InputError(f"gcsf.evidence: attention needs sfe.fusion = attention, got {config.sfe.fusion}")


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
