"""The frame in which obstacles and objects are published, by way of tf2."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from geoseg_ros.io.messages import stamp_ns
from geoseg_ros.runtime.placement import NoTransform, Placement, rigid_matrix

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

_JUMP = 10**9  # nanoseconds; stamps that go back farther than that come from a recording that starts again


class Frames:
    """Looks transforms up, and never waits for one: by the time that a cloud is processed, its transform has usually come.

    Attributes:
        target: frame to publish in; empty: that of the sensor.
    """

    def __init__(self, node: Node, target: str) -> None:
        self.target = target
        self._buffer: Any = None
        self._stamps: dict[str, int] = {}  # of the newest message of each frame
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
            return Placement(header.frame_id)
        stamp = stamp_ns(header)
        if stamp < self._stamps.get(header.frame_id, stamp) - _JUMP:
            # the buffer refuses transforms that are older than its newest by more than its length, and would do so until time catches up
            self._buffer.clear()
            self._stamps.clear()
        if len(self._stamps) > 1000:  # a frame that is called otherwise every time must not fill the memory
            self._stamps.clear()
        self._stamps[header.frame_id] = stamp
        try:
            found = self._buffer.lookup_transform(self.target, header.frame_id, Time.from_msg(header.stamp)).transform
        except (tf2_ros.TransformException, ValueError) as error:  # ValueError: a stamp before 1970
            raise NoTransform(f"no transform from {header.frame_id!r} to {self.target!r}: {' '.join(str(error).split())}") from None
        shift, turn = found.translation, found.rotation
        return Placement(self.target, rigid_matrix((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w)))
