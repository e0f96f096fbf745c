"""Clouds: proposals are drawn from virtual viewpoints, and what the backbone sees there is scored and carried back to points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geoseg_ros.coseg.references import Contrast, view_score
from geoseg_ros.coseg.tokens import Domain, unit, view_tokens
from geoseg_ros.features.backbone import ImageBackbone
from geoseg_ros.features.views import ViewConfig, paint_views, see_points
from geoseg_ros.geometry.boxes import oriented_box
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.scene import SceneGeometry


@dataclass(frozen=True)
class ProposalViews:
    """What the backbone sees of the P proposals of one cloud, V views each.

    Attributes:
        domain: COLOUR: V / 2 views in colour, then the same V / 2 shaded; SHADED: V shaded views.
        tokens: [P, V * h * w, D] float32, unit, the bank's mean removed.
        weight: [P, V * h * w], share of each token's pixels that show the proposal; 0 below one half, unless no token reaches that.
        size: [P, 3], height, length and width of the upright boxes around the proposals, metres.
        index: int32 [P, V, S, S], the voxel seen at each pixel, -1 = none.
        grid: (V, h, w).
    """

    domain: Domain
    tokens: torch.Tensor
    weight: torch.Tensor
    size: torch.Tensor
    index: NDArray[np.int32]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class DrawnProposals:
    """What is kept of n proposals. Attributes: tokens [n, t, D] of their views, of a coloured cloud first those in colour, then as many
    shaded; size [n, 3], see :class:`ProposalViews`."""

    tokens: torch.Tensor
    size: torch.Tensor

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, rows: torch.Tensor | slice) -> DrawnProposals:
        return DrawnProposals(self.tokens[rows], self.size[rows])

    def first(self, count: int) -> DrawnProposals:
        """The same with the first ``count`` tokens of each."""
        return DrawnProposals(self.tokens[:, :count], self.size)

    def shaded(self) -> DrawnProposals:
        """Of a coloured cloud: as if it had no colour."""
        return DrawnProposals(self.tokens[:, self.tokens.shape[1] // 2 :], self.size)

    @classmethod
    def join(cls, parts: Sequence[DrawnProposals], tokens: int, dim: int) -> DrawnProposals:
        """All rows of ``parts``, each [., tokens, dim]."""
        nothing = cls(torch.zeros(0, tokens, dim), torch.zeros(0, 3))
        parts = [nothing, *parts]
        return cls(torch.cat([p.tokens for p in parts]), torch.cat([p.size for p in parts]))


def upright(scene: SceneGeometry) -> NDArray[np.float64]:
    """[3], the direction that is up: the normal of the largest plane that lies within 60 degrees of +z (body frames, REP 103) or of -y
    (camera optical frames), whichever is nearer; +z without one."""
    best, up = 0, np.array([0.0, 0.0, 1.0])
    for plane in scene.planes:
        normal = plane.normal / np.linalg.norm(plane.normal)
        for axis in (np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])):
            along = float(normal @ axis)
            size = int(np.count_nonzero(plane.mask))
            # a wall seen head-on by a camera faces -z; it is not a floor, which lies mostly below the sensor
            if abs(along) > 0.5 and size > best:
                direction = normal * np.sign(along)
                below = float(np.median(scene.xyz[plane.mask] @ direction)) < 0
                if below:
                    best, up = size, direction
    return up


def look_at_proposals(
    cloud: Cloud, scene: SceneGeometry, backbone: ImageBackbone, mean: torch.Tensor, config: ViewConfig
) -> ProposalViews | None:
    """Draw every proposal from ``config.views`` viewpoints around the sensor's own (the origin of the cloud's frame), and read the tokens.

    The full-resolution points are drawn, not the voxels. None where the scene has no proposals.
    """
    if not scene.proposals:
        return None
    domain = Domain.COLOUR if cloud.rgb is not None and config.colour else Domain.SHADED
    order = np.argsort(scene.inverse, kind="stable")
    start = np.searchsorted(scene.inverse[order], np.arange(len(scene.xyz) + 1))
    up = upright(scene)
    images, index, size = [], [], []
    for voxels in scene.proposals:
        length, width, height = oriented_box(scene.xyz[voxels], up)[2]
        size.append((height, length, width))
        points = np.concatenate([order[start[v] : start[v + 1]] for v in voxels])
        voxel = scene.inverse[points]
        normal = scene.normal[voxel]
        seen, frames = see_points(cloud.xyz[points], normal, np.zeros(3), config, up)
        shown = np.where(seen >= 0, voxel.astype(np.int32)[seen], np.int32(-1))
        for rgb in (cloud.rgb[points], None) if domain is Domain.COLOUR and cloud.rgb is not None else (None,):
            images.append(paint_views(seen, frames, rgb, normal, config))
            index.append(shown)
    count, side = len(scene.proposals), config.size
    all_index = np.concatenate(index)
    tokens, coverage = view_tokens(backbone, np.concatenate(images), all_index)
    grid = (len(all_index) // count, tokens.shape[1], tokens.shape[2])
    coverage = coverage.reshape(count, -1)
    weight = torch.where(coverage >= 0.5, coverage, 0.0)
    weight = torch.where(weight.amax(1, keepdim=True) > 0, weight, coverage)  # thin things fill no token
    tokens = unit(tokens, mean).reshape(count, weight.shape[1], -1)
    sizes = torch.tensor(size, dtype=torch.float32)
    return ProposalViews(domain, tokens, weight, sizes, all_index.reshape(count, -1, side, side), grid)


@dataclass(frozen=True)
class CloudEvidence:
    """Attributes:
    proposal: [C, P], the score of each proposal.
    voxel: [C, M], that of the best proposal that holds the voxel, -inf where none does.
    tries: number of proposals that do not overlap, the independent candidates of the cloud.
    distinct: per concept the proposals, best first, that do not overlap with better ones.
    """

    proposal: NDArray[np.float32]
    voxel: NDArray[np.float32]
    tries: int
    distinct: list[NDArray[np.int64]]


def cloud_evidence(scene: SceneGeometry, views: ProposalViews, contrast: Contrast) -> CloudEvidence:
    """Evidence of each concept for proposals and voxels.

    Proposals contain one another (a cluster, its parts, two clusters with a gap). A thing is best seen in the proposal that fits it, so
    each voxel takes, for each concept, the best score of the proposals that hold it.
    """
    seen = view_score(contrast.view(views.tokens, views.domain, used=views.weight > 0), views.weight)
    score = (seen + contrast.size(views.size)).numpy()  # [C, P]
    voxel = np.full((len(score), len(scene.xyz)), -np.inf, np.float32)
    for p, members in enumerate(scene.proposals):
        voxel[:, members] = np.maximum(voxel[:, members], score[:, p, None])
    largest_first = np.arange(len(scene.proposals))
    best_first = [_apart(scene, order) for order in np.argsort(-score, axis=1, kind="stable")]
    return CloudEvidence(score, voxel, len(_apart(scene, largest_first)), best_first)


def _apart(scene: SceneGeometry, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The proposals, in this order, that lie by less than one half in those before them."""
    covered = np.zeros(len(scene.xyz), bool)
    result = []
    for p in order:
        members = scene.proposals[p]
        if covered[members].mean() < 0.5:
            result.append(p)
        covered[members] = True
    return np.array(result, np.int64)


def instances(xyz: NDArray[np.float32], members: NDArray[np.int64], radius: float, least: int) -> list[NDArray[np.int64]]:
    """Connected parts of the chosen voxels (Euclidean, ``radius`` metres), largest first, those below ``least`` voxels dropped."""
    if len(members) == 0:
        return []
    pairs = cKDTree(xyz[members]).query_pairs(radius, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(members),) * 2)
    _, part = connected_components(graph, directed=False)
    sizes = np.bincount(part)
    order = sorted(np.flatnonzero(sizes >= least), key=lambda i: (-sizes[i], i))
    return [members[part == i] for i in order]


def keep_proposals(views: ProposalViews, count: int) -> DrawnProposals:
    """``count`` covered tokens of each proposal, evenly spread and repeated where there are fewer; of a coloured cloud twice as many."""
    parts = 2 if views.domain is Domain.COLOUR else 1
    result = []
    for tokens, weight in zip(views.tokens.chunk(parts, 1), views.weight.chunk(parts, 1), strict=True):
        rows = [torch.nonzero(w > 0).flatten() for w in weight]
        result.append(torch.stack([t[r[torch.arange(count) * len(r) // count]] for t, r in zip(tokens, rows, strict=True)]))
    return DrawnProposals(torch.cat(result, 1), views.size)
