"""The network: two branches, the graph between them, and what is sampled and pooled from the enhanced features.

Sizes in comments: B clouds of N points, V images of Np patches; D2 token width, D3 point-feature width, ds shared width, m samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from geoseg_ros.coseg.network.config import NetworkConfig, check_network
from geoseg_ros.coseg.network.gcsf import SharedSpace, log_association, similarity
from geoseg_ros.coseg.network.mgcm import Mgcm, SetReference
from geoseg_ros.coseg.network.samplers import Sampler
from geoseg_ros.coseg.network.sfe import Enhance, GraphAttention
from geoseg_ros.features.dgcnn import Dgcnn, DgcnnFeatures


class ImageFeatures(NamedTuple):
    """Of V images.

    Attributes:
        tokens: what came in, [V, Np, D2] (X, or F~2D in the second pass). cls: Z [V, D2].
        channels: F_c [V, Np, D2]. score: r [V, Np]. mask: M [V, Np]. weights: S-bar [V, Np].
        projected: F^^2D [V, Np, ds]. refined: F~2D of the graph [V, Np, ds].
        reference: the set that the scores are relative to.
    """

    tokens: torch.Tensor
    cls: torch.Tensor
    channels: torch.Tensor
    score: torch.Tensor
    mask: torch.Tensor
    weights: torch.Tensor
    projected: torch.Tensor
    refined: torch.Tensor
    reference: SetReference


class Partners(NamedTuple):
    """Encoded key points of partner clouds, [B, r, P, D3], for the two samplers."""

    foreground: torch.Tensor
    background: torch.Tensor


class CloudFeatures(NamedTuple):
    """Of B clouds.

    Attributes:
        points: P [B, N, 3].
        encoded: of the two samplers before the mutual attention, [B, N, D3] each.
        foreground, background: F^3D_f, F^3D_b [B, N, D3]. projected: F^^3D [B, N, ds].
    """

    points: torch.Tensor
    encoded: tuple[torch.Tensor, torch.Tensor]
    foreground: torch.Tensor
    background: torch.Tensor
    projected: torch.Tensor


class Samples(NamedTuple):
    """Simplified Q and projected R points of foreground (o) and background (b), [B, m, 3] each."""

    simplified_o: torch.Tensor
    simplified_b: torch.Tensor
    projected_o: torch.Tensor
    projected_b: torch.Tensor


class Columns(NamedTuple):
    """What the rows of one direction of the fusion look at.

    Attributes:
        projected: values of the attention [B, C, ds]. refined: what the graph compares with [B, C, ds]. blocks: images or clouds in C.
    """

    projected: torch.Tensor
    refined: torch.Tensor
    blocks: int


class Pooled(NamedTuple):
    """Image side of the contrast, [V, dc] each: p_s, p_o, and the same of the masked-out background."""

    semantic: torch.Tensor
    object: torch.Tensor
    semantic_background: torch.Tensor
    object_background: torch.Tensor


class CosegNetwork(nn.Module):
    """GeoFree-CoSeg.

    Args:
        dim: D2, width of the backbone's tokens.
        config: every open decision.
        extractor: DGCNN; it is frozen and always in evaluation mode.

    Raises:
        InputError: settings that no network can be built with.
    """

    def __init__(self, dim: int, config: NetworkConfig, extractor: Dgcnn) -> None:
        super().__init__()
        check_network(config)
        self.dim, self.config = dim, config
        width = config.gcsf.width
        self.mgcm = Mgcm(dim, config.mgcm)
        self.sampler_o, self.sampler_b = Sampler(config.sampler), Sampler(config.sampler)
        point_dim = self.sampler_o.encoder.dim
        self.space = SharedSpace(point_dim, dim, config.gcsf)
        self.to_points, self.to_patches = GraphAttention(width, config.sfe), GraphAttention(width, config.sfe)
        self.enhance_points = Enhance(point_dim, width, config.sfe.lambda_p, config.sfe.lambda_learnable)
        self.enhance_patches = Enhance(dim, width, config.sfe.lambda_i, config.sfe.lambda_learnable)
        self.head_semantic, self.head_object = _head(dim, config.contrast), _head(width, config.contrast)  # g_s, g_o
        embedding = extractor.EMBEDDING_DIM
        self.cloud_semantic, self.cloud_object = _head(embedding, config.contrast), _head(embedding, config.contrast)  # h_s, h_o
        self.extractor = extractor.requires_grad_(False)

    @property
    def fused(self) -> bool:
        """Whether the branches exchange anything."""
        return self.config.sfe.fusion != "none"

    def train(self, mode: bool = True) -> CosegNetwork:
        """As usual, but the extractor stays in evaluation mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def constrain(self) -> None:
        """Put bounded parameters back into their bounds; to be called after each optimiser step."""
        self.to_points.constrain()
        self.to_patches.constrain()

    def images(self, tokens: torch.Tensor, cls: torch.Tensor, reference: SetReference | None = None) -> ImageFeatures:
        """The 2D branch on tokens [V, Np, D2] and global vectors [V, D2]; ``reference``: see :meth:`Mgcm.correlate`."""
        channels = self.mgcm.channels(tokens)
        score, reference = self.mgcm.correlate(channels, cls, reference)
        weights = self.mgcm.weights(score)
        projected, refined = self.space.patches(channels, weights)
        return ImageFeatures(tokens, cls, channels, score, self.mgcm.mask(score), weights, projected, refined, reference)

    def clouds(self, points: torch.Tensor, partners: Partners | None = None) -> CloudFeatures:
        """The 3D branch on points [B, N, 3]; ``partners``: see :meth:`Sampler.exchange`."""
        encoded = self.sampler_o.encode(points), self.sampler_b.encode(points)
        foreground = self.sampler_o.exchange(encoded[0], partners.foreground if partners else None)
        background = self.sampler_b.exchange(encoded[1], partners.background if partners else None)
        return CloudFeatures(points, encoded, foreground, background, self.space.points(foreground))

    def enhanced_clouds(self, clouds: CloudFeatures, patches: Columns) -> torch.Tensor:
        """F~3D_f [B, N, D3]: the foreground stream after P -> I fusion. Only the foreground is fused."""
        log_z = log_association(similarity(clouds.projected, patches.refined), patches.blocks, self.config.gcsf)
        return self.enhance_points(clouds.foreground, self.to_points(clouds.projected, patches.projected, log_z))

    def enhanced_images(self, images: ImageFeatures, points: torch.Tensor, blocks: int) -> torch.Tensor:
        """F~2D [V, Np, D2]: the tokens after I -> P fusion with projected points [V, C, ds] of ``blocks`` clouds."""
        log_z = log_association(similarity(images.refined, points), blocks, self.config.gcsf)
        return self.enhance_patches(images.tokens, self.to_patches(images.projected, points, log_z))

    def samples(self, foreground: torch.Tensor, background: torch.Tensor, points: torch.Tensor) -> Samples:
        """Both subsets of points [B, N, 3] from F~3D_f and F^3D_b [B, N, D3]."""
        q_o, q_b = self.sampler_o.simplify(foreground), self.sampler_b.simplify(background)
        return Samples(q_o, q_b, self.sampler_o.project(q_o, points), self.sampler_b.project(q_b, points))

    def extract(self, samples: Samples) -> tuple[DgcnnFeatures, DgcnnFeatures, DgcnnFeatures, DgcnnFeatures]:
        """Extractor features of the four subsets, in the order of :class:`Samples`."""
        sets = self.extractor(torch.cat(samples))
        parts = [tensor.chunk(4) for tensor in sets]
        first, second, third, fourth = (DgcnnFeatures(*(part[k] for part in parts)) for k in range(4))
        return first, second, third, fourth

    def pooled(self, coarse: ImageFeatures, final: ImageFeatures, detach: bool) -> Pooled:
        """The images' prototypes from both passes; ``detach``: no gradient reaches the 2D branch, only the heads."""
        mask = self.final_mask(coarse, final)
        tokens, projected, weights = final.tokens, final.projected, coarse.weights
        if detach:
            mask, tokens, projected, weights = mask.detach(), tokens.detach(), projected.detach(), weights.detach()
        inside = torch.ones_like(mask) if self.config.loss.po_pool == "gap" else mask
        return Pooled(
            self.head_semantic((weights[:, :, None] * tokens).sum(1)),
            self.head_object(_mean(projected, inside)),
            self.head_semantic(_mean(tokens, 1 - mask)),
            self.head_object(_mean(projected, 1 - mask)),
        )

    def final_mask(self, coarse: ImageFeatures, final: ImageFeatures) -> torch.Tensor:
        """M [V, Np], from where the configuration says."""
        return final.mask if self.config.mask_from == "final" else coarse.mask


def draw_columns(images: ImageFeatures, chosen: torch.Tensor) -> Columns:
    """Patches of the images ``chosen`` [B, r] for each cloud."""
    projected, refined = (x[chosen].flatten(1, 2) for x in (images.projected, images.refined))
    return Columns(projected, refined, chosen.shape[1])


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))


def _mean(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the second axis: features [V, Np, C], weight [V, Np] -> [V, C]."""
    return (features * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1e-6)
