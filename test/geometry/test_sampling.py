"""Farthest points and the unit sphere."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.geometry.sampling import farthest_points, unit_sphere


def slow_farthest(xyz, count):
    """The definition, one point at a time."""
    xyz = xyz.astype(np.float64)
    taken = [int(np.argmax(((xyz - xyz.mean(0)) ** 2).sum(1)))]
    while len(taken) < count:
        distance = np.min([((xyz - xyz[t]) ** 2).sum(1) for t in taken], axis=0)
        distance[taken] = -1
        taken.append(int(np.argmax(distance)))
    return taken


def test_equals_the_definition_and_prefixes_agree():
    xyz = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    index = farthest_points(xyz, 40)
    assert index.tolist() == slow_farthest(xyz, 40)
    np.testing.assert_array_equal(farthest_points(xyz, 15), index[:15])


def test_covers_better_than_chance():
    rng = np.random.default_rng(1)
    xyz = np.concatenate([rng.normal(0, 0.01, (1000, 3)), rng.normal(0, 1, (30, 3))]).astype(np.float32)

    def worst(index):
        return max(np.min(((xyz[index] - p) ** 2).sum(1)) for p in xyz)

    assert worst(farthest_points(xyz, 30)) < 0.5 * worst(rng.choice(len(xyz), 30, replace=False))


def test_every_point_once_then_again():
    xyz = np.zeros((4, 3), np.float32)  # all in one place
    assert sorted(farthest_points(xyz, 4).tolist()) == [0, 1, 2, 3]
    few = farthest_points(np.eye(3, dtype=np.float32), 7)
    assert sorted(few[:3].tolist()) == [0, 1, 2] and few[3:6].tolist() == few[:3].tolist()
    with pytest.raises(ValueError, match="at least one point"):
        farthest_points(np.zeros((0, 3), np.float32), 1)


def test_unit_sphere_can_be_undone():
    xyz = (np.random.default_rng(2).normal(size=(100, 3)) * 5 + 1000).astype(np.float32)
    unit, centre, scale = unit_sphere(xyz)
    assert unit.dtype == np.float32 and np.linalg.norm(unit, axis=1).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(unit * scale + centre, xyz, atol=1e-3)
    np.testing.assert_array_equal(unit_sphere(np.ones((3, 3), np.float32))[0], 0)
