"""Tokens of pictures, carried back to what the pictures show: points, voxels, superpoints or proposals.

Of a virtual view it is known which point every pixel shows (:func:`lift_tokens`). A real camera is known by its pose and intrinsics: points
are projected into its picture, and those that something nearer hides are left out (:class:`PosedView`, :func:`lift_views`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.projection.cameras import Camera

Reduction = Literal["mean", "max"]


@dataclass(frozen=True)
class Occlusion:
    """When a point counts as hidden: its depth is beyond that of its pixel by more than a tolerance.

    Attributes:
        absolute: metres.
        relative: share of the depth; the tolerance is the sum of both. Depth cameras err by about 1 % of the depth and more.
        unknown: whether points are taken as visible where the depth of their pixel is not known.
    """

    absolute: float = 0.02
    relative: float = 0.02
    unknown: bool = False


@dataclass(frozen=True)
class PosedView:
    """A picture with its camera.

    Attributes:
        camera: of the picture, in the frame of the points.
        tokens: [h, w, D], of the picture; the grid covers it evenly.
        depth: float [H, W], metres along the optical axis, of a grid that covers the picture evenly: measured by a registered depth camera,
            or rendered (:mod:`geoseg_ros.projection.render`; infinite where nothing is). Not positive or NaN: not known. None: all points
            in the picture count as visible.
    """

    camera: Camera
    tokens: torch.Tensor
    depth: NDArray[np.floating] | None = None


class TokenSum:
    """Collects tokens of G groups over any number of pictures. Each picture is needed only while it is added.

    Args:
        groups: number of groups G. dim: channels D of the tokens.
        reduction: ``mean`` over all that was added, or ``max`` of each channel.
        like: a tensor whose type and device the sums get.
    """

    def __init__(self, groups: int, dim: int, reduction: Reduction = "mean", like: torch.Tensor | None = None) -> None:
        if reduction not in ("mean", "max"):
            raise ValueError(f"reduction: expected mean or max, got {reduction}")
        like = torch.zeros(0) if like is None else like
        self._reduction = reduction
        self._features = like.new_zeros(groups, dim) if reduction == "mean" else like.new_full((groups, dim), -torch.inf)
        self._count = like.new_zeros(groups)

    def add(self, tokens: torch.Tensor, group: NDArray[np.integer], cell: NDArray[np.integer]) -> None:
        """Add observations.

        Args:
            tokens: [C, D]. group: int [k], the group of each observation, -1 for none. cell: int [k], its row of ``tokens``.
        """
        cells = max(len(tokens), 1)
        pairs, counts = np.unique((group.astype(np.int64) * cells + cell)[group >= 0], return_counts=True)
        owner, row = (torch.from_numpy(a).to(tokens.device) for a in np.divmod(pairs, cells))
        count = torch.from_numpy(counts).to(tokens.device, tokens.dtype)
        self._count.index_add_(0, owner, count)
        if self._reduction == "mean":
            self._features.index_add_(0, owner, tokens[row] * count[:, None])
        else:
            self._features.scatter_reduce_(0, owner[:, None].expand(-1, tokens.shape[1]), tokens[row], "amax")

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [G, D], zeros for groups without an observation, and which groups have one, bool [G]."""
        observed = self._count > 0
        total = self._count.clamp_min(1)[:, None] if self._reduction == "mean" else 1
        return torch.where(observed[:, None], self._features / total, 0), observed


def lift_tokens(
    tokens: torch.Tensor, index: NDArray[np.int32], group: NDArray[np.integer], groups: int, reduction: Reduction = "mean"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of every group over the pixels that show it.

    Args:
        tokens: [V, h, w, D] of V rendered views.
        index: int32 [V, H, W], the point that each pixel of the same views shows, -1 for none.
        group: int [n], the group (superpoint, proposal, or the point itself) of each point, -1 for none.
        groups: number of groups G.
        reduction: over pixels and views.

    Returns:
        Features [G, D], zeros for groups that no pixel shows, and which groups are shown, bool [G].
    """
    views, rows, columns, dim = tokens.shape
    view, y, x = np.nonzero(index >= 0)
    cell = (view * rows + y * rows // index.shape[1]) * columns + x * columns // index.shape[2]
    total = TokenSum(groups, dim, reduction, tokens)
    total.add(tokens.reshape(-1, dim), np.asarray(group)[index[view, y, x]], cell)
    return total.result()


def visible_points(
    camera: Camera, xyz: NDArray[np.floating], depth: NDArray[np.floating] | None = None, occlusion: Occlusion | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The points that a camera sees.

    Args:
        camera: with its pose in the frame of the points.
        xyz: [N, 3], metres; points that are not finite are not visible.
        depth: see :class:`PosedView`.
        occlusion: when a point counts as hidden.

    Returns:
        Rows of ``xyz``, int64 [k], ascending, and their pixel coordinates (u, v), float64 [k, 2].
    """
    occlusion = occlusion or Occlusion()
    pixels, far = camera.project(xyz)
    row = np.flatnonzero(camera.contains(pixels))
    pixels, far = pixels[row], far[row]
    if depth is not None:
        at = depth[tuple(_cells(camera, pixels, depth.shape))].astype(np.float64)
        known = at > 0  # false for NaN
        hidden = far > at + occlusion.absolute + occlusion.relative * at
        keep = np.where(known, ~hidden, occlusion.unknown)
        row, pixels = row[keep], pixels[keep]
    return row, pixels


def lift_views(
    xyz: NDArray[np.floating], views: Iterable[PosedView], reduction: Reduction = "mean", occlusion: Occlusion | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of points over the posed pictures in which they are visible; superpoints get theirs by :func:`pool_tokens`.

    Args:
        xyz: [N, 3], metres, in the frame of the cameras' poses.
        views: read once, one after the other.
        reduction: over the views.
        occlusion: when a point counts as hidden.

    Returns:
        Features [N, D], zeros for points that no view shows, and which points are shown, bool [N].

    Raises:
        InputError: no views, or their tokens have different numbers of channels.
    """
    total: TokenSum | None = None
    dim = 0
    for view in views:
        height, width, channels = view.tokens.shape
        if total is None:
            total, dim = TokenSum(len(xyz), channels, reduction, view.tokens), channels
        elif channels != dim:
            raise InputError(f"views: tokens of {channels} channels, expected {dim} as in the first view")
        row, pixels = visible_points(view.camera, xyz, view.depth, occlusion)
        v, u = _cells(view.camera, pixels, (height, width))
        total.add(view.tokens.reshape(-1, channels), row, v * width + u)
    if total is None:
        raise InputError("views: expected at least one")
    return total.result()


def pool_tokens(
    features: torch.Tensor, observed: torch.Tensor, group: NDArray[np.integer], groups: int, reduction: Reduction = "mean"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of groups (voxels, superpoints) from those of their points.

    Args:
        features: [N, D] of the points. observed: bool [N], points that have some.
        group: int [N], the group of each point, -1 for none.
        groups: number of groups G.
        reduction: over the points of a group.

    Returns:
        Features [G, D], zeros for groups without an observed point, and which groups have one, bool [G].
    """
    row = np.flatnonzero(observed.cpu().numpy())
    total = TokenSum(groups, features.shape[1], reduction, features)
    total.add(features, np.asarray(group)[row], row)
    return total.result()


def _cells(camera: Camera, pixels: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column, int64 [k], in a grid of ``shape`` (rows, columns) over the picture, of pixel coordinates inside it."""
    share = (pixels + 0.5) / camera.size
    u, v = np.floor(share * shape[::-1]).astype(np.int64).T
    return np.minimum(v, shape[0] - 1), np.minimum(u, shape[1] - 1)
