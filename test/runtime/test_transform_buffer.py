"""Transforms of a recording, interpolated as tf2 does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geoseg_ros.runtime.placement import NoTransform, rigid_matrix
from geoseg_ros.runtime.transform_buffer import TransformBuffer

SECOND = 10**9
NO_TURN = (0.0, 0.0, 0.0, 1.0)


def turned(degrees: float) -> tuple[float, ...]:
    return tuple(Rotation.from_euler("z", degrees, degrees=True).as_quat().tolist())


@pytest.fixture
def buffer() -> TransformBuffer:
    """map -> odom (static) -> base (moves, turns) -> lidar (static), and base -> camera."""
    made = TransformBuffer()
    made.add("map", "odom", 0, (10, 0, 0), turned(90), True)
    for i in range(5):
        made.add("odom", "base", (100 + i) * SECOND, (i, 0, 0), turned(20 * i), False)
    made.add("base", "/lidar", 0, (0, 0, 1), NO_TURN, True)
    made.add("base", "camera", 0, (0.5, 0, 0), turned(-90), True)
    return made


def test_between_two_times_translation_is_linear_and_rotation_spherical(buffer: TransformBuffer) -> None:
    np.testing.assert_allclose(
        buffer.lookup("odom", "base", 101 * SECOND + SECOND // 4), rigid_matrix((1.25, 0, 0), turned(25)), atol=1e-12
    )
    np.testing.assert_allclose(buffer.lookup("odom", "base", 104 * SECOND), rigid_matrix((4, 0, 0), turned(80)), atol=1e-12)


def test_frames_are_joined_by_their_common_ancestor(buffer: TransformBuffer) -> None:
    stamp = 102 * SECOND
    lidar = rigid_matrix((10, 0, 0), turned(90)) @ rigid_matrix((2, 0, 0), turned(40)) @ rigid_matrix((0, 0, 1), NO_TURN)
    np.testing.assert_allclose(buffer.lookup("map", "lidar", stamp), lidar, atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("lidar", "map", stamp), np.linalg.inv(lidar), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("/lidar", "lidar", stamp), np.eye(4), atol=1e-12)
    sensors = np.linalg.inv(rigid_matrix((0.5, 0, 0), turned(-90))) @ rigid_matrix((0, 0, 1), NO_TURN)
    np.testing.assert_allclose(buffer.lookup("camera", "lidar", 0), sensors, atol=1e-12, err_msg="what is static holds at all times")


def test_nothing_is_guessed(buffer: TransformBuffer) -> None:
    for stamp in (100 * SECOND - 1, 104 * SECOND + 1):
        with pytest.raises(NoTransform, match=r"from 'lidar' to 'map': 'base' is known from 100.000 to 104.000 s"):
            buffer.lookup("map", "lidar", stamp)
    buffer.add("odom", "base", 120 * SECOND, (4, 0, 0), NO_TURN, False)
    with pytest.raises(NoTransform, match="'base' is not known for 16.0 s"):
        buffer.lookup("map", "lidar", 110 * SECOND)
    with pytest.raises(NoTransform, match="does not join them"):
        buffer.lookup("map", "moon", 0)


def test_what_tf2_refuses_is_left_out_and_order_does_not_matter(buffer: TransformBuffer) -> None:
    for shift, turn in (((np.nan, 0, 0), NO_TURN), ((0, 0, 0), (0, 0, 0, 0)), ((0, 0, 0), (0, 0, 0, 2)), ((0, 0, 0), (0, 0, 0, np.inf))):
        buffer.add("odom", "base", 102 * SECOND + 1, shift, turn, False)
    buffer.add("base", "base", 0, (1, 0, 0), NO_TURN, True)
    buffer.add("odom", "base", 102 * SECOND, (99, 0, 0), NO_TURN, False)  # of a time that is known: the first one counts
    buffer.add("odom", "base", 98 * SECOND, (-2, 0, 0), NO_TURN, False)
    np.testing.assert_allclose(buffer.lookup("odom", "base", 102 * SECOND), rigid_matrix((2, 0, 0), turned(40)), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("odom", "base", 99 * SECOND)[:3, 3], (-1, 0, 0), atol=1e-12)


def test_frames_in_a_circle_end() -> None:
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.add(parent, child, 0, (1, 0, 0), NO_TURN, True)
    assert np.isfinite(buffer.lookup("a", "b", 0)).all()
    with pytest.raises(NoTransform):
        buffer.lookup("a", "elsewhere", 0)
