"""A recording through the real node over real DDS: node, recorder and player as processes of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import geoseg_ros
from geoseg_ros.errors import InputError
from geoseg_ros.files import write_text
from geoseg_ros.processes import Children

NODE = ("-m", "geoseg_ros.ros.coseg_node")
_OPENING = 300.0  # seconds that a node may take to open its packs


def need_ros(what: str) -> None:
    """Raise InputError unless ROS 2 is installed, which the processes of a live run need."""
    try:
        import rclpy  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs ROS 2 (rclpy), which is not installed here: {error}") from None


@dataclass(frozen=True)
class LiveRun:
    """What to run.

    Attributes:
        recording: Recording to play.
        out: Recording to write (.mcap).
        logs: Folder for the logs of the processes.
        packs: Concept packs by path or name.
        cloud_topic: Topic of the clouds in the recording; None: it has none.
        image_topic: Topic of the images in the recording; None: it has none.
        rate: Seconds of the recording that are played per second.
        seconds: Length of the recording at rate 1, from which time-outs follow.
        parameters: Further parameters of the node.
        domain: ROS domain id.
        node: Arguments of Python that run the node.
    """

    recording: Path
    out: Path
    logs: Path
    packs: Sequence[str]
    cloud_topic: str | None
    image_topic: str | None
    rate: float
    seconds: float
    parameters: dict[str, Any]
    domain: int
    node: Sequence[str] = NODE


def run_live(live: LiveRun, log: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Play the recording through a node of its own and record what it publishes.

    Args:
        live: What to run.
        log: Called with a line at each step.

    Returns:
        ``recorder`` (messages per topic, last node status) and ``player`` (published per topic, seconds, latest).

    Raises:
        GeosegError, InputError: A process ends early or hangs. Its last line is in the message, and no process is left behind.
    """
    topics = [topic for topic in (live.cloud_topic, live.image_topic) if topic]
    if not topics:
        raise InputError(f"{live.recording}: no cloud and no image topic to play")
    live.logs.mkdir(parents=True, exist_ok=True)
    parameters = live.logs / "node.yaml"
    write_text(parameters, yaml.safe_dump({"/**": {"ros__parameters": _parameters(live, topics)}}))
    remaps = [
        part
        for name, topic in (("points", live.cloud_topic), ("image", live.image_topic))
        if topic
        for part in ("-r", f"~/{name}:={topic}")
    ]
    with Children(live.logs, _environment(live.domain)) as children:
        children.start("node", [*live.node, "--ros-args", "--params-file", str(parameters), *remaps])
        recorder = children.start("recorder", ["-m", "geoseg_ros.ros.recorder", "--out", str(live.out)])
        log("waiting for the node")
        children.expect(recorder, "ready", _OPENING)
        log("playing")
        command = ["play", str(live.recording), "--topics", *topics, "--rate", str(live.rate), "--wait", "1", "--json"]
        player = children.start("player", ["-m", "geoseg_ros.cli", *command])
        played = json.loads(children.expect(player, None, live.seconds / live.rate + 120))
        log("waiting for the last results")
        recorder.close_input()
        recorded = json.loads(children.expect(recorder, None, 120))
    return {"player": played, "recorder": recorded}


def _parameters(live: LiveRun, topics: list[str]) -> dict[str, Any]:
    # best effort, the default of the inputs, loses large messages with Fast DDS's small shared memory segment; and the recorder wants
    # every result, where a live consumer wants the newest one
    profiles: dict[str, Any] = {topic: {"subscription": {"reliability": "reliable", "depth": 20}} for topic in topics}
    profiles |= {f"/coseg_node/{name}": {"publisher": {"depth": 20}} for name in ("points_labeled", "objects", "mask")}
    return {
        "packs": list(live.packs) or [""],
        "cloud_source": "points" if live.cloud_topic else "none",
        "image_transport": "raw" if live.image_topic else "none",
        "status_period": 0.5,
        "qos_overrides": profiles,
        **live.parameters,
    }


def _environment(domain: int) -> dict[str, str]:
    """This process's environment on a domain of its own, reachable from this machine only."""
    paths = [str(Path(entry).parent) for entry in list(geoseg_ros.__path__)[:1]]
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_STATIC_PEERS": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
    }
