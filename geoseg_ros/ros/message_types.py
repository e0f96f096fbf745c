"""The message classes of rclpy, and what is missing where a message package is not installed."""

from __future__ import annotations

import importlib
from typing import Any

try:
    import geoseg_ros.msg as geoseg_msgs
except ImportError:  # the package was installed without its messages
    geoseg_msgs = None
try:
    from geoseg_ros.srv import Where
except ImportError:
    Where = None
try:
    from geoseg_ros.srv import LearnAdd, LearnStart
except ImportError:
    LearnAdd = LearnStart = None
try:
    import vision_msgs.msg as vision_msgs
except ImportError:
    vision_msgs = None


class InstalledTypes(dict[str, Any]):
    """Message classes by their ROS name, such as ``sensor_msgs/msg/Image``; imported when first asked for."""

    def __missing__(self, name: str) -> Any:
        package, folder, kind = name.split("/")
        self[name] = getattr(importlib.import_module(f"{package}.{folder}"), kind)
        return self[name]


def type_name(kind: type) -> str:
    """The ROS name of a message class."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def missing_interfaces() -> str:
    """What is not published because a message package is not installed: one line, or an empty string."""
    lines = []
    if geoseg_msgs is None:
        lines.append("geoseg_ros was installed without its messages: no ~/objects, ~/parts, ~/where, ~/learn and ~/status")
    elif not hasattr(geoseg_msgs, "PartArray") or Where is None or LearnAdd is None:
        lines.append("the messages of geoseg_ros are older than the package: no ~/parts, ~/where or ~/learn")
    if vision_msgs is None:
        lines.append("vision_msgs is not installed: no ~/detections and ~/vision_info")
    return "; ".join(lines)
