"""What the network is given: tokens of images from any backbone, and clouds as few points in the unit sphere.

Points may carry the mean token of the virtual views that show them. Points and patches of photographs are then vectors of one space
before anything is trained, which features of coordinates are not.
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
LEAST_IN_GROUP = 3  # points of which a mean score says something
CANDIDATES = 20_000  # points that farthest-point sampling looks at


@dataclass(frozen=True)
class ImageTokens:
    """Tokens of V images on one grid.

    Attributes:
        tokens: X float32 [V, Np, D2], Np = h w, row-major.
        cls: Z float32 [V, D2], global vectors.
        saliency: a float32 [V, Np], 0 .. 1 in every image.
        grid: (h, w).
        evidence: float32 [V, Np] that a patch shows the target, from elsewhere (``MgcmConfig.signal``), or None.
        against: tokens float32 [A, Np, D2] that do not show the target (rivals' pictures, a background bank), further columns of the graph
            that no mask speaks for, or None.
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
        """Some of the images."""
        evidence = None if self.evidence is None else self.evidence[rows]
        return replace(self, tokens=self.tokens[rows], cls=self.cls[rows], saliency=self.saliency[rows], evidence=evidence)

    def to(self, device: torch.device | str) -> ImageTokens:
        """The same on another device."""
        evidence, against = (None if x is None else x.to(device) for x in (self.evidence, self.against))
        return ImageTokens(self.tokens.to(device), self.cls.to(device), self.saliency.to(device), self.grid, evidence, against)


def image_tokens(
    backbone: ImageBackbone, images: Sequence[NDArray[np.uint8]], side: int = 224, batch: int = 16, mean: torch.Tensor | None = None
) -> ImageTokens:
    """Tokens of photographs [H, W, 3], each resized to a square of about ``side`` pixels (a multiple of the stride), as the paper does.

    With ``mean`` [D] they are brought to the space of drawings, see :func:`comparable`.
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
    """Tokens [..., D] of photographs or drawings without the photographs' ``mean`` [D], of mean square 1: one space for both."""
    return unit(tokens, mean) * tokens.shape[-1] ** 0.5


def frame_saliency(tokens: torch.Tensor) -> torch.Tensor:
    """How unlike the frame of its own picture a patch is: the fall-back for backbones that show no class attention.

    1 - the mean cosine with the 3 most similar patches of the outermost ring, scaled to 0 .. 1 per picture. (The cosine with a global
    vector that is a mean token would be highest on the background, which covers most.)

    Args:
        tokens: [V, h, w, D].

    Returns:
        a [V, h w].
    """
    count, height, width, _ = tokens.shape
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    flat = F.normalize(tokens.flatten(1, 2), dim=2)
    alike = flat @ flat[:, ring.flatten()].transpose(1, 2)
    same = torch.arange(height * width)[:, None] == ring.flatten().nonzero()[:, 0]
    alike = alike.masked_fill(same, -1.0)  # a patch of the ring is not its own witness
    saliency = 1 - alike.topk(min(3, alike.shape[2]), dim=2).values.mean(2)
    low, high = saliency.amin(1, keepdim=True), saliency.amax(1, keepdim=True)
    return (saliency - low) / (high - low).clamp_min(1e-6)


@dataclass(frozen=True)
class PreparedCloud:
    """A cloud as the network sees it.

    Attributes:
        points: P float32 [N, 3] in the unit sphere, in farthest-point order.
        index: int64 [N], which input points they are.
        whole: float32 [M, 3], all finite input points in the same frame. rows: int64 [M], which input points those are.
        size: points of the input, invalid ones included.
        view_tokens: float32 [N, D2], mean tokens of the virtual views that show a point (:func:`comparable`), or None.
        groups: bool [G, N], which of the points are in each of G proposals, which may overlap, or None.
    """

    points: NDArray[np.float32]
    index: NDArray[np.int64]
    whole: NDArray[np.float32]
    rows: NDArray[np.int64]
    size: int
    view_tokens: NDArray[np.float32] | None = None
    groups: NDArray[np.bool_] | None = None


def prepare_cloud(xyz: NDArray[np.float32], count: int, view_tokens: NDArray[np.float32] | None = None) -> PreparedCloud:
    """Bring a cloud or a proposal float32 [M, 3] (metres, any frame; invalid points allowed) to ``count`` points in the unit sphere.

    Deterministic: of more than 20 000 points every n-th is looked at, then farthest points are taken.

    Args:
        view_tokens: of each point, float32 [M, D2], NaN where no view shows it: such a point is not among the ``count``.

    Raises:
        InputError: fewer than 32 valid points, or as few that views show.
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
    """P [B, N, 3] of clouds prepared with one N; [B, N, 3 + D2] where views show something of every point."""
    parts = [c.points if c.view_tokens is None else np.concatenate([c.points, c.view_tokens], axis=1) for c in clouds]
    return torch.from_numpy(np.stack(parts))


def voxel_view_tokens(scene: SceneGeometry, views: ProposalViews) -> NDArray[np.float32]:
    """Mean token of every voxel over the drawings that show it, float32 [M, D] of mean square 1; NaN where none does.

    Of a coloured cloud what is drawn in colour counts.
    """
    count = views.grid[0] // 2 if views.domain is Domain.COLOUR else views.grid[0]
    tokens = views.tokens.unflatten(1, views.grid)[:, :count].flatten(0, 1)
    index = views.index[:, :count].reshape(-1, *views.index.shape[2:])
    features, shown = lift_tokens(tokens, index, len(scene.xyz))
    result = comparable(features, None).numpy().astype(np.float32)
    result[~shown.numpy()] = np.nan
    return result


def prepare_with_views(cloud: Cloud, scene: SceneGeometry, views: ProposalViews | None, count: int) -> PreparedCloud:
    """The points of a cloud's proposals, ``count`` of them with their tokens in virtual views; all other points are background.

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
