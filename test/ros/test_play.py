"""``geoseg play``: a recording goes over real DDS into another process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.recordings import PlayConfig, Recording, RecordingWriter
from support.paths import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2")

pytestmark = pytest.mark.dds


ENVIRONMENT = {
    **os.environ,
    "ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", "51"),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_STATIC_PEERS": "127.0.0.1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}
# Prints the digests of all messages of some topics, and the last time on /clock, once nothing has come for two seconds.
SUBSCRIBER = """
import hashlib, importlib, json, sys, time
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
rclpy.init()
node = rclpy.create_node("subscriber")
got, state = {}, {"last": time.monotonic() + 20, "clock": 0.0}
def listen(topic, kind, durability):
    package, _, name = kind.split("/")
    got[topic] = []
    def keep(data):
        got[topic].append(hashlib.sha256(data).hexdigest())
        state["last"] = time.monotonic()
    qos = QoSProfile(depth=50, durability=getattr(DurabilityPolicy, durability))
    node.create_subscription(getattr(importlib.import_module(package + ".msg"), name), topic, keep, qos, raw=True)
for argument in sys.argv[1:]:
    listen(*argument.split("="))
def tell(message):
    state["clock"] = message.clock.sec + 1e-9 * message.clock.nanosec
node.create_subscription(Clock, "/clock", tell, 10)
while time.monotonic() < state["last"] + 2:
    rclpy.spin_once(node, timeout_sec=0.1)
print(json.dumps({"got": got, "clock": state["clock"]}))
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test, whatever happens."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(processes: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes.append(process)
    return process


def write_bag(path: Path) -> Path:
    rng = np.random.default_rng(1)
    with RecordingWriter(path) as writer:
        text = writer.types.types["std_msgs/msg/String"](data="kept for those coming late!")  # 4 n - 1 letters: DDS adds no padding
        writer.write_message("/info", 10**9, text, latched=True)
        for i in range(5):
            writer.write_cloud("/points", 10**9 + i * 10**8, "lidar", Cloud(rng.random((20_000, 3), np.float32)))
            writer.write_image("/image", 10**9 + i * 10**8, "camera", rng.integers(0, 256, (240, 320, 3), np.uint8))
    return path


def digests(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with Recording(path) as recording:
        for message in recording.messages():
            found.setdefault(message.topic, []).append(hashlib.sha256(message.data).hexdigest())
    return found


def test_every_message_arrives_unchanged(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    bag = write_bag(tmp_path / "bag")
    subscriber = start(
        processes, "-c", SUBSCRIBER, "/renamed=sensor_msgs/msg/PointCloud2=VOLATILE", "/image=sensor_msgs/msg/Image=VOLATILE",
        "/info=std_msgs/msg/String=TRANSIENT_LOCAL",
    )  # fmt: skip
    begin = time.monotonic()
    player = start(
        processes, "-m", "geoseg_ros.cli", "play", str(bag), "--wait", "1", "--clock", "--rate", "0.5",
        "--remap", "/points:=/renamed", "--json",
    )  # fmt: skip
    assert player.stdout is not None
    report = json.loads(player.stdout.readline() or "{}")
    while player.poll() is None:  # ros2 launch may interrupt it while Python ends
        player.send_signal(signal.SIGINT)
        time.sleep(0.002)
    assert player.returncode == 0, player.communicate()[1]
    assert time.monotonic() - begin > 0.8, "0.4 s at half the speed"
    assert report["published"] == {"/renamed": 5, "/image": 5, "/info": 1} and not report["stopped"]
    received = json.loads(subscriber.communicate(timeout=40)[0])
    expected = digests(bag)
    assert received["got"] == {"/renamed": expected["/points"], "/image": expected["/image"], "/info": expected["/info"]}
    assert received["clock"] == pytest.approx(1.4, abs=0.06)


def test_two_topics_change_their_names(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    """ROS reads command lines too; it must not apply the rules of --remap to names that were remapped already."""
    remap = ("--remap", "/info:=/image", "/image:=/info")
    player = start(processes, "-m", "geoseg_ros.cli", "play", str(write_bag(tmp_path / "bag")), "--rate", "100", *remap, "--json")
    text, errors = player.communicate(timeout=60)
    assert json.loads(text)["published"] == {"/image": 1, "/info": 5, "/points": 5}
    assert "deprecated" not in errors


def test_the_last_messages_have_time_to_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads with best effort acknowledges nothing, and what is under way is lost with the process that sent it."""
    from geoseg_ros.ros import player

    done: list[tuple[str, float]] = []

    class Quiet:
        topic_name = "/image"

        def get_subscription_count(self) -> int:
            return 0

        def publish(self, data: bytes) -> None:
            done.append(("published", time.monotonic()))

        def wait_for_all_acked(self, timeout: object) -> None:
            done.append(("acknowledged", time.monotonic()))

    monkeypatch.setattr(player, "_SETTLE", 0.2)
    stop = threading.Event()
    node = SimpleNamespace(create_publisher=lambda *_: Quiet())
    with Recording(write_bag(tmp_path / "bag")) as recording:
        report = player._Player(node, recording, PlayConfig(topics=("/image",), rate=100.0), stop).run(None)
    assert [what for what, _ in done] == ["published"] * 5 + ["acknowledged"]
    assert time.monotonic() - done[-1][1] >= 0.2 and report.published == {"/image": 5}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_loop_cleanly(tmp_path: Path, processes: list[subprocess.Popen[str]], number: signal.Signals) -> None:
    player = start(processes, "-m", "geoseg_ros.cli", "play", str(write_bag(tmp_path / "bag")), "--loop", "--topics", "/image", "--json")
    assert player.stderr is not None and "playing /image" in player.stderr.readline()
    time.sleep(1.2)
    player.send_signal(number)
    out, err = player.communicate(timeout=20)
    assert player.returncode == 0 and err == ""
    report = json.loads(out)
    assert report["stopped"] and list(report["published"]) == ["/image"] and report["published"]["/image"] > 6


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing"], 2, "does not exist"),
        (["bag", "--topics", "/nothing"], 2, "no topic /nothing"),
        (["bag", "--remap", "points"], 2, "--remap"),
        (["bag", "--rate", "0"], 2, "rate"),
        (["bag", "--wait", "1", "--wait-seconds", "0.2", "--topics", "/info"], 1, "/info: fewer than 1 subscribers"),
        (["foreign", "--topics", "/tf"], 2, "tf2_msgs/msg/TFMessage is not installed"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    if arguments[0] == "foreign":
        if __import__("importlib.util").util.find_spec("tf2_msgs"):
            pytest.skip("tf2_msgs is installed here")
        with RecordingWriter(tmp_path / "foreign") as writer:
            writer.write_message("/tf", 1, writer.types.types["tf2_msgs/msg/TFMessage"](transforms=[]))
    elif arguments[0] == "bag":
        write_bag(tmp_path / "bag")
    command = [sys.executable, "-m", "geoseg_ros.cli", "play", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code and text in last and "Traceback" not in done.stderr
