"""Clouds: proposals are drawn from virtual viewpoints, and what the backbone sees there is scored and carried back to points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.methods.contrast.references import Contrast, view_score
from geoseg_ros.projection.proposal_views import ProposalViews


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
