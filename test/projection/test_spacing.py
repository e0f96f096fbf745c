"""Spacing of points, against the same measure by a tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from geoseg_ros.projection.spacing import bounds, point_spacing


def by_tree(xyz, normal, samples=256):
    """Median, over samples, of the third smallest distance to the nearest neighbour in each of four sectors."""
    chosen = np.linspace(0, len(xyz) - 1, min(samples, len(xyz))).astype(np.int64)
    distance, near = cKDTree(xyz).query(xyz[chosen], min(33, len(xyz)))
    third = []
    for row, others, far, n in zip(chosen, near, distance, normal[chosen], strict=True):
        others, far = others[others != row], far[others != row]
        offset = xyz[others] - xyz[row]
        u = offset[0] - offset[0] @ n * n
        v = np.cross(n, u)
        sector = np.floor(np.arctan2(offset @ v, offset @ u) / (np.pi / 2) + 0.5).astype(int) % 4
        third.append(sorted(min(far[(sector == s) & (far > 0)], default=np.inf) for s in range(4))[2])
    third = np.array(third)
    return np.median(third[np.isfinite(third)]) if np.isfinite(third).any() else np.median(distance[:, -1])


@given(st.integers(0, 2**32 - 1), st.integers(40, 3000), st.floats(1, 30), st.floats(0, 0.02), st.floats(-1e4, 1e4))
@settings(max_examples=40, deadline=None)
def test_the_grid_finds_what_a_tree_finds(seed, count, stretch, noise, away):
    """Sheets of any aspect ratio, also far away, and with a point far off."""
    rng = np.random.default_rng(seed)
    xyz = rng.random((count, 3)) * [stretch, 1, 0] + rng.normal(0, noise, (count, 3)) + away
    xyz[0] += rng.choice([0.0, 100.0])
    normal = np.tile([0, 0, 1.0], (count, 1))
    assert point_spacing(xyz, normal) == pytest.approx(by_tree(xyz, normal), rel=1e-6)


def test_balls_and_equal_points():
    rng = np.random.default_rng(0)
    normal = rng.normal(0, 1, (5000, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert point_spacing(3 + normal, normal) == pytest.approx(by_tree(3 + normal, normal), rel=1e-6)
    assert point_spacing(np.ones((50, 3)), normal[:50]) == 0
    assert [point_spacing(normal[:n], normal[:n]) for n in (1, 3)] == [0, 0] and point_spacing(normal[:4], normal[:4]) > 0
    assert np.isfinite(point_spacing(normal, np.zeros_like(normal))), "normals that are not known"


def test_bounds_along_turned_axes():
    rng = np.random.default_rng(1)
    xyz, axes = rng.normal(0, 1, (100, 3)), np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
    low, high = bounds(xyz, axes)
    np.testing.assert_allclose([low, high], [(xyz @ axes.T).min(0), (xyz @ axes.T).max(0)], atol=1e-12)
