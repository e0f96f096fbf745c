"""Procedural shapes: points by area on the surfaces, repeatable, labelled by family."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines.shapes import SOURCE, ShapesConfig, make_shapes, pretraining_shapes, sample_surface, shape
from geoseg_ros.simulation.families import FURNITURE, NAMES
from geoseg_ros.simulation.solids import Builder


def build(add):
    b = Builder()
    add(b)
    return b.solids(1)


def sampled(add, count=4000):
    return sample_surface(build(add), count, np.random.default_rng(0))


def test_box_points_lie_on_its_faces_by_area():
    xyz, normal = sampled(lambda b: b.box(0, 0, (1, 2, 3), (2, 4, 6)))
    local = (xyz - [1, 2, 3]) / [1, 2, 3]
    np.testing.assert_allclose(np.abs(local).max(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((local * normal).sum(1), 1, atol=1e-5)
    share = (np.abs(normal) > 0.5).mean(axis=0)
    np.testing.assert_allclose(share, np.array([24, 12, 8]) / 44, atol=0.03)


def test_ellipsoid_points_are_uniform_by_area():
    xyz, normal = sampled(lambda b: b.ellipsoid(0, 0, (0, 0, 0), (1, 1, 0.2)), 20_000)
    np.testing.assert_allclose(((xyz / [1, 1, 0.2]) ** 2).sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    assert ((xyz * normal).sum(1) > 0).all()
    # the flat disc: a sphere's directions alone would put half of the points inside radius .87, areas put far more
    disc = np.hypot(xyz[:, 0], xyz[:, 1])
    radius = np.linspace(0, 1, 20_001)
    slope = np.sqrt(1 + (0.2 * radius[:-1]) ** 2 / np.maximum(1 - radius[:-1] ** 2, 1e-9))
    area = np.cumsum(radius[:-1] * slope)
    assert (disc < 0.6).mean() == pytest.approx(area[12_000] / area[-1], abs=0.02)


@pytest.mark.parametrize("top", [0.5, 0.2, 0.0])
def test_frustum_points_lie_on_side_and_caps(top):
    xyz, normal = sampled(lambda b: b.rod(0, 0, (0, 0, 0), (0, 0, 2), 0.5, top))
    radius = np.hypot(xyz[:, 0], xyz[:, 1])
    limit = 0.5 + (top - 0.5) * xyz[:, 2] / 2
    low, high = xyz[:, 2] < 1e-6, xyz[:, 2] > 2 - 1e-6
    side = ~low & ~high
    np.testing.assert_allclose(radius[side], limit[side], atol=1e-4)
    assert (radius <= limit + 1e-4).all()
    slope = np.hypot(0.5 - top, 2)
    areas = np.array([(0.5 + top) * slope, 0.25, top**2])
    np.testing.assert_allclose([side.mean(), low.mean(), high.mean()], areas / areas.sum(), atol=0.02)
    np.testing.assert_allclose(normal[side][:, 2], (0.5 - top) / slope, atol=1e-4)
    np.testing.assert_array_equal(normal[low], np.tile([0, 0, -1], (low.sum(), 1)))


def test_shapes_are_repeatable_and_of_their_family():
    xyz, normal = shape(3, 7, 100)
    again, _ = shape(3, 7, 100)
    np.testing.assert_array_equal(xyz, again)
    assert not np.array_equal(xyz, shape(3, 8, 100)[0]) and np.linalg.norm(xyz, axis=1).max() == pytest.approx(1, abs=1e-5)
    made = make_shapes(2, 50, 0)
    assert made.points.shape == made.normals.shape == (2 * len(NAMES), 50, 3)
    assert made.label.tolist() == [k // 2 for k in range(2 * len(NAMES))] and made.classes == len(NAMES) and made.source == SOURCE
    solids = FURNITURE.solids("table", 1)
    low, high = solids.bounds()
    inside = sample_surface(solids, 500, np.random.default_rng(1))[0]
    assert (inside >= low - 1e-4).all() and (inside <= high + 1e-4).all()


def test_held_out_shapes_are_other_instances():
    shapes, held_out = pretraining_shapes(ShapesConfig(2, 1, 20))
    assert len(shapes.label) == 2 * len(NAMES) and len(held_out.label) == len(NAMES)
    assert not any((shapes.points == one).all((1, 2)).any() for one in held_out.points)
