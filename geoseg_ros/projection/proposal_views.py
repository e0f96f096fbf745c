"""Views of the object proposals of a cloud, drawn from virtual viewpoints around the sensor, and their backbone tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain, token_coverage, unit, view_tokens
from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.boxes import oriented_box
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views


@dataclass(frozen=True)
class ProposalViews:
    """Tokens of the P proposals of one cloud, V views each.

    Attributes:
        domain: COLOUR: V / 2 views in colour, then the same V / 2 shaded; SHADED: V shaded views.
        tokens: float32 [P, V * h * w, D], the output of the backbone; see :meth:`unit`.
        weight: [P, V * h * w], share of each token's pixels that show the proposal; 0 below one half, unless no token reaches that.
        size: [P, 3], height, length and width of the upright boxes around the proposals, metres.
        index: int32 [P, V, S, S], the voxel shown at each pixel, -1 = none.
        grid: (V, h, w).
    """

    domain: Domain
    tokens: torch.Tensor
    weight: torch.Tensor
    size: torch.Tensor
    index: NDArray[np.int32]
    grid: tuple[int, int, int]

    def unit(self, mean: torch.Tensor) -> ProposalViews:
        """A copy whose tokens have ``mean`` [D] subtracted and are scaled to unit length."""
        return replace(self, tokens=unit(self.tokens, mean))


@dataclass(frozen=True)
class DrawnProposals:
    """A bounded number of tokens of n proposals.

    Attributes:
        tokens: [n, t, D], of their views; of a coloured cloud first those in colour, then as many shaded ones.
        size: [n, 3], metres, see :class:`ProposalViews`.
    """

    tokens: torch.Tensor
    size: torch.Tensor

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, rows: torch.Tensor | slice) -> DrawnProposals:
        return DrawnProposals(self.tokens[rows], self.size[rows])

    def first(self, count: int) -> DrawnProposals:
        """A copy with the first ``count`` tokens of each proposal."""
        return DrawnProposals(self.tokens[:, :count], self.size)

    def shaded(self) -> DrawnProposals:
        """The shaded half of the tokens of a coloured cloud."""
        return DrawnProposals(self.tokens[:, self.tokens.shape[1] // 2 :], self.size)

    @classmethod
    def join(cls, parts: Sequence[DrawnProposals], tokens: int, dim: int) -> DrawnProposals:
        """All rows of ``parts``, each [., tokens, dim]."""
        nothing = cls(torch.zeros(0, tokens, dim), torch.zeros(0, 3))
        parts = [nothing, *parts]
        return cls(torch.cat([p.tokens for p in parts]), torch.cat([p.size for p in parts]))


def look_at_proposals(cloud: Cloud, scene: SceneGeometry, backbone: ImageBackbone, config: ViewConfig) -> ProposalViews | None:
    """Draw every proposal from ``config.views`` viewpoints around the sensor, and compute the tokens of the views.

    The full-resolution points are drawn, not the voxels.

    Args:
        cloud: with the sensor at the origin of its frame.
        scene: the analysis of ``cloud``.
        backbone: the image backbone.
        config: settings of views.

    Returns:
        The tokens; None where the scene has no proposals.
    """
    if not scene.proposals:
        return None
    size: list[tuple[float, float, float]] = []
    index: list[NDArray[np.int32]] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for drawn in draw_proposals(cloud, scene, config):
            size.append(drawn.size)
            for part in drawn.pictures:
                index.append(drawn.voxel)
                yield part

    tokens = view_tokens(backbone, pictures())
    all_index = np.concatenate(index)
    count, side, grid = len(scene.proposals), config.size, (tokens.shape[1], tokens.shape[2])
    coverage = token_coverage(all_index, grid).reshape(count, -1)
    weight = torch.where(coverage >= 0.5, coverage, 0.0)
    weight = torch.where(weight.amax(1, keepdim=True) > 0, weight, coverage)  # thin objects cover less than half of every token
    tokens = tokens.reshape(count, weight.shape[1], -1)
    sizes = torch.tensor(size, dtype=torch.float32)
    return ProposalViews(
        _domain(cloud, config), tokens, weight, sizes, all_index.reshape(count, -1, side, side), (len(all_index) // count, *grid)
    )


class Drawing(NamedTuple):
    """Views of one proposal.

    Attributes:
        size: height, length and width of the upright box around it, metres.
        voxel: int32 [V, S, S], the voxel shown at each pixel, -1 = none.
        pictures: uint8 RGB [V, S, S, 3]: shaded; of a coloured cloud first in colour, then shaded.
    """

    size: tuple[float, float, float]
    voxel: NDArray[np.int32]
    pictures: list[NDArray[np.uint8]]


def draw_proposals(cloud: Cloud, scene: SceneGeometry, config: ViewConfig) -> Iterator[Drawing]:
    """Draw the full-resolution points of every proposal, see :func:`look_at_proposals`."""
    members = _points_by_voxel(scene.inverse, len(scene.xyz))
    for voxels in scene.proposals:
        length, width, height = oriented_box(scene.xyz[voxels], scene.up)[2]
        points = _members_of(voxels, *members)
        voxel = scene.inverse[points]
        normal = scene.normal[voxel]
        views = draw_views(cloud.xyz[points], normal, np.zeros(3), config, scene.up)
        point = index_of(views)
        shown = np.where(point >= 0, voxel.astype(np.int32)[point], np.int32(-1))
        colours = [None] if cloud.rgb is None or _domain(cloud, config) is Domain.SHADED else [cloud.rgb[points], None]
        yield Drawing((height, length, width), shown, [paint_views(views, rgb, normal, config) for rgb in colours])


def _domain(cloud: Cloud, config: ViewConfig) -> Domain:
    return Domain.COLOUR if cloud.rgb is not None and config.colour else Domain.SHADED


def keep_proposals(views: ProposalViews, count: int) -> DrawnProposals:
    """Keep ``count`` covered tokens of each proposal, evenly spread, repeated where there are fewer; twice as many of coloured clouds."""
    parts = 2 if views.domain is Domain.COLOUR else 1
    result = []
    for tokens, weight in zip(views.tokens.chunk(parts, 1), views.weight.chunk(parts, 1), strict=True):
        rows = [torch.nonzero(w > 0).flatten() for w in weight]
        result.append(torch.stack([t[r[torch.arange(count) * len(r) // count]] for t, r in zip(tokens, rows, strict=True)]))
    return DrawnProposals(torch.cat(result, 1), views.size)


@compiled
def _points_by_voxel(inverse, count):  # type: ignore[no-untyped-def]
    """The points of every voxel: rows int64, voxel by voxel and ascending in each, and where each of the ``count`` voxels starts.

    Args:
        inverse: int64 [N], voxel of each point, -1 for none.
    """
    start = np.zeros(count + 1, np.int64)
    for voxel in inverse:
        if voxel >= 0:
            start[voxel + 1] += 1
    for voxel in range(count):
        start[voxel + 1] += start[voxel]
    rows, filled = np.empty(start[count], np.int64), start.copy()
    for i in range(len(inverse)):
        voxel = inverse[i]
        if voxel >= 0:
            rows[filled[voxel]] = i
            filled[voxel] += 1
    return rows, start


def _members_of(voxels: NDArray[np.int64], rows: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """The points of some voxels, voxel by voxel."""
    size = start[voxels + 1] - start[voxels]
    skipped = start[voxels] - (np.cumsum(size) - size)
    return rows[np.arange(size.sum()) + np.repeat(skipped, size)]
