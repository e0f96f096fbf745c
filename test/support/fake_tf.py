"""What the node uses of tf2_ros, for two sensors in one frame."""

from types import SimpleNamespace

from geometry_msgs.msg import TransformStamped

KEPT = 10.0  # seconds


class TransformException(Exception):
    """As in tf2_ros."""


def transform(seconds: float, source: str = "lidar") -> TransformStamped:
    """``lidar`` in ``odom``: a quarter turn about z, then 1 m along x and 2 m up; ``rear``: 1 m along x and 2 m up."""
    message = TransformStamped(child_frame_id=source)
    message.header.frame_id = "odom"
    message.header.stamp.sec, message.header.stamp.nanosec = int(seconds), round(seconds % 1 * 1e9)
    message.transform.translation.x, message.transform.translation.z = 1.0, 2.0
    if source == "lidar":
        message.transform.rotation.z = message.transform.rotation.w = 0.5**0.5
    return message


class Buffer:
    """As in tf2 (TimeCache::insertData) ten seconds are kept, a transform that is older than the newest by more than that is refused, and
    none is guessed outside of what is kept."""

    def __init__(self):
        self._stamps = []

    def set_transform(self, message, authority):
        seconds = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        if not self._stamps or seconds >= max(self._stamps) - KEPT:
            self._stamps.append(seconds)
            self._stamps = [stamp for stamp in self._stamps if stamp >= max(self._stamps) - KEPT]

    def clear(self):
        self._stamps = []

    def lookup_transform(self, target, source, stamp):
        seconds = 1e-9 * stamp.nanoseconds
        if target != "odom" or source not in ("lidar", "rear") or not self._stamps or not min(self._stamps) <= seconds <= max(self._stamps):
            raise TransformException("Lookup would require\nextrapolation.")
        return transform(seconds, source)


def TransformListener(buffer, node):  # noqa: N802
    return SimpleNamespace()
