"""Planes and oriented boxes of known shapes."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.boxes import oriented_box
from support.geometry_worlds import TABLE, camera_scene


def test_floor_and_walls_are_found_and_boxes_are_not() -> None:
    room = [TABLE, ((0, -1, 0), -1.0), ((1, 0, 0), -1.4), ((-1, 0, 0), -1.6)]
    boxes = [((-0.6, 0.7, 0.4), (0.8, 0.6, 0.8), 0.0), ((0.6, 0.5, 0.25), (0.5, 0.5, 0.5), 0.4)]
    cloud, surface = camera_scene((0, -2.0, 1.6), (0, 1.0, 0.5), boxes, room, noise=0.003)
    scene = analyse_cloud(cloud)
    plane = scene.point_values(scene.plane, -1)
    assert len(scene.planes) >= 2
    on_plane = plane >= 0
    assert on_plane[surface == 1].mean() > 0.9 and on_plane[surface == 2].mean() > 0.9  # floor, back wall
    assert on_plane[surface > len(room)].mean() < 0.06
    for i, found in enumerate(scene.planes):
        xyz = cloud.xyz[plane == i]
        assert np.abs(xyz @ found.normal - found.offset).max() < 3 * scene.voxel
        assert found.offset <= 0 and np.linalg.norm(found.normal) == pytest.approx(1)
        assert (found.mask == (scene.plane == i)).all()


def test_a_lone_box_is_not_eaten() -> None:
    cloud, _ = camera_scene((0, -0.8, 0.5), (0, 0, 0.1), [((0, 0, 0.1), (0.3, 0.2, 0.2), 0.5)], [], noise=0.001)
    scene = analyse_cloud(cloud)
    assert not scene.planes
    assert len(scene.proposals[0]) > 0.95 * len(scene.xyz)


def test_table_normal_and_height() -> None:
    cloud, _ = camera_scene((0, -1.0, 0.8), (0, 0, 0), [], [TABLE], noise=0.002)
    scene = analyse_cloud(cloud)
    assert len(scene.planes) == 1
    assert scene.planes[0].offset == pytest.approx(-0.8, abs=0.004)
    assert scene.planes[0].mask.mean() > 0.95


def corners(center: np.ndarray, rotation: np.ndarray, size: np.ndarray) -> np.ndarray:
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    return center + (signs * size / 2) @ rotation.T


def turn(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


@pytest.mark.parametrize("seed", range(6))
def test_upright_box_recovers_a_rotated_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation, size, centre = turn(seed), np.array([0.6, 0.3, 0.9]), rng.normal(size=3)
    points = np.r_[corners(centre, rotation, size), centre + (rng.uniform(-0.5, 0.5, (200, 3)) * size) @ rotation.T]
    found_centre, found_rotation, found_size = oriented_box(points, 5 * rotation[:, 2])
    np.testing.assert_allclose(found_centre, centre, atol=1e-9)
    np.testing.assert_allclose(found_size, size, atol=1e-9)
    np.testing.assert_allclose(found_rotation[:, 2], rotation[:, 2], atol=1e-9)
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->j", found_rotation, rotation)), 1, atol=1e-9)
    assert np.linalg.det(found_rotation) == pytest.approx(1)


@pytest.mark.parametrize("up", [None, (0, 0, 1), (0.1, -1, 0.2)])
def test_every_box_holds_its_points_and_is_right_handed(up: tuple[float, ...] | None) -> None:
    rng = np.random.default_rng(1)
    for points in (
        rng.normal(size=(50, 3)) * [3, 1, 0.2],
        np.ones((1, 3)),
        np.array([[0, 0, 0], [1, 2, 3.0]]),
        np.outer(np.arange(9.0), [1, 0, 1]),
    ):
        centre, rotation, size = oriented_box(points.astype(np.float32), up)
        local = (points - centre) @ rotation
        assert (np.abs(local) <= size / 2 + 1e-5).all()
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert size[0] >= size[1] - 1e-9


def test_principal_box_sizes_fall() -> None:
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (4000, 3)) * [0.2, 3, 1]
    _, rotation, size = oriented_box(points @ turn(3).T)
    np.testing.assert_allclose(size, [3, 1, 0.2], rtol=0.1)
    assert np.abs(rotation[:, 0] @ turn(3)[:, 1]) > 0.99


def test_box_of_nothing() -> None:
    with pytest.raises(ValueError, match="xyz"):
        oriented_box(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="up"):
        oriented_box(np.ones((4, 3)), (0, 0, 0))
