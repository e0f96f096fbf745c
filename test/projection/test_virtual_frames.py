"""Virtual cameras inside a cloud: where they stand, and what their frames show."""

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.fusing import back_project
from geoseg_ros.projection.virtual_frames import VirtualConfig, camera_places, virtual_frames

CONFIG = VirtualConfig(places=3, turns=4, width=160, height=120, spacing=0.06)


@pytest.fixture(scope="module")
def room():
    """A closed room of 4 x 3 x 2.5 m, its floor red, the rest blue."""
    step = np.arange(0, 4.01, 0.05)
    x, y, z = step, step[step <= 3], step[step <= 2.5]
    sides = [np.stack(np.meshgrid(x, y, [h]), -1) for h in (0, 2.5)]
    sides += [np.stack(np.meshgrid(x, [d], z), -1) for d in (0, 3)] + [np.stack(np.meshgrid([w], y, z), -1) for w in (0, 4)]
    xyz = np.concatenate([side.reshape(-1, 3) for side in sides]).astype(np.float32)
    return Cloud(xyz, np.where(xyz[:, 2:] == 0, (200, 20, 20), (20, 20, 200)).astype(np.uint8))


def test_cameras_stand_inside_with_room_around_them(room):
    places = camera_places(room.xyz, CONFIG)
    assert len(places) == 3 and np.allclose(sorted({round(float(h), 2) for h in places[:, 2]}), [1.0, 1.5])
    assert ((places > 0.39) & (places < np.array([4, 3, 2.5]) - 0.39)).all()
    assert np.linalg.norm(places[0, :2] - places[1, :2]) > 1


def test_where_there_is_no_room_the_best_place_is_taken():
    x, y, z = np.meshgrid(*[np.arange(0, 1, 0.1)] * 3)
    solid = np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)
    assert camera_places(solid, VirtualConfig(heights=(0.5,))).shape == (1, 3)


def test_frames_show_the_cloud_where_it_is(room):
    frames = list(virtual_frames(room, CONFIG, "room"))
    assert len(frames) == 12 and frames[3].name == "room view 3"
    for frame in frames:
        shown = np.isfinite(frame.depth)
        assert shown.mean() > 0.97  # no gaps in a closed room
        points, colour = back_project(frame)[shown], frame.rgb[shown]
        walls = np.minimum(np.abs(points), np.abs(points - (4, 3, 2.5))).min(1)
        assert np.percentile(walls, 95) < 0.15
        low = points[:, 2] < 0.03
        assert low.sum() < 200 or (colour[low][:, 0] > 100).mean() > 0.8
        assert (colour[points[:, 2] > 0.3][:, 2] > 100).all()


def test_frames_are_shaded_without_colour_and_repeat(room):
    plain = Cloud(room.xyz)
    first, again = (list(virtual_frames(plain, CONFIG)) for _ in range(2))
    assert all((a.rgb == b.rgb).all() and np.array_equal(a.depth, b.depth, equal_nan=True) for a, b in zip(first, again, strict=True))
    assert all((frame.rgb[..., 0] == frame.rgb[..., 1]).all() for frame in first)
    assert np.stack([frame.rgb for frame in first]).std() > 5


def test_an_empty_cloud_is_refused():
    with pytest.raises(InputError, match="no valid point"):
        virtual_frames(Cloud(np.full((5, 3), np.nan, np.float32)))
