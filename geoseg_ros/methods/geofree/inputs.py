"""Inputs of the network: tokens of images from any backbone, and clouds as a fixed number of points in the unit sphere.

A point may carry the mean token of the virtual views that show it. Points and patches of photographs are then comparable before any
training; features of coordinates are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain, resize, unit
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.sampling import farthest_points, unit_sphere
from geoseg_ros.projection.lifting import lift_tokens
from geoseg_ros.projection.proposal_views import ProposalViews

LEAST_POINTS = 32
LEAST_IN_GROUP = 3  # smallest number of points whose mean score is used
CANDIDATES = 20_000  # largest number of points given to farthest-point sampling


@dataclass(frozen=True)
class ImageTokens:
    """Tokens of V images on one grid.

    Attributes:
        tokens: X float32 [V, Np, D2], Np = h w, row-major.
        cls: Z float32 [V, D2], global vectors.
        saliency: a float32 [V, Np], from 0 to 1 in every image.
        grid: (h, w), rows and columns of patches.
        evidence: float32 [V, Np], evidence that a patch shows the target, in cosine; needed with ``MgcmConfig.signal`` = contrast.
        against: float32 [A, Np, D2], tokens that do not show the target, from pictures of rivals or a background bank. They are further
            columns of the graph, with mask 0.
    """

    tokens: torch.Tensor
    cls: torch.Tensor
    saliency: torch.Tensor
    grid: tuple[int, int]
    evidence: torch.Tensor | None = None
    against: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, rows: torch.Tensor | Sequence[int] | slice) -> ImageTokens:
        """A subset of the images."""
        evidence = None if self.evidence is None else self.evidence[rows]
        return replace(self, tokens=self.tokens[rows], cls=self.cls[rows], saliency=self.saliency[rows], evidence=evidence)

    def to(self, device: torch.device | str) -> ImageTokens:
        """The same on another device."""
        evidence, against = (None if x is None else x.to(device) for x in (self.evidence, self.against))
        return ImageTokens(self.tokens.to(device), self.cls.to(device), self.saliency.to(device), self.grid, evidence, against)


def image_tokens(
    backbone: ImageBackbone, images: Sequence[NDArray[np.uint8]], side: int = 224, batch: int = 16, mean: torch.Tensor | None = None
) -> ImageTokens:
    """Tokens of photographs.

    Args:
        backbone: image backbone.
        images: uint8 RGB [H, W, 3] each; resized to a square, as in the paper.
        side: side of the square, pixels; rounded to a multiple of the backbone's stride.
        batch: images that the backbone processes together.
        mean: float32 [D2], mean token of photographs; with it tokens are made comparable with those of drawings (:func:`comparable`).

    Raises:
        InputError: no images.
    """
    if not images:
        raise InputError("images: expected at least one")
    side = max(2, round(side / backbone.stride)) * backbone.stride
    parts, vectors = [], []
    for start in range(0, len(images), batch):
        squares = np.stack([resize(image, side, side) for image in images[start : start + batch]])
        tokens, cls = backbone.tokens(squares)
        parts.append(tokens.float().cpu())
        vectors.append(cls.float().cpu())
    tokens = torch.cat(parts)
    grid = (tokens.shape[1], tokens.shape[2])
    saliency, flat, cls = frame_saliency(tokens), tokens.flatten(1, 2), torch.cat(vectors)
    if mean is not None:
        flat, cls = comparable(flat, mean), comparable(cls, mean)
    return ImageTokens(flat, cls, saliency, grid)


def comparable(tokens: torch.Tensor, mean: torch.Tensor | None) -> torch.Tensor:
    """Make tokens of photographs and drawings comparable: subtract the ``mean`` [D] of photographs, and scale to mean square 1.

    Args:
        tokens: float32 [..., D].
        mean: float32 [D]; None: nothing is subtracted.
    """
    return unit(tokens, mean) * tokens.shape[-1] ** 0.5


def frame_saliency(tokens: torch.Tensor) -> torch.Tensor:
    """Saliency of patches for backbones without class attention: dissimilarity to the border of the picture.

    It is 1 minus the mean cosine with the 3 most similar patches of the outermost ring, scaled to 0 .. 1 per picture. The cosine with the
    mean token would not do: it is highest on the background, which covers most of a picture.

    Args:
        tokens: float32 [V, h, w, D].

    Returns:
        float32 [V, h w].
    """
    count, height, width, _ = tokens.shape
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    flat = F.normalize(tokens.flatten(1, 2), dim=2)
    alike = flat @ flat[:, ring.flatten()].transpose(1, 2)
    same = torch.arange(height * width)[:, None] == ring.flatten().nonzero()[:, 0]
    alike = alike.masked_fill(same, -1.0)  # a patch of the ring is not compared with itself
    saliency = 1 - alike.topk(min(3, alike.shape[2]), dim=2).values.mean(2)
    low, high = saliency.amin(1, keepdim=True), saliency.amax(1, keepdim=True)
    return (saliency - low) / (high - low).clamp_min(1e-6)


@dataclass(frozen=True)
class PreparedCloud:
    """A cloud as an input of the network.

    Attributes:
        points: P float32 [N, 3] in the unit sphere, in farthest-point order.
        index: int64 [N], index of each of these points in the input.
        whole: float32 [M, 3], all finite points of the input in the unit sphere.
        rows: int64 [M], index of each of these points in the input.
        size: number of points of the input, invalid ones included.
        view_tokens: float32 [N, D2], mean token of the virtual views that show a point (:func:`comparable`), or None.
        groups: bool [G, N], membership of the points in G proposals, which may overlap, or None.
    """

    points: NDArray[np.float32]
    index: NDArray[np.int64]
    whole: NDArray[np.float32]
    rows: NDArray[np.int64]
    size: int
    view_tokens: NDArray[np.float32] | None = None
    groups: NDArray[np.bool_] | None = None


def prepare_cloud(xyz: NDArray[np.float32], count: int, view_tokens: NDArray[np.float32] | None = None) -> PreparedCloud:
    """Reduce a cloud or a proposal to ``count`` points in the unit sphere by farthest-point sampling.

    The result is deterministic. Of more than 20 000 points only every n-th is a candidate.

    Args:
        xyz: float32 [M, 3], metres, in any frame; invalid points are NaN.
        count: N, number of points wanted.
        view_tokens: float32 [M, D2], token of each point; NaN for points that no view shows, which are not chosen.

    Raises:
        InputError: fewer than 32 valid points, or fewer than 32 points that views show.
    """
    rows = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    if len(rows) < LEAST_POINTS:
        raise InputError(f"cloud: expected at least {LEAST_POINTS} valid points, got {len(rows)}")
    whole, _, _ = unit_sphere(np.asarray(xyz[rows], np.float32))
    shown = np.arange(len(rows)) if view_tokens is None else np.flatnonzero(np.isfinite(view_tokens[rows]).all(axis=1))
    if len(shown) < LEAST_POINTS:
        raise InputError(f"cloud: expected at least {LEAST_POINTS} points that views show, got {len(shown)}")
    looked = shown[:: -(-len(shown) // CANDIDATES)]
    chosen = looked[farthest_points(whole[looked], count)]
    return PreparedCloud(whole[chosen], rows[chosen], whole, rows, len(xyz), None if view_tokens is None else view_tokens[rows[chosen]])


def stack(clouds: Sequence[PreparedCloud]) -> torch.Tensor:
    """Points float32 [B, N, 3] of clouds that were prepared with the same N; [B, N, 3 + D2] if they have tokens in views."""
    parts = [c.points if c.view_tokens is None else np.concatenate([c.points, c.view_tokens], axis=1) for c in clouds]
    return torch.from_numpy(np.stack(parts))


def voxel_view_tokens(scene: SceneGeometry, views: ProposalViews) -> NDArray[np.float32]:
    """Mean token of every voxel over the drawings that show it.

    Only the drawings in colour are used if the cloud has colour.

    Returns:
        float32 [M, D] of mean square 1; NaN for voxels that no drawing shows.
    """
    count = views.grid[0] // 2 if views.domain is Domain.COLOUR else views.grid[0]
    tokens = views.tokens.unflatten(1, views.grid)[:, :count].flatten(0, 1)
    index = views.index[:, :count].reshape(-1, *views.index.shape[2:])
    features, shown = lift_tokens(tokens, index, len(scene.xyz))
    result = comparable(features, None).numpy().astype(np.float32)
    result[~shown.numpy()] = np.nan
    return result


def prepare_with_views(cloud: Cloud, scene: SceneGeometry, views: ProposalViews | None, count: int) -> PreparedCloud:
    """Choose ``count`` points inside the proposals of a cloud, with their tokens in virtual views. All other points are background.

    Args:
        cloud: the cloud.
        scene: its geometry.
        views: drawings of its proposals; None: there are no proposals.
        count: N, number of points wanted.

    Raises:
        InputError: no proposals, or fewer than 32 points in them.
    """
    if views is None:
        raise InputError("cloud: expected proposals, found none")
    inside = np.zeros(len(scene.xyz), bool)
    for proposal in scene.proposals:
        inside[proposal] = True
    xyz = np.where(scene.point_values(inside)[:, None], cloud.xyz, np.float32(np.nan))
    made = prepare_cloud(xyz, count, scene.point_values(voxel_view_tokens(scene, views), np.nan))
    voxel = scene.inverse[made.index]
    groups = np.stack([np.isin(voxel, proposal) for proposal in scene.proposals])
    return replace(made, groups=groups[groups.sum(1) >= LEAST_IN_GROUP])
