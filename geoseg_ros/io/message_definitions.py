"""Message definitions for reading and writing recordings without ROS."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import geoseg_ros
from geoseg_ros.io.messages import TRANSFORMS_TYPE

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_OWN_MESSAGES = ("StreamStatus", "NodeStatus", "CosegObject", "CosegObjectArray", "Part", "PartArray")
_RENAMED = {"tf/msg/tfMessage": TRANSFORMS_TYPE}


@lru_cache(maxsize=1)
def standard_types() -> Typestore:
    """The messages of a ROS 2 distribution and, where its .msg files are installed, of this package. Read only: others share it.

    The standard messages have had the same layout on the wire since the first ROS 2 releases, so one distribution serves all.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # the node needs the names above, and no definition

    store = get_typestore(Stores.ROS2_KILTED)
    folder = _message_folder()
    if folder is not None:
        for name in _OWN_MESSAGES:
            store.register(get_types_from_msg((folder / f"{name}.msg").read_text(), f"geoseg_ros/msg/{name}"))
    return store


def _message_folder() -> Path | None:
    """Where the .msg files lie: beside the package in a source tree, else under share/ of an install prefix. None without ROS."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    candidates = [Path(entry).parent / "msg" for entry in geoseg_ros.__path__]
    candidates += [Path(prefix) / "share" / "geoseg_ros" / "msg" for prefix in prefixes]
    return next((folder for folder in candidates if all((folder / f"{name}.msg").is_file() for name in _OWN_MESSAGES)), None)


def modern_type(name: str) -> str:
    """The present name of a message type: the first ROS 2 releases and ROS 1 wrote ``sensor_msgs/Image``."""
    parts = name.split("/")
    full = f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else name
    return _RENAMED.get(full, full)
