"""Depth images together with their calibration and the colour image nearest in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from geoseg_ros.io.messages import stamp_ns

KEPT = 10  # colour images that a depth image may be joined with: a third of a second of them


class RecentImages:
    """The last images of a topic, found by their stamps; one thread adds images while another may read."""

    def __init__(self) -> None:
        self._images: tuple[Any, ...] = ()

    def add(self, image: Any) -> None:
        """Keep a sensor_msgs/Image; the oldest one goes."""
        if image.header.stamp.sec >= 0:  # ROS has no time before 1970
            self._images = (*self._images[1 - KEPT :], image)  # a new tuple, for another thread may read the old one

    def between(self, begin: int, end: int) -> Sequence[Any]:
        """The images with stamps from ``begin`` to ``end``, nanoseconds, in the order in which they came."""
        return [image for image in self._images if begin <= stamp_ns(image.header) <= end]

    def clear(self) -> None:
        """Forget all."""
        self._images = ()


class DepthFrame(NamedTuple):
    """A depth image, the newest calibration at its arrival, and the colour images to choose from.

    Attributes:
        image: sensor_msgs/Image.
        info: sensor_msgs/CameraInfo, or None where none had come.
        colors: colour images, including those that come while the depth image waits.
        info_topic: where the calibration was expected.
        color_topic: where colour is expected; empty: it need not come.
    """

    image: Any
    info: Any
    colors: RecentImages
    info_topic: str
    color_topic: str = ""

    @property
    def header(self) -> Any:
        """That of the depth image."""
        return self.image.header

    def color(self, seconds: float) -> Any | None:
        """The colour image with the nearest stamp, or None where none is within ``seconds``; the first to come where two are as near."""
        stamp, reach = stamp_ns(self.header), round(seconds * 1e9)
        near = self.colors.between(stamp - reach, stamp + reach)
        return min(near, key=lambda image: abs(stamp_ns(image.header) - stamp), default=None)

    def color_age(self) -> float:
        """Seconds between the stamps of the depth image and of the nearest colour image that is kept, or NaN where there is none."""
        stamp = stamp_ns(self.header)
        ages = [abs(stamp_ns(image.header) - stamp) for image in self.colors.between(0, 2**62)]
        return 1e-9 * min(ages) if ages else float("nan")
