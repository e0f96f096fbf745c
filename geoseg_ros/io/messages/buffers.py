"""Helpers of all readers and writers of messages: limits, buffers, stamps, quoting of strings."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 5_000_000
MAX_PIXELS = 50_000_000

MessageTypes = Mapping[str, Any]
"""Message classes by their ROS name, such as ``sensor_msgs/msg/Image``: those of rclpy, or those of a recording."""


def stamp_ns(header: Any) -> int:
    """The stamp of a std_msgs/Header, nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def quoted(text: Any) -> str:
    """A string of a message as part of an error line: quoted, on one line, and no longer than 80 characters."""
    line = repr(str(text))
    return line if len(line) <= 80 else f"{line[:76]}...'"


def data_view(message: Any, size: int) -> NDArray[np.uint8]:
    """A writable view of ``message.data``, made ``size`` bytes long; its memory is kept. Drop the view before the next call."""
    if not isinstance(message.data, array.array):
        message.data = array.array("B")
    buffer = message.data  # read back, for the setter may have copied it
    if len(buffer) < size:
        buffer.frombytes(bytes(size - len(buffer)))
    else:
        del buffer[size:]
    return np.frombuffer(buffer, np.uint8)


def set_data(message: Any, values: NDArray) -> None:
    """Copy ``values``, any shape and type, into ``message.data``."""
    data_view(message, values.nbytes)[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
