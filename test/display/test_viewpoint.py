"""Where a cloud is drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.display.viewpoint import axes_of, below_ceiling, overview
from geoseg_ros.geometry.cloud import Cloud

HEIGHT, WIDTH = 48, 64


def rays() -> np.ndarray:
    """float64 [H, W, 3]: directions of a pinhole camera's pixels, z = 1."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - WIDTH / 2) / 50, (v - HEIGHT / 2) / 50, np.ones((HEIGHT, WIDTH))], axis=-1)


def depth_camera() -> Cloud:
    """A wall, a tenth of it not measured."""
    rng = np.random.default_rng(0)
    xyz = (rays() * rng.uniform(1.5, 2.5, (HEIGHT, WIDTH, 1))).reshape(-1, 3).astype(np.float32)
    xyz[rng.random(len(xyz)) < 0.1] = np.nan
    return Cloud(xyz, None, (HEIGHT, WIDTH))


def spinning_lidar() -> Cloud:
    """16 rings around, organised as drivers do it, in a room of 4 m."""
    ring, turn = np.meshgrid(np.deg2rad(np.linspace(15, -15, 16)), np.linspace(-np.pi, np.pi, 256, endpoint=False), indexing="ij")
    xyz = 4 * np.stack([np.cos(ring) * np.cos(turn), np.cos(ring) * np.sin(turn), np.sin(ring)], axis=-1)
    return Cloud(xyz.reshape(-1, 3).astype(np.float32), None, (16, 256))


def lifted(cloud: Cloud) -> Cloud:
    """So that all of it is at positive z."""
    return Cloud(cloud.xyz + np.array([0, 0, 5], np.float32), None, cloud.shape)


@pytest.mark.parametrize(
    ("cloud", "optical"),
    [
        (depth_camera(), True),
        (Cloud(depth_camera().xyz), False),
        (spinning_lidar(), False),
        (lifted(spinning_lidar()), False),
        (Cloud(np.zeros((0, 3), np.float32)), False),
        (Cloud(np.full((6, 3), np.nan, np.float32), None, (2, 3)), False),
    ],
    ids=["depth camera", "unorganised", "lidar", "lidar below", "empty", "invalid"],
)
def test_axes_follow_from_the_order_of_the_points(cloud: Cloud, optical: bool) -> None:
    axes = axes_of(cloud)
    assert axes.optical == optical
    assert axes.up.tolist() == ([0, -1, 0] if optical else [0, 0, 1])
    assert axes.forward.tolist() == ([0, 0, 1] if optical else [1, 0, 0])


@pytest.mark.parametrize("cloud", [depth_camera(), spinning_lidar()], ids=["depth camera", "lidar"])
def test_nearly_all_points_are_in_the_picture(cloud: Cloud) -> None:
    axes, xyz = axes_of(cloud), cloud.xyz[cloud.valid()]
    camera = overview(xyz, axes, (320, 240))
    pixels, depth = camera.project(xyz)
    inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < (320, 240)).all(axis=1)
    assert inside.mean() > 0.98 and np.ptp(pixels, axis=0).max() > 200, "and they fill it"
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert camera.rotation[1] @ axes.up < 0, "up is up"
    assert camera.rotation[2] @ axes.up < 0, "it looks down"


def test_ceilings_are_left_out_but_not_from_depth_cameras() -> None:
    floor = np.random.default_rng(1).random((500, 3)).astype(np.float32) * (4, 4, 0.01)
    room = Cloud(np.concatenate([floor, floor + np.array([0, 0, 2.6], np.float32)]).astype(np.float32))
    keep = below_ceiling(room, axes_of(room))
    assert keep[:500].all() and not keep[500:].any()
    cloud = depth_camera()
    assert (below_ceiling(cloud, axes_of(cloud)) == cloud.valid()).all()
