"""Cameras: projection, what is behind them, and which poses and intrinsics are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.poses import rigid
from geoseg_ros.projection.cameras import (
    OrthographicCamera,
    PerspectiveCamera,
    camera_matrix,
    camera_pose,
    view_rotation,
)

KINDS = (PerspectiveCamera, OrthographicCamera)
MATRIX = np.array([[520.0, 1.5, 318.2], [0, 515, 241.7], [0, 0, 1]])


def numbers(low, high):
    return st.floats(low, high, allow_nan=False)


@st.composite
def cameras(draw):
    turn = Rotation.from_rotvec([draw(numbers(-3, 3)) for _ in range(3)]).as_matrix()
    position = np.array([draw(numbers(-100, 100)) for _ in range(3)])
    matrix = np.array(
        [[draw(numbers(50, 2000)), draw(numbers(-5, 5)), draw(numbers(0, 640))], [0, draw(numbers(50, 2000)), 240], [0, 0, 1]]
    )
    return draw(st.sampled_from(KINDS))(camera_pose(turn, position), matrix, (640, 480))


@given(cameras(), numbers(-50, 700), numbers(-50, 500), numbers(0.05, 50))
@settings(max_examples=200, deadline=None)
def test_points_on_the_ray_of_a_pixel_project_to_it(camera, u, v, depth):
    ray = np.linalg.solve(camera.intrinsics, [u, v, 1])
    offset = ray * depth if camera.perspective else ray * [1, 1, 0] + [0, 0, depth]
    pixels, found = camera.project(camera.position + camera.rotation.T @ offset)
    np.testing.assert_allclose(pixels, [u, v], atol=1e-5)
    np.testing.assert_allclose(found, depth, atol=1e-8)


@given(cameras(), st.lists(numbers(-1e6, 1e6), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_what_is_behind_lies_in_no_image(camera, offset):
    point = camera.position + offset - camera.rotation[2] * (abs(camera.rotation[2] @ offset) + camera.rotation[2] @ offset + 1e-3)
    pixels, depth = camera.project(point)
    assert depth < 0 and np.isnan(pixels).all() and not camera.contains(pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_projection_by_hand(kind):
    camera = kind(camera_pose(np.eye(3), np.array([0, 0, -1.0])), camera_matrix(100, (32, 24)), (64, 48))
    pixels, depth = camera.project([[0, 0, 1], [0.2, -0.1, 1], [0, 0, -3], [np.nan, 0, 1]])
    assert depth[:3].tolist() == [2, 2, -2]
    np.testing.assert_allclose(pixels[:2], [[32, 24], [42, 19] if camera.perspective else [52, 14]])
    assert camera.contains(pixels).tolist() == [True, True, False, False]
    assert camera.pixel_size(2.0) == pytest.approx(0.02 if camera.perspective else 0.01)
    assert camera.contains([[-0.5, -0.5], [-0.51, 0], [63.4, 47.4], [63.5, 0]]).tolist() == [True, False, True, False]


def test_upright_stays_upright():
    for forward in ([1, 0, 0], [0.6, 0, -0.8], [0, 0, -1.0]):
        rotation = view_rotation(forward, [0, 0, 1.0])
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert rotation[0, 2] == pytest.approx(0, abs=1e-12) and rotation[1, 2] <= 1e-12
        np.testing.assert_allclose(rotation[2], forward)


def test_measured_poses_become_rigid():
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.2, -0.7, 1.0]).as_matrix().round(3)
    axes = rigid(pose)[:3, :3]
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes, pose[:3, :3], atol=2e-3)


@pytest.mark.parametrize(
    "pose, match",
    [
        (np.eye(3), "finite 4x4"),
        (np.full((4, 4), -np.inf), "finite 4x4"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
        (np.diag([1.0, 1, -1, 1]), "rotation"),
        (np.diag([2.0, 2, 2, 1]), "rotation"),
        (np.zeros((4, 4)), "last row"),
    ],
)
def test_what_is_no_pose_is_refused(pose, match):
    with pytest.raises(InputError, match=match):
        rigid(pose)


@pytest.mark.parametrize(
    "matrix, size, match",
    [
        (np.zeros((3, 3)), (4, 3), "positive focal"),
        (np.diag([1.0, -1, 1]), (4, 3), "positive focal"),
        (np.full((3, 3), np.nan), (4, 3), "finite 3x3"),
        (np.eye(4), (4, 3), "finite 3x3"),
        (np.diag([1.0, 1, 2]), (4, 3), "last row"),
        (np.eye(3), (0, 3), "camera size"),
        (np.eye(3), (10**6, 10**6), "camera size"),
    ],
)
def test_what_is_no_camera_is_refused(matrix, size, match):
    with pytest.raises(InputError, match=match):
        PerspectiveCamera(np.eye(4), matrix, size)
