"""Descriptors and candidates: the same object finds itself, and each check refuses what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.geodesics import Geodesics
from geoseg_ros.geometry.meshes import Mesh
from geoseg_ros.methods.parts.descriptors import DescriptorConfig, describe, fuse, place_descriptors, unit_rows
from geoseg_ros.methods.parts.matching import MatchConfig, match, nearest


@pytest.fixture(scope="module")
def cone() -> Mesh:
    solid = trimesh.creation.cone(0.2, 0.6, sections=24).subdivide().subdivide()
    return Mesh(np.array(solid.vertices, np.float32), np.array(solid.faces, np.int64))


def test_fused_rows_are_the_weighted_mean_of_cosines():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(5, 3))
    joined = fuse([a, b], [2, 1])
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, rtol=1e-5)
    cosines = [unit_rows(v)[0] @ unit_rows(v)[1] for v in (a, b)]
    assert joined[0] @ joined[1] == pytest.approx((2 * cosines[0] + cosines[1]) / 3, abs=1e-6)


def test_places_fall_off_with_distance_and_forget_what_is_not_known(cone):
    points = cone.vertices
    full, gravity = place_descriptors(points), place_descriptors(points, "gravity")
    turned = points @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(place_descriptors(turned, "gravity"), gravity, atol=1e-3)
    edge = np.argsort(-points[:, 0])[0]
    across = np.argmin(np.linalg.norm(points - points[edge] * [-1, -1, 1], axis=1))
    assert full[edge] @ full[across] < 0.3 and gravity[edge] @ gravity[across] > 0.95


def test_a_object_finds_itself_as_mesh_and_as_cloud(cone, fake_backbone):
    config = DescriptorConfig(samples=4000, elevations=(20.0,), views=DescriptorConfig().views, frame="full")
    found = describe(cone, fake_backbone, config)
    assert found.dtype == np.float32 and len(found) == len(cone)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-4)
    np.testing.assert_array_equal(found, describe(cone, fake_backbone, config))
    best, score = nearest(found, describe(Cloud(cone.vertices), fake_backbone, config))
    assert np.median(np.linalg.norm(cone.vertices[best] - cone.vertices, axis=1)) < 0.06 and score.max() <= 1 + 1e-5


def test_nothing_to_describe_by(cone):
    with pytest.raises(InputError, match="weight 0"):
        describe(cone, None, DescriptorConfig(surface=0, frame="none"))
    with pytest.raises(InputError, match="4 finite points, got 2"):
        describe(Cloud(np.zeros((2, 3), np.float32)), None)


def test_each_check_refuses_its_own(cone):
    surface = Geodesics(cone, "dijkstra")
    own = place_descriptors(cone.vertices)
    every = match(own, own, query_xyz=cone.vertices, query_geodesics=surface, target_geodesics=surface)
    assert every.kept.all() and (every.source == every.target).all() and every.cycle.max() == every.geodesic.max() == 0
    plain = match(own, own, rows=np.array([4, 2]))
    assert plain.source.tolist() == [4, 2] and np.isnan(plain.cycle).all() and plain.kept.all()
    # one point of the target looks like row 4: all rows near it that go there come back to row 4
    rows = np.argsort(np.linalg.norm(cone.vertices - cone.vertices[4], axis=1))
    lonely = match(own, own[4:5], query_xyz=cone.vertices, config=MatchConfig(cycle=0.1))
    far = np.linalg.norm(cone.vertices - cone.vertices[4], axis=1) / cone.diagonal > 0.1
    assert (lonely.kept == ~far).all() and lonely.kept[rows[0]]
    # descriptors that the geodesic check uses say another place, on the other side
    other = place_descriptors(cone.vertices * np.array([-1, -1, 1], np.float32))
    checked = match(own, own, query_geodesics=surface, target_geodesics=surface, check=(own, other))
    side = np.linalg.norm(cone.vertices[:, :2], axis=1) > 0.15
    assert not checked.kept[side].any() and checked.kept[np.argmax(cone.vertices[:, 2])]
