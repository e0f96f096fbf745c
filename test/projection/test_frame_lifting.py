"""Rooms fused from posed frames, and tokens carried to their voxels."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.frame_folders import open_frame_folder
from geoseg_ros.io.posed_frames import FrameList, PosedFrame
from geoseg_ros.projection.frame_lifting import LiftConfig, frame_tokens, lift_frames, seen
from geoseg_ros.projection.fusing import back_project, fuse_frames
from geoseg_ros.projection.lifted_scene import load_lifted, save_lifted, superpoint_means
from geoseg_ros.projection.token_cache import TokenCache
from support.frame_worlds import SQUARE, WALL, walk, wall_frame
from support.paths import SHARED


class MeanColour:
    """A backbone whose tokens are the mean colour of their cells, and 1."""

    name, stride, dim, hash, supervision = "mean colour", 8, 4, "c0ffee", "none"

    def __init__(self) -> None:
        self.calls = 0

    def tokens(self, images):
        self.calls += 1
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        mean = torch.nn.functional.avg_pool2d(pixels, self.stride).permute(0, 2, 3, 1)
        tokens = torch.cat([mean, torch.ones(*mean.shape[:3], 1)], -1)
        return tokens, tokens.mean((1, 2))


CONFIG = LiftConfig(voxel=0.05, sides=(320, 640), least=1)


def test_frames_are_fused_into_one_wall():
    fused = fuse_frames(walk(6), 0.05, least=2)
    assert np.abs(fused.xyz[:, 2] - WALL).max() < 1e-5
    assert fused.xyz[:, 0].min() < -0.9 and fused.xyz[:, 0].max() > 1.4  # the walk shows more than one frame
    inside = (np.abs(fused.xyz[:, :2]) < SQUARE - 0.06).all(1)
    assert (fused.rgb[inside] == (200, 30, 30)).all() and (fused.towards[:, 2] < 0).all() and fused.count.min() >= 2


def test_fusing_in_parts_gives_the_same(monkeypatch):
    whole = fuse_frames(walk(6), 0.05)
    monkeypatch.setattr("geoseg_ros.projection.fusing._PENDING", 500)
    parts = fuse_frames(walk(6), 0.05)
    assert np.allclose(whole.xyz, parts.xyz) and (whole.count == parts.count).all() and (whole.rgb == parts.rgb).all()


def test_points_project_back_to_their_pixels():
    frame = wall_frame(0.3, turn=20.0)
    points = back_project(frame, 7).reshape(-1, 3)
    row, pixel, _ = seen(points.astype(np.float32), frame, CONFIG)
    assert len(row) == len(points)
    v, u = np.mgrid[0:48:7, 0:64:7]
    assert np.abs(pixel - np.stack([u, v], -1).reshape(-1, 2)).max() < 1e-3


def test_hidden_points_are_not_seen():
    frame = wall_frame(0.0)
    on, behind, front = [0, 0, WALL + 0.1], [0, 0, WALL + 0.3], [0, 0, WALL - 0.3]
    row, _, through = seen(np.array([on, behind, front, [0, 0, -WALL], [9, 0, WALL]], np.float32), frame, CONFIG)
    assert row.tolist() == [0] and through == 1
    depth = frame.depth.copy()
    depth[:] = np.nan
    assert not len(seen(np.array([on], np.float32), PosedFrame(frame.rgb, depth, frame.intrinsics, frame.pose), CONFIG)[0])


@pytest.mark.parametrize("combine", ["mean", "max"])
def test_tokens_arrive_at_the_points_that_they_show(combine):
    scene = lift_frames(FrameList(walk(4), "wall"), MeanColour(), LiftConfig(voxel=0.05, sides=(320, 640), least=1, combine=combine))
    assert scene.known.all() and scene.name == "wall" and scene.backbone == "c0ffee"
    tokens = scene.tokens.astype(np.float32)
    inside = (np.abs(scene.xyz[:, :2]) < SQUARE - 0.15).all(1)
    outside = (np.abs(scene.xyz[:, :2]) > SQUARE + 0.3).any(1)
    assert inside.sum() > 10 and np.abs(tokens[inside] - (200, 30, 30, 1)).max() < 2
    assert np.abs(tokens[outside] - (120, 120, 120, 1)).max() < 2
    assert (scene.normal[:, 2] < -0.99).all()  # towards the cameras
    assert scene.views.max() == 4 and np.allclose(scene.up, (0, -1, 0))


def test_given_points_keep_their_order_and_unseen_ones_have_no_token():
    points = np.array([[0, 0, WALL], [0.001, 0, WALL], [0, 0, WALL + 1], [np.nan, 0, 0]], np.float32)
    extra = np.random.default_rng(0).uniform(-0.3, 0.3, (50, 3)).astype(np.float32)
    extra[:, 2] = WALL
    cloud = Cloud(np.concatenate([points, extra]).astype(np.float32))
    scene = lift_frames(FrameList(walk(2)), MeanColour(), CONFIG, cloud)
    values = scene.point_values(scene.views)
    assert len(values) == len(cloud) and values[0] == values[1] == 2 and values[2] == 0 and values[3] == -1
    assert scene.rgb is None and not scene.tokens[~scene.known].any() and (~scene.known).sum() == 1


def test_tokens_are_kept_by_content(tmp_path):
    backbone, frames = MeanColour(), walk(3)
    cache = TokenCache(tmp_path / "kept", "test")
    first = lift_frames(FrameList(frames), backbone, CONFIG, remember=cache.remember)
    made = backbone.calls
    again = lift_frames(FrameList(frames), backbone, CONFIG, remember=cache.remember)
    assert backbone.calls == made == 6 and (first.tokens == again.tokens).all()
    frame_tokens(backbone, frames[0].rgb, (160,), cache.remember)
    assert backbone.calls == made + 1  # other sides are other tokens


def test_no_depth_is_refused():
    frame = wall_frame(0.0)
    empty = PosedFrame(frame.rgb, np.full_like(frame.depth, np.nan), frame.intrinsics, frame.pose)
    with pytest.raises(InputError, match="no voxel of 0.05 m has"):
        lift_frames(FrameList([empty]), MeanColour(), CONFIG)


def approach(places: list[float], scale: float = 1.0) -> FrameList:
    """Frames of a camera at ``places`` on its way to the wall, with depth times ``scale``."""
    frames = []
    for z in places:
        frame, pose = wall_frame(0.0), np.eye(4)
        pose[2, 3] = z
        frames.append(replace(frame, depth=(frame.depth - np.float32(z)) * np.float32(scale), pose=pose))
    return FrameList(frames, "wall")


def test_frames_that_contradict_one_another_are_told_and_refused():
    steps, config = [0, 0.25, 0.5, 0.75, 1], replace(CONFIG, farthest=50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lift_frames(approach(steps), MeanColour(), config)
    with pytest.raises(InputError, match="0.0% of what the frames measured was measured by two"):
        lift_frames(approach(steps, 5.0), MeanColour(), config)
    with pytest.warns(UserWarning, match="wall: another frame looks through"):
        lift_frames(approach([0, 0, 0, 1, 1, 1], 3.0), MeanColour(), config)
    with pytest.raises(InputError, match="another frame looks through.*units of the depth"):
        lift_frames(approach([*[0] * 9, 1], 3.0), MeanColour(), config)


@pytest.mark.skipif(not (SHARED / "data/rgbd/7scenes_tsdf").is_dir(), reason="no frames of 7-Scenes")
def test_real_frames_agree():
    frames = list(open_frame_folder(SHARED / "data/rgbd/7scenes_tsdf", limit=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lift_frames(FrameList(frames, "kitchen"), MeanColour(), replace(CONFIG, sides=(64,)))
    five = FrameList([replace(frame, depth=5 * frame.depth) for frame in frames], "kitchen")
    with pytest.raises(InputError, match="units of the depth"):
        lift_frames(five, MeanColour(), replace(CONFIG, sides=(64,)))


def test_shots_are_what_single_frames_measured():
    frames = walk(5)
    scene = lift_frames(FrameList(frames, "wall"), MeanColour(), replace(CONFIG, shots=3))
    assert len(scene.shots) == 3
    for shot, frame in zip(scene.shots, frames[::2], strict=True):
        world = shot.xyz @ shot.turn.T + frame.pose[:3, 3]
        assert np.abs(world[:, 2] - WALL).max() < 1e-4 and np.array_equal(shot.turn, frame.pose[:3, :3])
        assert (shot.row >= 0).mean() > 0.9
        assert np.abs(scene.xyz[shot.row] - world)[shot.row >= 0].max() < 1.5 * CONFIG.voxel
    away = Cloud(scene.xyz + np.float32(5), None)
    assert not lift_frames(FrameList(frames), MeanColour(), replace(CONFIG, shots=0), away).shots
    lost = lift_frames(FrameList(frames), MeanColour(), replace(CONFIG, shots=1), away).shots[0]
    assert lost.rgb is None and (lost.row == -1).all()


def test_lifted_scenes_are_written_and_read(tmp_path):
    scene = lift_frames(FrameList(walk(3), "wall"), MeanColour(), CONFIG)
    save_lifted(tmp_path / "wall.safetensors", scene)
    read = load_lifted(tmp_path / "wall.safetensors")
    for name in ("xyz", "rgb", "normal", "tokens", "views", "superpoint", "inverse", "up"):
        assert (getattr(read, name) == getattr(scene, name)).all() and getattr(read, name).dtype == getattr(scene, name).dtype
    assert (read.voxel, read.backbone, read.name) == (scene.voxel, scene.backbone, scene.name)
    assert len(read.shots) == 3
    for a, b in zip(read.shots, scene.shots, strict=True):
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("xyz", "rgb", "row", "turn"))
    (tmp_path / "other").write_bytes(b"something else")
    for name in ("other", "absent"):
        with pytest.raises(InputError, match="not a lifted scene"):
            load_lifted(tmp_path / name)


def test_superpoint_means_leave_out_what_does_not_count():
    values = np.array([[1.0], [3.0], [5.0], [7.0]], np.float16)
    mean, number = superpoint_means(values, np.array([0, 0, 1, 2]), np.array([True, True, True, False]))
    assert mean.ravel().tolist() == [2, 5, 0] and number.tolist() == [2, 1, 0]
