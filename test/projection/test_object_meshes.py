"""Surfaces of objects from noisy depth, and poses fitted to outlines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.parts.world import take_shot
from geoseg_ros.geometry.meshes import sample_surface
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.projection.object_meshes import ObjectMeshConfig, object_mesh
from geoseg_ros.projection.silhouettes import RefineConfig, refine_pose, vote_yaw, wrapped
from geoseg_ros.simulation.part_truth import make_object


@pytest.fixture(scope="module")
def toilet():
    obj = make_object("toilet", 3)
    rng = np.random.default_rng(0)
    shots = [take_shot(obj, rng, 128, yaw=yaw) for yaw in np.linspace(0, 2 * np.pi, 8, endpoint=False)]
    return obj, shots


def seen(shots, noise=0.003):
    """Frames with noisy depth."""
    rng, frames = np.random.default_rng(1), []
    for shot in shots:
        depth = shot.camera.to_camera(shot.xyz)[..., 2]
        depth = np.nan_to_num(depth + rng.normal(0, noise, depth.shape), nan=6.0).astype(np.float32)
        frames.append(PosedFrame(shot.image, depth, shot.camera.intrinsics, shot.camera.pose))
    return frames, [shot.mask for shot in shots]


def test_all_around_gives_the_whole_surface(toilet):
    obj, shots = toilet
    mesh, quality = object_mesh(*seen(shots), ObjectMeshConfig(vertices=1200))
    assert quality.views == 8 and quality.parts == 1 and quality.covered > 0.9 and quality.error < 0.01
    apart = cKDTree(sample_surface(obj.surface(1200), 20_000)[0]).query(mesh.vertices)[0]
    assert np.median(apart) < 0.01 * obj.diagonal and np.quantile(apart, 0.95) < 0.03 * obj.diagonal
    assert mesh.colour is not None and 600 < len(mesh) < 2500


@pytest.mark.parametrize("way", ["auto", "poisson"])
def test_one_side_stays_open(toilet, way):
    obj, shots = toilet
    mesh, quality = object_mesh(*seen(shots[:1], noise=0.001), ObjectMeshConfig(way=way, vertices=600))
    assert quality.views == 1 and quality.error < 0.02 and quality.covered > 0.8
    behind = mesh.vertices[:, 0] < np.quantile(obj.surface(600).vertices[:, 0], 0.05)
    assert behind.mean() < 0.05


def test_objects_that_no_depth_shows(toilet):
    frames, masks = seen(toilet[1][:2])
    with pytest.raises(InputError, match="0 depth pixels show it, expected at least 200"):
        object_mesh(frames, [np.zeros_like(m) for m in masks])
    with pytest.raises(InputError, match="2 frames and 1 masks"):
        object_mesh(frames, masks[:1])


def test_a_moved_object_comes_back_to_its_outlines(toilet):
    obj, shots = toilet
    true = sample_surface(obj.surface(1200), 1500)[0].astype(np.float64)
    middle = (true.min(axis=0) + true.max(axis=0)) / 2
    moved = (true - middle) * 1.25 + middle + 0.28 * obj.diagonal * np.array([0.5, 0.7, -0.5])
    views = [(shot.camera, shot.mask) for shot in (shots[0], shots[2])]
    found = refine_pose(moved, views, RefineConfig(side=64, points=1000, steps=80))
    assert found.before < 0.4 and found.after > 0.9
    assert found.scale * 1.25 == pytest.approx(1, abs=0.03)
    assert np.linalg.norm(found.apply(moved).mean(axis=0) - true.mean(axis=0)) < 0.015 * obj.diagonal
    with pytest.raises(InputError, match="empty"):
        refine_pose(moved, [(shots[0].camera, np.zeros_like(shots[0].mask))])


def test_yaw_is_voted_for():
    rng = np.random.default_rng(0)

    def render(degrees: float) -> np.ndarray:
        return np.full((1, 1, 3), round(degrees / 45), np.uint8)

    def estimate(image: np.ndarray) -> float:  # the front is a quarter turn off, and one picture in eight is misread
        return 45.0 * image[0, 0, 0] - 90 + rng.uniform(-20, 20) + (180 if image[0, 0, 0] == 3 else 0)

    turn, share = vote_yaw(estimate, render)
    assert turn == 90 and share == pytest.approx(7 / 8)
    assert wrapped(270) == -90 and wrapped(-190) == 170
