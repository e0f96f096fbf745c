"""Cameras: pixel -> ray -> pixel, what is behind them, and poses and intrinsics from files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.projection.camera_files import camera_from_info, read_intrinsics, read_pose, read_trajectory
from geoseg_ros.projection.cameras import (
    OrthographicCamera,
    PerspectiveCamera,
    camera_matrix,
    camera_pose,
    rigid,
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
def test_pixel_to_point_to_pixel(camera, u, v, depth):
    point = camera.unproject([u, v], depth)
    pixels, found = camera.project(point)
    np.testing.assert_allclose(pixels, [u, v], atol=1e-5)
    np.testing.assert_allclose(found, depth, atol=1e-8)
    origin, direction = camera.rays([u, v])
    assert np.linalg.norm(direction) == pytest.approx(1)
    for distance in (0.1, 1.0, 30.0):  # everywhere along the ray
        np.testing.assert_allclose(camera.project(origin + distance * direction)[0], [u, v], atol=1e-5)
    assert np.linalg.norm(np.cross(point - origin, direction)) < 1e-6 * (1 + depth)


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


def test_depth_images_become_points_and_come_back():
    turn = Rotation.from_euler("xyz", (0.1, -0.4, 0.2)).as_matrix()
    camera = PerspectiveCamera(camera_pose(turn, np.array([1.0, 2, 3])), camera_matrix(80, (20, 15)), (40, 30))
    depth = np.random.default_rng(0).uniform(0.5, 4, (30, 40)).astype(np.float32)
    depth[3, 4], depth[5, 6], depth[7, 8] = np.nan, 0, np.inf
    xyz = camera.unproject_image(depth)
    valid = np.isfinite(xyz).all(-1)
    assert xyz.dtype == np.float32 and (~valid).sum() == 3 and not valid[[3, 5, 7], [4, 6, 8]].any()
    pixels, found = camera.project(xyz[valid])
    v, u = np.nonzero(valid)
    np.testing.assert_allclose(pixels, np.stack([u, v], 1), atol=1e-3)
    np.testing.assert_allclose(found, depth[valid], rtol=1e-5)
    with pytest.raises(InputError, match="40 x 29, expected the 40 x 30"):
        camera.unproject_image(depth[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_resized_cameras_see_the_same_shares_of_the_picture(kind):
    camera = kind(np.eye(4), MATRIX, (640, 480))
    small = camera.resized((320, 120))
    corners = camera.unproject([[-0.5, -0.5], [639.5, 479.5], [319.5, 239.5]], np.ones(3))
    np.testing.assert_allclose(small.project(corners)[0], [[-0.5, -0.5], [319.5, 119.5], [159.5, 59.5]], atol=1e-9)


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


def test_cameras_from_camera_info():
    k = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
    p = [400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0]
    assert camera_from_info((640, 480), k).intrinsics.tolist() == [[500, 0, 320], [0, 510, 240], [0, 0, 1]]
    assert camera_from_info((640, 480), k, p).intrinsics.tolist() == [[400, 0, 300], [0, 410, 200], [0, 0, 1]]
    assert camera_from_info((640, 480), k, [0.0] * 12).intrinsics[0, 0] == 500, "not rectified"
    for bad in ((k[:-1], p), (k, p[:-1]), ([0.0] * 9, ())):
        with pytest.raises(InputError):
            camera_from_info((640, 480), *bad)


@pytest.mark.parametrize(
    "text",
    [
        "585 0 320\n0 586 240\n0 0 1\n",
        "5.85e+02 0 320\n\n0 586 240\n0 0 1\n",
        "585 0 320 0\n0 586 240 0\n0 0 1 0\n0 0 0 1\n",
        "# fx fy cx cy d0 d1\n585, 586, 320, 240, 0.1, -0.2\n",
        "585 586 320 240",
    ],
    ids=["7-Scenes", "with an empty line", "ScanNet", "TUM with distortion", "TUM"],
)
def test_intrinsics_of_several_layouts(tmp_path: Path, text):
    (tmp_path / "k.txt").write_text(text)
    assert read_intrinsics(tmp_path / "k.txt").tolist() == [[585, 0, 320], [0, 586, 240], [0, 0, 1]]


@pytest.mark.parametrize(
    "read, data",
    [
        *(
            (read_intrinsics, data)
            for data in (b"", b"1 2 3", b"1 2\n3 4\n", b"\xff\xfe\x00", b"fx=3", b"0 0 0 0", b"nan 1 1 1", b"1\n" * 9)
        ),
        *((read_pose, data) for data in (b"", b"1 0 0 0\n", b"-inf -inf -inf -inf\n" * 4, b"x", b"1 2 3 4\n" * 4, b"\x80")),
        *((read_trajectory, data) for data in (b"1 2 3", b"0 0 0 0 0 0 0 0", b"0 0 0 nan 0 0 0 1", b"a b", b"\x80")),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, read, data):
    (tmp_path / "file.txt").write_bytes(data)
    with pytest.raises(InputError, match="file.txt: ") as caught:
        read(tmp_path / "file.txt")
    assert "\n" not in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_pose(tmp_path / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_pose(tmp_path)
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(InputError, match="at most 64 MB"):
        read_trajectory(tmp_path / "huge.txt")


def test_poses_and_trajectories(tmp_path: Path):
    turn = Rotation.from_euler("xyz", (0.3, 0.1, -2.0))
    pose = camera_pose(turn.as_matrix().T, np.array([1.0, -2, 3]))
    np.savetxt(tmp_path / "pose.txt", pose)
    np.testing.assert_allclose(read_pose(tmp_path / "pose.txt"), pose, atol=1e-12)
    line = "12.5 1 -2 3 " + " ".join(f"{q:.9f}" for q in turn.as_quat())
    (tmp_path / "groundtruth.txt").write_text(f"# stamp tx ty tz qx qy qz qw\n{line}\n{line} # again\n")
    stamps, poses = read_trajectory(tmp_path / "groundtruth.txt")
    assert stamps.tolist() == [12.5, 12.5]
    np.testing.assert_allclose(poses, [pose, pose], atol=1e-8)
    (tmp_path / "groundtruth.txt").write_text("# nothing\n")
    assert read_trajectory(tmp_path / "groundtruth.txt")[1].shape == (0, 4, 4)
