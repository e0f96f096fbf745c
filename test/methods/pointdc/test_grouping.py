"""Spectral groups and growth of super-voxels."""

from __future__ import annotations

import numpy as np

from geoseg_ros.learning.clustering import kmeans
from geoseg_ros.methods.pointdc.grouping import grown, spectral_embedding
from support.bundles import bundles, same_partition


def test_spectral_groups_separate_what_features_separate() -> None:
    rows, truth = bundles(4, spread=0.2)
    embedding = spectral_embedding(rows / np.linalg.norm(rows, axis=1, keepdims=True), 5)
    assert embedding.shape == (240, 5)
    label = kmeans(embedding, 4, spherical=False).label
    together = (label[:, None] == label) == (truth[:, None] == truth)
    assert together.mean() > 0.98


def test_growth_merges_what_is_alike_and_near() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 10)
    feature = np.eye(8)[truth] + 0.05 * rng.normal(size=(30, 8))
    xyz, normal = rng.normal(0, 0.1, (30, 3)), np.tile([0.0, 0.0, 1.0], (30, 1))
    merged = grown(feature, np.full((30, 3), 0.5), xyz, normal, np.ones(30), 3)
    assert same_partition(merged, truth) and merged[0] == 0 and merged.max() == 2
    assert same_partition(grown(feature, None, xyz, normal, np.ones(30), 3), truth)
