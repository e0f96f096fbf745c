"""Evidence for the proposals and voxels of a cloud, from the tokens of the proposals' views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.proposals import membership
from geoseg_ros.methods.contrast.references import Contrast, view_score
from geoseg_ros.projection.proposal_views import ProposalViews

_TOUCHING = 0.1  # share of a proposal in better ones, above which it overlaps them
_WITHIN = 0.9  # share of a proposal in the rest of another, above which it is one of the rest


@dataclass(frozen=True)
class CloudEvidence:
    """Evidence of C concepts in one cloud.

    Attributes:
        proposal: float32 [C, P], the score of each proposal.
        voxel: float32 [C, M], that of the best proposal that contains the voxel, -inf where none does.
        tries: number of proposals that do not overlap, the independent candidates of the cloud.
        distinct: per concept, the proposals that do not overlap with better ones, best first.
    """

    proposal: NDArray[np.float32]
    voxel: NDArray[np.float32]
    tries: int
    distinct: list[NDArray[np.int64]]


def cloud_evidence(
    scene: SceneGeometry, views: ProposalViews, contrast: Contrast, further: NDArray[np.floating] | None = None
) -> CloudEvidence:
    """Evidence of each concept for proposals and voxels.

    Args:
        scene: P proposals, which may contain one another (a cluster, its parts, two clusters with a gap), and M voxels.
        views: of the proposals, with unit tokens.
        contrast: the C concepts.
        further: evidence [C, P] that is added to that of the views.
    """
    seen = view_score(contrast.view(views.tokens, views.domain, used=views.weight > 0), views.weight)
    score = (seen + contrast.size(views.size)).numpy()  # [C, P]
    if further is not None:
        score = (score + further).astype(np.float32)
    voxel = voxel_evidence(scene.proposals, score, len(scene.xyz))
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


def voxel_evidence(proposals: Sequence[NDArray[np.int64]], score: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Evidence for voxels from that for the proposals that hold them.

    A voxel takes the best score of the proposals that contain it. Where a proposal overlaps a better one (the target and an object that
    touches it), its remaining voxels take the scores of proposals that lie within this remainder, if there are any.

    Args:
        proposals: P sets of voxel indices.
        score: float32 [C, P].
        count: number of voxels M.

    Returns:
        float32 [C, M], -inf where no proposal contains the voxel.
    """
    member = membership(proposals, count)
    size = member.sum(1)
    evidence = np.full((len(score), count), -np.inf, np.float32)
    for own, values in zip(evidence, score, strict=True):
        free = np.ones(count, np.float32)
        order = np.argsort(-values, kind="stable")
        for rank, best in enumerate(order, 1):
            rest = member[best] * free
            if rest.sum() < (1 - _TOUCHING) * size[best]:
                later = order[rank:]
                within = later[member[later] @ rest > _WITHIN * size[later]]
                rest *= 1 - member[within].max(0, initial=0)
            chosen = rest > 0
            own[chosen], free[chosen] = values[best], 0
    return evidence


def proposals_of_mask(scene: SceneGeometry, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The proposals that together agree best with a mask: they are added in the order of their own agreement as long as that helps.

    A mask ends at the borders of colours and spills over those of objects; proposals end where the geometry does.

    Args:
        mask: bool [N], the points of the cloud.

    Returns:
        bool [M], voxels; all False where no proposal meets the mask.
    """
    count = len(scene.xyz)
    has = scene.inverse >= 0
    points = np.bincount(scene.inverse[has], minlength=count)
    hits = np.bincount(scene.inverse[has & mask], minlength=count)
    total = int(hits.sum())

    def agreement(voxels: NDArray[np.int64] | NDArray[np.bool_]) -> float:  # Dice
        return 2 * int(hits[voxels].sum()) / max(int(points[voxels].sum()) + total, 1)

    alone = [agreement(members) for members in scene.proposals]
    chosen, best = np.zeros(count, bool), 0.0
    for p in np.argsort([-value for value in alone], kind="stable"):
        if not alone[p]:
            break
        more = chosen.copy()
        more[scene.proposals[p]] = True
        if (value := agreement(more)) > best:
            chosen, best = more, value
    return chosen
