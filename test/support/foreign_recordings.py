"""Recordings as other programs write them."""

import functools
import tempfile
from pathlib import Path

from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore


@functools.cache
def whole_recording(suffix: str) -> bytes:
    """Three texts in a recording of this kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        if suffix == ".bag":
            types = get_typestore(Stores.ROS1_NOETIC)
            with rosbag1.Writer(path) as writer:
                connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=types)
                for k in range(3):
                    text = types.types["std_msgs/msg/String"](data=f"text {k}")
                    writer.write(connection, k, types.serialize_ros1(text, "std_msgs/msg/String"))
            return path.read_bytes()
        types = get_typestore(Stores.ROS2_HUMBLE)
        with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin.SQLITE3) as writer:
            connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=types)
            for k in range(3):
                text = types.types["std_msgs/msg/String"](data=f"text {k}")
                writer.write(connection, k, types.serialize_cdr(text, "std_msgs/msg/String"))
        return (path / "a.db3").read_bytes()
