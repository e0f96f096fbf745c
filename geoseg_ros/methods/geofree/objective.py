"""One training step of the network: the joint forward pass and its named losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geoseg_ros.methods.geofree.config import LossConfig
from geoseg_ros.methods.geofree.inputs import ImageTokens
from geoseg_ros.methods.geofree.losses import (
    cooccurrence_loss,
    object_loss,
    point_loss,
    prototype_loss,
    repulsion_loss,
    saliency_loss,
    simplification_loss,
)
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, ImagePrototypes, Samples, patch_columns
from geoseg_ros.nets.dgcnn import DgcnnFeatures


@dataclass(frozen=True)
class Step:
    """Result of a joint step.

    Attributes:
        terms: weighted losses by name; their sum is minimised.
        samples: samples of the clouds.
        pooled: prototypes of the images; None for a step without images.
    """

    terms: dict[str, torch.Tensor]
    samples: Samples
    pooled: ImagePrototypes | None


def image_terms(tokens: torch.Tensor, saliency: torch.Tensor, mask: torch.Tensor, config: LossConfig) -> dict[str, torch.Tensor]:
    """L_cooc and weighted L_sal of masks M [V, Np], tokens X [V, Np, D2] and saliency a [V, Np]. L_cooc needs two images."""
    terms = {"sal": config.sal * saliency_loss(saliency, mask, config.saliency)}
    if len(tokens) > 1:
        terms["cooc"] = cooccurrence_loss(tokens, mask)
    return terms


def image_step(network: CosegNetwork, images: ImageTokens) -> dict[str, torch.Tensor]:
    """Losses of a step of stage 1: L_s on the coarse masks. Only the 2D branch is used."""
    channels = network.mgcm.channels(images.tokens)
    score = network.mgcm.score(channels, images.cls, evidence=images.evidence)
    return image_terms(images.tokens, images.saliency, network.mgcm.mask(score), network.config.loss)


def joint_step(
    network: CosegNetwork,
    points: torch.Tensor,
    images: ImageTokens | None,
    generator: torch.Generator,
    train_images: bool,
    foreign: ImagePrototypes | None = None,
) -> Step:
    """A step of stage 2 or 3: forward pass and losses.

    Args:
        network: in training mode.
        points: P [B, N, 3], or [B, N, 3 + D2] with tokens of views, B >= 2.
        images: some images of the set; None: only the 3D branch is trained.
        generator: source of everything random in the step, on the processor.
        train_images: stage 3: L_s is added, and gradients reach the 2D branch through the prototypes.
        foreign: prototypes of other concepts, which are negatives.
    """
    config, loss = network.config, network.config.loss
    clouds = network.clouds(points)
    foreground = Foreground(clouds.foreground)
    pooled, image_losses = None, {}
    if images is not None:
        coarse = final = network.images(images.tokens, images.cls, evidence=images.evidence)
        if network.fused:
            draw_images = torch.rand(len(points), len(images), generator=generator).argsort(1)[:, : config.gcsf.r_img]
            draw_clouds = torch.rand(len(images), len(points), generator=generator).argsort(1)[:, :1]
            against = None if images.against is None else network.against(images.against)
            foreground = network.fused_clouds(clouds, patch_columns(coarse, draw_images.to(points.device), against))
            enhanced = network.enhanced_images(coarse, clouds.projected[draw_clouds.to(points.device)].flatten(1, 2), 1)
            final = network.images(enhanced, images.cls, evidence=images.evidence)
        pooled = network.pooled(coarse, final, detach=not train_images)
        if train_images:
            image_losses = _masks_terms(network, images, coarse.mask, final.mask)
    samples = network.samples(foreground, clouds.background, clouds.points, generator)
    features = network.extract(samples)
    terms = _cloud_terms(network, clouds.points, samples, features, generator)
    y_object = network.cloud_object(features[2].embedding), network.cloud_object(features[3].embedding)
    if pooled is not None:
        y_semantic = network.cloud_semantic(features[0].embedding), network.cloud_semantic(features[1].embedding)
        others = foreign if loss.cross_concept else None
        terms["sem"] = loss.sem * prototype_loss(pooled.semantic, *y_semantic, loss.tau, loss.anchor, others and others.semantic)
        terms["obj"] = loss.obj * prototype_loss(pooled.object, *y_object, loss.tau, loss.anchor, others and others.object)
    return Step({**terms, **image_losses}, samples, pooled)


def _masks_terms(network: CosegNetwork, images: ImageTokens, coarse: torch.Tensor, final: torch.Tensor) -> dict[str, torch.Tensor]:
    """L_s on the coarse and the final masks, weighted; without fusion on the coarse masks alone."""
    config = network.config
    if not network.fused:
        return image_terms(images.tokens, images.saliency, coarse, config.loss)
    first = image_terms(images.tokens, images.saliency, coarse, config.loss)
    second = image_terms(images.tokens, images.saliency, final, config.loss)
    return {name: config.loss.s_coarse * first[name] + config.loss.s_final * second[name] for name in first}


def _cloud_terms(
    network: CosegNetwork,
    points: torch.Tensor,
    samples: Samples,
    features: tuple[DgcnnFeatures, DgcnnFeatures, DgcnnFeatures, DgcnnFeatures],
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """L_p: embeddings are taken from the projected points R; the simplified points Q must cover the cloud."""
    loss = network.config.loss
    projected_o, projected_b = features[2], features[3]
    simplified = sum(simplification_loss(q, points, loss.gamma) for q in (samples.simplified_o, samples.simplified_b))
    projection = network.sampler_o.project.sigma() + network.sampler_b.project.sigma()
    point = point_loss(projected_o.points, projected_b.points, loss.tau_point, loss.positives, loss.negatives, generator)
    return {
        "point": point,
        "object": object_loss(projected_o.embedding, projected_b.embedding, loss.tau_object),
        "samp": loss.samp_alpha * simplified + projection,
        "rep": repulsion_loss(samples.projected_o, samples.projected_b, loss.rep_margin),
    }
