"""The frame in which obstacles and objects are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

try:
    import tf2_ros
except ImportError:
    tf2_ros = None


_JUMP = 1.0  # seconds; stamps that go back farther than that come from a recording that starts again


@dataclass(frozen=True)
class Placement:
    """Where a result is published. Attributes: header; matrix [4, 4] from the sensor's frame to that of the header, None for the same."""

    header: Header
    matrix: NDArray[np.float64] | None = None


class NoTransform(Exception):
    """The sensor's frame cannot be joined to the target frame at the stamp of the message. The text says why."""


def seconds(header: Header) -> float:
    """The stamp."""
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


class Frames:
    """Looks transforms up, and never waits for one: by the time that a cloud is worked off, its transform has usually come.

    Attributes:
        target: frame to publish in; empty: that of the sensor.
    """

    def __init__(self, node: Node, target: str) -> None:
        self.target = target
        self._buffer: Any = None
        self._stamp = -float("inf")
        if target and tf2_ros is None:
            node.get_logger().warning(f"target_frame {target}: tf2_ros is not installed, obstacles and objects stay in the sensor's frame")
            self.target = ""
        elif target:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def place(self, header: Header) -> Placement:
        """Where the result of a message with this header goes.

        Raises:
            NoTransform: the transform is not there (yet).
        """
        if not self.target or header.frame_id == self.target:
            return Placement(header)
        before, self._stamp = self._stamp, seconds(header)
        if self._stamp < before - _JUMP:
            # the buffer refuses transforms that are older than its newest by more than its length, and would do so until time catches up
            self._buffer.clear()
        try:
            found = self._buffer.lookup_transform(self.target, header.frame_id, Time.from_msg(header.stamp)).transform
        except (tf2_ros.TransformException, ValueError) as error:  # ValueError: a stamp before 1970
            raise NoTransform(f"no transform from {header.frame_id!r} to {self.target!r}: {' '.join(str(error).split())}") from None
        matrix = np.eye(4)
        turn, shift = found.rotation, found.translation
        matrix[:3, :3] = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        matrix[:3, 3] = shift.x, shift.y, shift.z
        return Placement(Header(stamp=header.stamp, frame_id=self.target), matrix)
