"""Tokens of pictures carried to points: by the pixels of rendered views, and by real cameras with an occlusion test."""

import cv2
import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.camera_files import read_intrinsics, read_pose
from geoseg_ros.projection.cameras import PerspectiveCamera, camera_matrix, camera_pose, view_rotation
from geoseg_ros.projection.lifting import Occlusion, PosedView, TokenSum, lift_tokens, lift_views, pool_tokens, visible_points
from geoseg_ros.projection.render import close_gaps, render_points
from support.paths import SHARED

FRAMES = SHARED / "data" / "rgbd" / "7scenes_tsdf"


def camera_at(position, forward=(0, 0, 1), size=(64, 48), focal=50.0):
    rotation = view_rotation(np.array(forward, float), np.array([0.0, -1, 0]))
    return PerspectiveCamera(camera_pose(rotation, np.array(position, float)), camera_matrix(focal, (size[0] / 2, size[1] / 2)), size)


def plate(depth, half, step=0.01):
    """A grid of points across the optical axis."""
    x, y = np.meshgrid(np.arange(-half, half, step), np.arange(-half, half, step))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, depth)], 1)


def test_lifted_tokens_are_means_over_seeing_pixels():
    tokens = torch.arange(2 * 2 * 2 * 3, dtype=torch.float32).reshape(2, 2, 2, 3)
    index = np.full((2, 4, 4), -1, np.int32)
    index[0, 0, 0] = index[0, 0, 1] = 0  # two pixels of cell (0, 0)
    index[0, 3, 3] = 1  # same group, cell (1, 1)
    index[1, 2, 0] = 2  # cell (1, 0) of view 1
    index[1, 0, 0] = 3  # in no group
    features, seen = lift_tokens(tokens, index, np.array([0, 0, 2, -1]), 4)
    assert seen.tolist() == [True, False, True, False]
    assert torch.allclose(features[0], (2 * tokens[0, 0, 0] + tokens[0, 1, 1]) / 3)
    assert torch.allclose(features[2], tokens[1, 1, 0])
    assert (features[[1, 3]] == 0).all()
    nothing, seen = lift_tokens(tokens, np.full((2, 4, 4), -1, np.int32), np.zeros(4, int), 2)
    assert not seen.any() and (nothing == 0).all()
    largest, seen = lift_tokens(tokens, index, np.array([0, 0, 2, -1]), 4, "max")
    assert seen.tolist() == [True, False, True, False]
    assert torch.equal(largest[0], torch.maximum(tokens[0, 0, 0], tokens[0, 1, 1])) and (largest[[1, 3]] == 0).all()


def test_a_hidden_plate_is_not_visible():
    """A small plate before a large one: against the rendered depth, and without it."""
    near, far = plate(1.0, 0.15), plate(1.5, 0.4)
    xyz, camera = np.concatenate([near, far]), camera_at((0, 0, 0))
    depth = close_gaps(render_points(camera, xyz), camera, 2).depth
    row, pixels = visible_points(camera, xyz, depth)
    shadow = np.abs(far[:, :2]).max(axis=1) < 0.15 * 1.5 - 0.05
    lit = np.abs(far[:, :2]).max(axis=1) > 0.15 * 1.5 + 0.05
    seen = np.zeros(len(xyz), bool)
    seen[row] = True
    assert seen[: len(near)].all() and not seen[len(near) :][shadow].any() and seen[len(near) :][lit].all()
    np.testing.assert_allclose(pixels, camera.project(xyz[row])[0])
    assert len(visible_points(camera, xyz)[0]) == len(xyz), "without depth nothing is hidden"
    assert len(visible_points(camera, xyz, depth, Occlusion(absolute=0.6))[0]) == len(xyz), "nor with a tolerance beyond the gap"
    assert len(visible_points(camera, xyz, depth, Occlusion(absolute=0, relative=0.6))[0]) == len(xyz)


def test_points_behind_beside_and_not_finite_are_not_visible():
    xyz = np.array([[0, 0, 1], [0, 0, -1], [5, 0, 1], [0, 5, 1], [np.nan, 0, 1], [0, np.inf, 1], [0, 0, 0.0]])
    assert visible_points(camera_at((0, 0, 0)), xyz)[0].tolist() == [0]


def test_unknown_depth_hides_unless_it_is_told_otherwise():
    camera, xyz = camera_at((0, 0, 0)), np.array([[0, 0, 1.0], [0.2, 0, 1]])
    depth = np.full((48, 64), np.nan)
    depth[24, 32] = 1.0
    depth[24, 42] = 0.0
    assert visible_points(camera, xyz, depth)[0].tolist() == [0]
    assert visible_points(camera, xyz, depth, Occlusion(unknown=True))[0].tolist() == [0, 1]


def test_two_views_are_reduced_by_mean_and_maximum():
    xyz = np.array([[0.0, 0, 1], [0, 0, 3], [0, 50, 1]])  # by both, by both, by none
    views = [PosedView(camera_at((0, 0, 0)), torch.tensor([[[1.0, 5]]])), PosedView(camera_at((0.1, 0, 0)), torch.tensor([[[3.0, 1]]]))]
    mean, seen = lift_views(xyz, iter(views))
    largest, _ = lift_views(xyz, iter(views), "max")
    assert seen.tolist() == [True, True, False]
    assert mean.tolist() == [[2, 3], [2, 3], [0, 0]] and largest.tolist() == [[3, 5], [3, 5], [0, 0]]
    pooled, has = pool_tokens(mean, seen, np.array([1, -1, 0]), 2)
    assert has.tolist() == [False, True] and pooled.tolist() == [[0, 0], [2, 3]]


def test_cells_follow_the_pixels():
    """Each quarter of the picture has a token of its own."""
    tokens = torch.arange(4.0).reshape(2, 2, 1)
    camera = camera_at((0, 0, 0), size=(64, 48))
    corners = camera.unproject([[0, 0], [63, 0], [0, 47], [63, 47], [31.4, 23.4], [31.6, 23.6]], np.ones(6))
    features, seen = lift_views(corners, [PosedView(camera, tokens)])
    assert seen.all() and features[:, 0].tolist() == [0, 1, 2, 3, 0, 3]


def test_wrong_views_are_refused():
    views = [PosedView(camera_at((0, 0, 0)), torch.zeros(2, 2, dim)) for dim in (3, 4)]
    with pytest.raises(InputError, match="tokens of 4 channels, expected 3"):
        lift_views(np.zeros((1, 3)), views)
    with pytest.raises(InputError, match="expected at least one"):
        lift_views(np.zeros((1, 3)), [])
    with pytest.raises(ValueError, match="expected mean or max"):
        TokenSum(1, 1, "median")


@pytest.mark.skipif(not FRAMES.is_dir(), reason="the 7-Scenes frames are not on this machine")
def test_real_posed_frames_agree_on_what_points_look_like():
    """The colours of four frames, as tokens, lifted to the points of a fifth: its own colours come back. Without poses they would not."""
    matrix = read_intrinsics(FRAMES / "camera-intrinsics.txt")

    def frame(number):
        name = f"frame-{number:06d}"
        colour = cv2.imread(str(FRAMES / f"{name}.color.jpg"))[..., ::-1]
        depth = cv2.imread(str(FRAMES / f"{name}.depth.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        depth[depth > 10] = np.nan  # 65.535 m is "nothing measured" there
        camera = PerspectiveCamera(read_pose(FRAMES / f"{name}.pose.txt"), matrix, colour.shape[1::-1])
        return camera, np.ascontiguousarray(colour), depth

    camera, colour, depth = frame(150)
    cloud = Cloud(camera.unproject_image(depth).reshape(-1, 3), colour.reshape(-1, 3), depth.shape)
    rows = np.flatnonzero(cloud.valid())[::50]
    others = [frame(number) for number in (160, 170, 180, 190)]
    views = [PosedView(c, torch.from_numpy(cv2.blur(i, (9, 9))).float(), d) for c, i, d in others]
    features, seen = lift_views(cloud.xyz[rows], views, occlusion=Occlusion(0.03, 0.02))
    own = cv2.blur(colour, (9, 9)).reshape(-1, 3)[rows].astype(np.float32)
    error = np.abs(features.numpy() - own).mean(axis=1)
    still = [PosedView(camera, view.tokens) for view in views]  # as if the camera had not moved
    blind = np.abs(lift_views(cloud.xyz[rows], still)[0].numpy() - own).mean(axis=1)
    print(f"{seen.float().mean():.2f} of {len(rows)} points seen; median error {np.median(error[seen]):.1f}, blind {np.median(blind):.1f}")
    assert len(rows) > 2000 and seen.float().mean() > 0.8
    assert np.median(error[seen]) < 0.6 * np.median(blind[seen])
