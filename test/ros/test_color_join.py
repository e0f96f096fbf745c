"""Colour images found by stamp: our own buffer, and message_filters where it is installed, give the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from geoseg_ros.io.messages import stamp_ns
from geoseg_ros.ros.inputs import FilteredImages
from geoseg_ros.runtime.rgbd import KEPT, DepthFrame, RecentImages


def image(nanoseconds: int) -> Image:
    return Image(header=Header(stamp=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)))


@dataclass
class Both:
    """The two joins, asked the same."""

    joins: tuple[RecentImages, ...]

    def add(self, message: Image) -> None:
        for join in self.joins:
            join.add(message)

    def color(self, stamp: int, seconds: float) -> int | None:
        found = [DepthFrame(image(stamp), None, join, "info").color(seconds) for join in self.joins]
        stamps = {None if message is None else stamp_ns(message.header) for message in found}
        assert len(stamps) == 1, "the joins differ"
        return stamps.pop()


@pytest.fixture(params=["own", "message_filters"])
def both(request) -> Both:
    if request.param == "own":
        return Both((RecentImages(),))
    pytest.importorskip("message_filters", reason="message_filters is not installed")
    return Both((RecentImages(), FilteredImages()))


def test_the_nearest_within_reach_is_taken(both):
    for stamp in (100, 200, 400):
        both.add(image(stamp * 10**6))
    assert both.color(210 * 10**6, 0.02) == 200 * 10**6
    assert both.color(221 * 10**6, 0.02) is None and both.color(220 * 10**6, 0.02) == 200 * 10**6, "both ends count"
    assert both.color(300 * 10**6, 0.1) == 200 * 10**6, "the first to come where two are as near"
    assert both.color(100 * 10**6, 0.0) == 100 * 10**6
    assert both.color(210 * 10**6, 0.02) == 200 * 10**6, "one colour image serves several depth images"


def test_only_the_last_ones_are_kept(both):
    for k in range(KEPT + 1):
        both.add(image(k * 10**9))
    assert both.color(0, 0.1) is None and both.color(10**9, 0.1) == 10**9


def test_times_before_1970_do_no_harm(both):
    both.add(image(-5 * 10**9))
    both.add(image(10**7))
    assert both.color(-5 * 10**9, 1.0) is None and both.color(0, 0.1) == 10**7


def test_nothing_is_left_after_clear(both):
    both.add(image(5))
    for join in both.joins:
        join.clear()
    assert both.color(5, 1.0) is None


def test_any_order_of_messages(both):
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        both.add(image(int(rng.integers(0, 3 * 10**9))))
        for reach in (0.0, 0.01, 0.3):
            found += both.color(int(rng.integers(0, 3 * 10**9)), reach) is not None
    assert 100 < found < 800
