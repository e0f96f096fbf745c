"""What an image backbone sees of points: tokens of virtual views, carried back to the points they show.

Points and patches of photographs are then vectors of one space before anything is trained, which features of coordinates are not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.geofree.inputs import PreparedCloud, comparable, prepare_cloud
from geoseg_ros.projection.lifting import lift_tokens
from geoseg_ros.projection.proposal_views import ProposalViews

LEAST_IN_GROUP = 3  # points of which a mean score says something


def seen_voxels(scene: SceneGeometry, views: ProposalViews) -> NDArray[np.float32]:
    """Mean token of every voxel over the drawings that show it, float32 [M, D] of mean square 1; NaN where none does.

    Of a coloured cloud what is drawn in colour counts.
    """
    count = views.grid[0] // 2 if views.domain is Domain.COLOUR else views.grid[0]
    tokens = views.tokens.unflatten(1, views.grid)[:, :count].flatten(0, 1)
    index = views.index[:, :count].reshape(-1, *views.index.shape[2:])
    features, seen = lift_tokens(tokens, index, np.arange(len(scene.xyz)), len(scene.xyz))
    result = comparable(features, None).numpy().astype(np.float32)
    result[~seen.numpy()] = np.nan
    return result


def prepare_seen(cloud: Cloud, scene: SceneGeometry, views: ProposalViews | None, count: int) -> PreparedCloud:
    """The points of a cloud's proposals, ``count`` of them with what views show of them; all other points are background.

    Raises:
        InputError: no proposals, or fewer than 32 points in them.
    """
    if views is None:
        raise InputError("cloud: expected proposals, found none")
    inside = np.zeros(len(scene.xyz), bool)
    for proposal in scene.proposals:
        inside[proposal] = True
    xyz = np.where(scene.point_values(inside)[:, None], cloud.xyz, np.float32(np.nan))
    made = prepare_cloud(xyz, count, scene.point_values(seen_voxels(scene, views), np.nan))
    voxel = scene.inverse[made.index]
    groups = np.stack([np.isin(voxel, proposal) for proposal in scene.proposals])
    return replace(made, groups=groups[groups.sum(1) >= LEAST_IN_GROUP])
