"""Clouds only, no network: superpoints by their shape and colour in groups (the descriptor of GrowSP, CVPR 2023, without its network), and
the groups that recur in the clouds of the concept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tokens import groups
from geoseg_ros.evaluate.items import CosegSet, Prediction, Predictions
from geoseg_ros.evaluate.trivial import geometry, point_mask
from geoseg_ros.geometry.analysis import SceneGeometry

GROUPS, PER_GROUP = 24, 6  # at most so many groups, and on average at least so many superpoints in each
COLOUR, SHAPE = 3.0, 3.0  # weights of GrowSP
BINS = 10
PAIRED = 48  # voxels of a superpoint whose normals are compared
LEAST = 20  # voxels of a superpoint that counts as seen
NEAR_BEST = 0.5  # groups with at least this share of the best score are the target


def descriptors(scene: SceneGeometry) -> NDArray[np.float64]:
    """[S, 13] of the superpoints: 3 x mean colour (0 without colour), 3 x histogram of the normals' pairwise cosines."""
    count = int(scene.superpoint.max(initial=-1)) + 1
    result = np.zeros((count, 3 + BINS))
    order = np.argsort(scene.superpoint, kind="stable")
    ends = np.cumsum(np.bincount(scene.superpoint, minlength=count))[:-1]
    for i, members in enumerate(np.split(order, ends)):
        if scene.rgb is not None and len(members):
            result[i, :3] = COLOUR * scene.rgb[members].mean(axis=0) / 255
        some = scene.normal[members[:: max(1, len(members) // PAIRED)]]
        cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
        if len(cosines):
            result[i, 3:] = SHAPE * np.histogram(np.clip(cosines, -1, 1), BINS, (-1, 1))[0] / len(cosines)
    return result


def recurring(own: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]], flat: NDArray[np.float64]) -> NDArray[np.int64]:
    """The groups that are the target: share of own clouds that hold a group, minus that of the other clouds, minus how flat it is.

    Args:
        own, other: per cloud the number of its voxels in each group [G]. flat: [G], share of each group's voxels that lie on planes.
    """
    score = np.mean([counts >= LEAST for counts in own], axis=0) - flat
    if other:
        score = score - np.mean([counts >= LEAST for counts in other], axis=0)
    best = score.max()
    return np.flatnonzero(score >= NEAR_BEST * best) if best > 0 else np.array([score.argmax()])


def superpoint_groups(items: CosegSet, seed: int) -> Predictions:
    """k-means of superpoints over the clouds of the concept and those without it (and of rivals). Measured superpoints join the group of
    their nearest mean. Sets without clouds of the concept give no prediction."""
    if not items.own.clouds or not items.clouds:
        return Predictions()
    without = [*items.own.without_clouds, *(c for rival in items.rivals for c in rival.clouds)]
    own = [geometry(cloud) for cloud in items.own.clouds]
    other = [geometry(cloud) for cloud in {id(c): c for c in without}.values()]
    described = [descriptors(scene) for scene in (*own, *other)]
    values = np.concatenate(described)
    group = groups(values, max(2, min(GROUPS, len(values) // PER_GROUP)), seed)
    count = int(group.max()) + 1
    size = np.maximum(np.bincount(group, minlength=count), 1)
    means = np.stack([np.bincount(group, column, count) for column in values.T], axis=1) / size[:, None]
    members = np.split(group, np.cumsum([len(d) for d in described])[:-1])
    voxels = [np.bincount(of[s.superpoint], minlength=count).astype(np.float64) for s, of in zip((*own, *other), members, strict=True)]
    on_plane = [np.bincount(of[s.superpoint], s.plane >= 0, count) for s, of in zip((*own, *other), members, strict=True)]
    flat = np.sum(on_plane, axis=0) / np.maximum(np.sum(voxels, axis=0), 1)
    chosen = recurring(voxels[: len(own)], voxels[len(own) :], flat)
    predictions = []
    for item in items.clouds:
        scene = geometry(item.data)
        distance = ((descriptors(scene)[:, None] - means[None]) ** 2).sum(axis=2)
        wanted = np.isin(distance.argmin(axis=1), chosen)
        predictions.append(Prediction(point_mask(scene, wanted[scene.superpoint])))
    return Predictions(clouds=predictions)
