"""Posed frames from folders: three layouts, evenly spread, and what is left out or refused."""

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.io.frame_folders import is_frame_folder, open_frame_folder
from geoseg_ros.io.posed_frames import FrameList, PosedFrame, check_intrinsics, evenly, steady
from support.frame_worlds import INTRINSICS, WALL, walk, wall_frame, write_scannet, write_seven_scenes, write_tum
from support.paths import SHARED

LAYOUTS = {"7-Scenes": write_seven_scenes, "ScanNet": write_scannet, "TUM": write_tum}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_frames_that_were_written(tmp_path, layout):
    given = walk(4)
    LAYOUTS[layout](tmp_path, given)
    frames = open_frame_folder(tmp_path)
    assert is_frame_folder(tmp_path) and len(frames) == 4
    for _ in range(2):  # every iteration reads anew
        read = list(frames)
        assert len(read) == 4 and not frames.warnings
        for frame, wanted in zip(read, given, strict=True):
            assert np.abs(frame.depth - wanted.depth).max() < 6e-4
            assert np.abs(frame.pose - wanted.pose).max() < 1e-5 and np.allclose(frame.intrinsics, INTRINSICS)
            assert np.mean(np.abs(frame.rgb.astype(int) - wanted.rgb)) < 3  # resampled, and JPEG, for ScanNet
    assert (read[0].stamp is not None) == (layout == "TUM")


def test_a_limit_spreads_frames_evenly(tmp_path):
    write_seven_scenes(tmp_path, walk(9))
    read = list(open_frame_folder(tmp_path, limit=3))
    assert np.allclose([frame.pose[0, 3] for frame in read], [0, 0.4, 0.8])
    assert evenly(5, 1) == [2] and evenly(3, 9) == [0, 1, 2] and evenly(0, 3) == []
    with pytest.raises(InputError, match="at least 1"):
        open_frame_folder(tmp_path, limit=0)


def test_invalid_depth_is_nan(tmp_path):
    frame = wall_frame(0.0)
    depth = frame.depth.copy()
    depth[0, 0], depth[0, 1] = 0, 65.535  # both mean that nothing was measured
    write_seven_scenes(tmp_path, [PosedFrame(frame.rgb, depth, frame.intrinsics, frame.pose)])
    (read,) = open_frame_folder(tmp_path)
    assert np.isnan(read.depth[0, :2]).all() and np.isfinite(read.depth[1:]).all()


def test_damaged_frames_are_left_out_and_counted(tmp_path):
    write_seven_scenes(tmp_path, walk(5))
    depth = tmp_path / "frame-000001.depth.png"
    depth.write_bytes(depth.read_bytes()[:60])
    (tmp_path / "frame-000002.color.png").unlink()
    np.savetxt(tmp_path / "frame-000003.pose.txt", np.full((4, 4), -np.inf))  # as ScanNet writes lost poses
    frames = open_frame_folder(tmp_path)
    assert [frame.pose[0, 3] for frame in frames] == pytest.approx([0, 0.4])
    assert len(frames.warnings) == 3
    assert any("000001.depth.png: truncated PNG" in line for line in frames.warnings)
    assert any("000002.color" in line for line in frames.warnings) and any("000003" in line and "pose" in line for line in frames.warnings)


def test_jumps_are_left_out_by_a_rule():
    positions = np.array([0, 0.1, 0.2, 7, 0.4, 0.5, 0.6])
    poses = np.stack([np.eye(4)] * 7)
    poses[:, 0, 3] = positions
    assert steady(poses).tolist() == [True, True, True, False, True, True, True]
    poses[:, 0, 3] = [0, 0.1, 0.2, 5, 5.1, 5.2, 5.3]  # the longest part stays
    assert steady(poses).tolist() == [False] * 3 + [True] * 4
    poses[:, 0, 3] = np.arange(7) * 0.1
    poses[4, :3, :3] = np.diag([-1, 1, -1])  # half a turn
    assert steady(poses).tolist() == [True] * 4 + [False] + [True] * 2
    poses = np.stack([np.eye(4)] * 6)
    poses[:, 0, 3] = [0, 2, 4, 1, 3, 5]  # views far apart, in no order: no jump
    assert steady(poses).all()


def test_jumps_are_told(tmp_path):
    frames = walk(8)
    frames[3] = wall_frame(40.0)
    write_seven_scenes(tmp_path, frames)
    read = open_frame_folder(tmp_path)
    assert len(list(read)) == 7
    assert read.warnings == [f"{tmp_path}: 1 of 8 poses jump away from the others, these frames are left out"]


@pytest.mark.parametrize("units", [1.0, 1e5])
def test_depth_in_other_units_is_refused(tmp_path, units):
    write_seven_scenes(tmp_path, [wall_frame(0.0, turn=0)], units=min(units, 3e4))
    with pytest.raises(InputError, match=r"median depth is .* expected 0.1 to 30 m"):
        open_frame_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda k: k[0].__setitem__(0, -60), "focal lengths -60"),
        (lambda k: k[0].__setitem__(2, 64.5), "principal point 64.5, 23.5 is outside the image of 64 x 48"),
        (lambda k: k[1].__setitem__(1, np.nan), "finite 3x3"),
    ],
)
def test_wrong_intrinsics_are_refused(change, text):
    matrix = INTRINSICS.copy()
    change(matrix)
    with pytest.raises(InputError, match=text):
        check_intrinsics(matrix, (48, 64), "here")


def test_wrong_intrinsics_of_a_folder_are_one_error(tmp_path):
    write_seven_scenes(tmp_path, walk(3))
    np.savetxt(tmp_path / "camera-intrinsics.txt", np.diag([0.0, 60, 1]))
    with pytest.raises(InputError, match="none of 3 frames can be read; first: .*focal lengths 0 and 60"):
        list(open_frame_folder(tmp_path))
    (tmp_path / "camera-intrinsics.txt").write_text("1 2 3")
    with pytest.raises(InputError, match=r"camera-intrinsics.txt: 3 numbers, expected a 3x3"):
        open_frame_folder(tmp_path)
    (tmp_path / "camera-intrinsics.txt").unlink()
    with pytest.raises(InputError, match=r"camera-intrinsics.txt: cannot read the matrix"):
        open_frame_folder(tmp_path)


def test_folders_without_poses_are_refused(tmp_path):
    with pytest.raises(InputError, match="no posed frames"):
        open_frame_folder(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_frame_folder(tmp_path / "absent")
    write_tum(tmp_path, walk(2))
    (tmp_path / "groundtruth.txt").write_text("5.0 0 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match="no depth image has a colour image and a pose"):
        open_frame_folder(tmp_path)


def test_tum_needs_intrinsics_and_stays_in_its_folder(tmp_path):
    root = tmp_path / "rgbd_dataset_freiburg3_test"
    write_tum(root, walk(2))
    (root / "camera-intrinsics.txt").unlink()
    with pytest.raises(InputError, match="principal point 320.1, 247.6 is outside the image of 64 x 48"):  # those of its name are taken
        list(open_frame_folder(root))
    other = root.rename(tmp_path / "mine")
    with pytest.raises(InputError, match="has none of freiburg1, freiburg2, freiburg3"):
        open_frame_folder(other)
    np.savetxt(other / "camera-intrinsics.txt", INTRINSICS)
    (other / "depth.txt").write_text("1000.0 ../secret.png\n")
    with pytest.raises(InputError, match="lies outside"):
        list(open_frame_folder(other))


def test_frames_check_themselves():
    frame = wall_frame(0.0)
    with pytest.raises(InputError, match="depth is 63 x 48, expected the 64 x 48"):
        PosedFrame(frame.rgb, frame.depth[:, 1:], frame.intrinsics, frame.pose)
    with pytest.raises(InputError, match="uint8"):
        PosedFrame(frame.rgb.astype(float), frame.depth, frame.intrinsics, frame.pose)
    with pytest.raises(InputError, match="pose"):
        PosedFrame(frame.rgb, frame.depth, frame.intrinsics, np.zeros((4, 4)))
    assert len(FrameList([frame, frame], "room")) == 2


@pytest.mark.skipif(not (SHARED / "data/rgbd/7scenes_tsdf").is_dir(), reason="needs ../shared/data/rgbd/7scenes_tsdf")
def test_real_frames():
    frames = open_frame_folder(SHARED / "data/rgbd/7scenes_tsdf", limit=3)
    read = list(frames)
    assert len(read) == 3 and not frames.warnings
    assert all(0.5 < np.nanmedian(frame.depth) < 4 and frame.rgb.shape == (480, 640, 3) for frame in read)


def test_the_wall_is_where_it_is():
    frame = wall_frame(0.0)
    assert np.allclose(frame.depth, WALL) and (frame.rgb[24, 32] == (200, 30, 30)).all()
