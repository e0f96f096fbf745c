"""The network: a branch for images, a branch for clouds, the graph between them, the samplers of points and the prototypes of images.

Sizes: B clouds of N points, V images of Np patches, m samples; widths D2 of tokens, D3 of point features, ds of the shared space and dc of
prototypes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from geoseg_ros.methods.geofree.config import NetworkConfig
from geoseg_ros.methods.geofree.fusion import Enhance, GraphAttention, SharedSpace, log_association, similarity
from geoseg_ros.methods.geofree.mgcm import Mgcm, squash
from geoseg_ros.methods.geofree.samplers import Sampler, draw_by_score
from geoseg_ros.nets.dgcnn import Dgcnn, DgcnnFeatures


class ImageFeatures(NamedTuple):
    """Features of V images.

    Attributes:
        tokens: [V, Np, D2], input: X in the first pass, F~2D in the second.
        cls: Z [V, D2], global vectors.
        channels: F_c [V, Np, D2].
        score: r [V, Np], score of each patch.
        mask: M [V, Np], soft mask, 0 .. 1.
        weights: S-bar [V, Np]; each row sums to 1.
        projected: F^^2D [V, Np, ds], patches in the shared space.
        refined: F~2D [V, Np, ds], the same with their weights; the graph compares them with points.
    """

    tokens: torch.Tensor
    cls: torch.Tensor
    channels: torch.Tensor
    score: torch.Tensor
    mask: torch.Tensor
    weights: torch.Tensor
    projected: torch.Tensor
    refined: torch.Tensor


class Partners(NamedTuple):
    """Encoded key points of r partner clouds for each of B clouds, [B, r, P, D3], for the foreground and the background sampler."""

    foreground: torch.Tensor
    background: torch.Tensor


class CloudFeatures(NamedTuple):
    """Features of B clouds.

    Attributes:
        points: P [B, N, 3], in the unit sphere.
        encoded: features of both samplers before the mutual attention, [B, N, D3] each.
        foreground, background: F^3D_f, F^3D_b [B, N, D3], features after the mutual attention.
        projected: F^^3D [B, N, ds], points in the shared space.
    """

    points: torch.Tensor
    encoded: tuple[torch.Tensor, torch.Tensor]
    foreground: torch.Tensor
    background: torch.Tensor
    projected: torch.Tensor


class Samples(NamedTuple):
    """Samples of the foreground (``_o``) and the background (``_b``): simplified points Q and projected points R, [B, m, 3] each."""

    simplified_o: torch.Tensor
    simplified_b: torch.Tensor
    projected_o: torch.Tensor
    projected_b: torch.Tensor


class GraphColumns(NamedTuple):
    """The C columns of the graph that each of B clouds attends to: patches of images.

    Attributes:
        projected: [B, C, ds], values of the attention.
        refined: [B, C, ds], features that the graph compares with points.
        blocks: number of images in the C columns.
        mask: M [B, C] of the patches, 0 .. 1.
    """

    projected: torch.Tensor
    refined: torch.Tensor
    blocks: int
    mask: torch.Tensor


class Foreground(NamedTuple):
    """Foreground features of B clouds after the P -> I fusion.

    Attributes:
        features: F~3D_f [B, N, D3].
        evidence: sum_j Z_ij M_j [B, N], share of the patches of a point that show the target, 0 .. 1; None without fusion.
    """

    features: torch.Tensor
    evidence: torch.Tensor | None = None


class ImagePrototypes(NamedTuple):
    """Prototypes of V images, [V, dc] each: semantic p_s, object p_o, and p_o of the background outside the masks."""

    semantic: torch.Tensor
    object: torch.Tensor
    object_background: torch.Tensor


class CosegNetwork(nn.Module):
    """GeoFree-CoSeg.

    Args:
        dim: D2, width of the backbone's tokens.
        config: settings of the network.
        extractor: point feature extractor; frozen, always in evaluation mode.

    Raises:
        InputError: settings that no network can be built with.
    """

    def __init__(self, dim: int, config: NetworkConfig, extractor: Dgcnn) -> None:
        super().__init__()
        self.dim, self.config = dim, config
        width = config.gcsf.width
        self.mgcm = Mgcm(dim, config.mgcm)
        self.sampler_o, self.sampler_b = Sampler(config.sampler), Sampler(config.sampler)
        if config.sampler.choose == "scores":  # an untrained network decides by the evidence alone
            for sampler in (self.sampler_o, self.sampler_b):
                for parameter in sampler.score[1].parameters():
                    nn.init.zeros_(parameter)
        point_dim = self.sampler_o.encoder.dim
        self.space = SharedSpace(point_dim, dim, config.gcsf)
        self.to_points, self.to_patches = GraphAttention(width, config.sfe), GraphAttention(width, config.sfe)
        self.enhance_points = Enhance(point_dim, width, config.sfe.scale)
        self.enhance_patches = Enhance(dim, width, config.sfe.scale)
        self.head_semantic, self.head_object = _head(dim, config.contrast), _head(width, config.contrast)  # g_s, g_o
        embedding = extractor.EMBEDDING_DIM
        self.cloud_semantic, self.cloud_object = _head(embedding, config.contrast), _head(embedding, config.contrast)  # h_s, h_o
        self.extractor = extractor.requires_grad_(False)

    @property
    def fused(self) -> bool:
        """Whether the branches exchange anything."""
        return self.config.sfe.fused

    def train(self, mode: bool = True) -> CosegNetwork:
        """Set the mode; the extractor stays in evaluation mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def constrain(self) -> None:
        """Clamp parameters to their bounds. Call it after each optimiser step."""
        self.to_points.constrain()
        self.to_patches.constrain()

    def images(
        self, tokens: torch.Tensor, cls: torch.Tensor, reference: torch.Tensor | None = None, evidence: torch.Tensor | None = None
    ) -> ImageFeatures:
        """The 2D branch on tokens [V, Np, D2] and global vectors [V, D2]; ``reference``, ``evidence``: see :meth:`Mgcm.score`."""
        channels = self.mgcm.channels(tokens)
        score = self.mgcm.score(channels, cls, reference, evidence)
        weights = self.mgcm.weights(score)
        projected, refined = self.space.patches(channels, weights)
        return ImageFeatures(tokens, cls, channels, score, self.mgcm.mask(score), weights, projected, refined)

    def against(self, tokens: torch.Tensor) -> GraphColumns:
        """Columns [1, A Np, ds] of patches [A, Np, D2] that do not show the target; their mask is 0."""
        nothing = tokens.new_zeros(tokens.shape[:2])
        projected, refined = (x.flatten(0, 1)[None] for x in self.space.patches(self.mgcm.channels(tokens), nothing))
        return GraphColumns(projected, refined, len(tokens), nothing.flatten()[None])

    def clouds(self, points: torch.Tensor, partners: Partners | None = None) -> CloudFeatures:
        """The 3D branch on points [B, N, 3], or [B, N, 3 + D2] with their tokens in views; ``partners``: see :meth:`Sampler.exchange`."""
        points, view_tokens = points[:, :, :3], self.mgcm.channels(points[:, :, 3:]) if points.shape[2] > 3 else None
        encoded = self.sampler_o.encode(points), self.sampler_b.encode(points)
        foreground = self.sampler_o.exchange(encoded[0], partners.foreground if partners else None)
        background = self.sampler_b.exchange(encoded[1], partners.background if partners else None)
        return CloudFeatures(points, encoded, foreground, background, self.space.points(foreground, view_tokens))

    def fused_clouds(self, clouds: CloudFeatures, patches: GraphColumns) -> Foreground:
        """Foreground features of clouds after the P -> I fusion with patches. Background features are not fused."""
        log_z = log_association(similarity(clouds.projected, patches.refined), patches.blocks, self.config.gcsf)
        features = self.enhance_points(clouds.foreground, self.to_points(clouds.projected, patches.projected, log_z))
        return Foreground(features, (log_z.exp() @ patches.mask[:, :, None])[:, :, 0])

    def enhanced_images(self, images: ImageFeatures, points: torch.Tensor, blocks: int) -> torch.Tensor:
        """F~2D [V, Np, D2]: the tokens after I -> P fusion with projected points [V, C, ds] of ``blocks`` clouds."""
        log_z = log_association(similarity(images.refined, points), blocks, self.config.gcsf)
        return self.enhance_patches(images.tokens, self.to_patches(images.projected, points, log_z))

    def samples(
        self,
        foreground: Foreground,
        background: torch.Tensor,
        points: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> Samples:
        """Both subsets of points [B, N, 3] from F~3D_f and F^3D_b [B, N, D3]; ``generator``: see :func:`draw_by_score`."""
        if self.config.sampler.choose == "pool":
            q_o, q_b = self.sampler_o.simplify(foreground.features), self.sampler_b.simplify(background)
            return Samples(q_o, q_b, self.sampler_o.project(q_o, points), self.sampler_b.project(q_b, points))
        share = squash(self.point_scores(foreground, background))
        simplified, projected = [], []
        for sampler, log_share in ((self.sampler_o, share.log()), (self.sampler_b, (1 - share).log())):
            drawn = draw_by_score(log_share, self.config.sampler.samples, generator)
            simplified.append(points.gather(1, drawn[:, :, None].expand(-1, -1, 3)))
            projected.append(sampler.project(simplified[-1], points, log_share))
        return Samples(*simplified, *projected)

    def point_scores(self, foreground: Foreground, background: torch.Tensor) -> torch.Tensor:
        """Foreground score [B, N] of every point, for ``choose`` = scores.

        It is the difference of the scores of both samplers, plus the evidence of the patches if there is any.
        :func:`~geoseg_ros.methods.geofree.mgcm.squash` turns it into a share of foreground, 0 .. 1.
        """
        score = (self.sampler_o.score(foreground.features) - self.sampler_b.score(background))[:, :, 0]
        return score if foreground.evidence is None else self.config.sampler.learnt * score + foreground.evidence

    def extract(self, samples: Samples) -> tuple[DgcnnFeatures, DgcnnFeatures, DgcnnFeatures, DgcnnFeatures]:
        """Extractor features of the four subsets, in the order of :class:`Samples`."""
        sets = self.extractor(torch.cat(samples))
        parts = [tensor.chunk(4) for tensor in sets]
        first, second, third, fourth = (DgcnnFeatures(*(part[k] for part in parts)) for k in range(4))
        return first, second, third, fourth

    def pooled(self, coarse: ImageFeatures, final: ImageFeatures, detach: bool) -> ImagePrototypes:
        """Prototypes of images from both passes.

        Args:
            coarse: features of the first pass.
            final: features of the second pass, after the fusion.
            detach: gradients reach the heads only, not the 2D branch.
        """
        mask, tokens, projected, weights = final.mask, final.tokens, final.projected, coarse.weights
        if detach:
            mask, tokens, projected, weights = mask.detach(), tokens.detach(), projected.detach(), weights.detach()
        inside = torch.ones_like(mask) if self.config.loss.po_pool == "gap" else mask
        return ImagePrototypes(
            self.head_semantic((weights[:, :, None] * tokens).sum(1)),
            self.head_object(_mean(projected, inside)),
            self.head_object(_mean(projected, 1 - mask)),
        )


def patch_columns(images: ImageFeatures, chosen: torch.Tensor, against: GraphColumns | None = None) -> GraphColumns:
    """The patches of some images as columns of the graph.

    Args:
        images: features of V images.
        chosen: int64 [B, r], indices of the images for each of B clouds.
        against: patches that do not show the target, added for every cloud; None: none are added.
    """
    projected, refined, mask = (x[chosen].flatten(1, 2) for x in (images.projected, images.refined, images.mask))
    own = GraphColumns(projected, refined, chosen.shape[1], mask)
    if against is None:
        return own
    projected, refined, mask = (
        torch.cat([a, b.expand(len(chosen), *b.shape[1:])], 1)
        for a, b in ((own.projected, against.projected), (own.refined, against.refined), (own.mask, against.mask))
    )
    return GraphColumns(projected, refined, own.blocks + against.blocks, mask)


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))


def _mean(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the second axis: features [V, Np, C], weight [V, Np] -> [V, C]."""
    return (features * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1e-6)
