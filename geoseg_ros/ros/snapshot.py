"""A snapshot for a bug report: the newest inputs and outputs as a recording, the parameters, the versions, the diagnostics."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from rclpy.serialization import serialize_message

import geoseg_ros
from geoseg_ros.files import home
from geoseg_ros.ros.message_types import type_name

_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "torch", "onnxruntime", "rclpy")


def default_folder() -> Path:
    """Where ROS keeps what nodes write."""
    return Path(os.environ.get("ROS_HOME") or home() / ".ros") / "geoseg_snapshots"


def write_snapshot(
    folder: Path, name: str, keep: int, messages: Iterable[tuple[str, Any]], parameters: Mapping[str, Any], state: Mapping[str, Any]
) -> Path:
    """Write ``folder/<name>_<time>/`` with messages.mcap, parameters.yaml and report.json. It appears as a whole or not at all.

    Args:
        name: of the node, as part of a file name.
        keep: so many snapshots of the node stay, the newest.
        messages: (topic, message), inputs before outputs. `geoseg replay` runs on the recording.
        state: goes into report.json beside the versions and the topics that are left out, because no recording knows their type.

    Raises:
        OSError: the disk is full, the folder cannot be written.
    """
    from geoseg_ros.io.recordings import RecordingWriter  # not needed to start a node

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}_{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}_{time.monotonic_ns() % 10**6:06d}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}_", dir=folder))
    try:
        left_out = {}
        with RecordingWriter(temporary / "messages.mcap") as writer:
            for number, (topic, message) in enumerate(messages):
                kind = type_name(type(message))
                if kind in writer.types.fielddefs:
                    writer.write(topic, kind, time.time_ns() + number, serialize_message(message))
                else:
                    left_out[topic] = kind
        (temporary / "parameters.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}, sort_keys=True))
        (temporary / "report.json").write_text(json.dumps({"versions": versions(), "left_out": left_out, **state}, indent=1) + "\n")
        temporary.chmod(0o755)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob(f"{name}_*"), key=lambda path: path.stat().st_mtime_ns)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def versions() -> dict[str, str]:
    """Of this package, Python, the libraries and ROS."""
    found = {"geoseg_ros": geoseg_ros.__version__, "python": sys.version.split()[0], "platform": platform.platform()}
    found["ros"] = os.environ.get("ROS_DISTRO", "")
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
