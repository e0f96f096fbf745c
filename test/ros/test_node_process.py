"""The node as a process of its own: start, answers across processes, signals, exit codes."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from geoseg_ros.ros.coseg_node import main
from support.dds_environment import DDS_ENVIRONMENT
from support.fake_pipeline import factory
from support.paths import PYTHONPATH, ROOT
from support.ros_cases import image_message, large_cloud_message, picture

pytestmark = pytest.mark.dds

RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class NodeProcess:
    """``coseg_node`` with the pipeline of thresholds; ``lines`` is what it printed."""

    def __init__(self, *arguments):
        path = os.pathsep.join([PYTHONPATH, os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **DDS_ENVIRONMENT, "PYTHONPATH": path}
        command = [sys.executable, str(ROOT / "test" / "support" / "fake_pipeline.py"), *(["--ros-args"] if arguments else []), *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self._reader.start()

    def wait_ready(self, text="ready:"):
        end = time.monotonic() + 20
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None and time.monotonic() < end, self.lines
            time.sleep(0.02)

    def end(self):
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def process():
    started = []

    def start(*arguments):
        started.append(NodeProcess(*arguments))
        return started[-1]

    yield start
    for entry in started:
        entry.kill()


@pytest.mark.parametrize(
    ("arguments", "said", "number", "times"),
    [
        ((), "ready:", signal.SIGINT, 1),
        ((), "ready:", signal.SIGINT, 3),  # ros2 launch may send more than one
        (("-p", "autostart:=false"), "unconfigured", signal.SIGTERM, 2),
        (("-p", "packs:=[slow.pack]"), "vision_msgs", signal.SIGINT, 2),  # while it opens the packs
    ],
)
def test_signals_end_it_cleanly_in_every_state(process, arguments, said, number, times):
    node = process(*arguments)
    node.wait_ready(said)
    for _ in range(times):
        node.process.send_signal(number)
        time.sleep(0.01)
    assert node.end() == 0
    assert ("ready:" in "".join(node.lines)) == (said == "ready:")
    assert not any("Traceback" in line or "Error" in line or "terminate" in line for line in node.lines), node.lines


@pytest.fixture
def client():
    """A node of this process, and what spins it."""
    context = Context()
    rclpy.init(context=context)
    node = Node("client", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.mark.parametrize(("labels", "number"), [(("configure",), signal.SIGINT), (("configure", "shutdown"), signal.SIGTERM)])
def test_signals_end_it_cleanly_where_a_manager_left_it(process, client, labels, number):
    """Inactive, and finalized."""
    node, (asking, executor) = process("-p", "autostart:=false"), client
    service = asking.create_client(ChangeState, "/coseg_node/change_state")
    assert service.wait_for_service(20)
    for label in labels:
        asked = service.call_async(ChangeState.Request(transition=Transition(label=label)))
        executor.spin_until_future_complete(asked, 20)
        assert asked.result().success
    assert node.process.poll() is None
    for _ in range(2):
        node.process.send_signal(number)
        time.sleep(0.01)
    assert node.end() == 0
    assert not any("Traceback" in line or "Error" in line or "terminate" in line for line in node.lines), node.lines


def test_a_bad_start_is_one_line_and_exit_code_2(process):
    node = process("-p", "pack:=a")
    assert node.end() == 2
    assert len(node.lines) == 1 and "parameter pack: unknown, did you mean packs?" in node.lines[0]


@pytest.fixture
def keep_signals():
    """``main`` ignores signals at its end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["-p", "pipeline.unheard_of:=1"], 2, "parameter pipeline.unheard_of: unknown"),
        (["-p", "max_points:=0"], 2, "parameter max_points: "),
        (["-p", "max_points:=lots"], 2, "parameter max_points: expected integer, got 'lots'"),
        (["-p", "packs:=[1, 2]"], 2, "parameter packs: expected string array, got"),
        (["-p", "device:=tpu"], 2, "parameter device: expected one of auto, cpu, cuda"),
        (["-p", "packs:=[missing.pack]"], 2, "missing.pack: no such file"),
        (["-p", "wanted_labels:=[tall]"], 2, "wanted_labels: no concept tall, expected some of red, high"),
        (["-p", "qos_overrides./coseg_node/points.subscription.reliability:=maybe"], 1, "maybe"),
        (["-p", "nothing"], 1, "nothing"),
        (["--params-file", "does_not_exist.yaml"], 1, "does_not_exist.yaml"),
    ],
)
def test_bad_starts(keep_signals, capfd, arguments, code, line):
    assert main(["--ros-args", *arguments], factory) == code
    lines = capfd.readouterr().err.splitlines()
    told = [text for text in lines if "[coseg_node]" in text and ("[FATAL]" in text or "[ERROR]" in text)]
    assert len(told) == 1 and line in told[0]


def test_answers_across_processes_until_terminated(process, client):
    node = process(
        "-p", "qos_overrides./coseg_node/points.subscription.reliability:=reliable",
        "-p", "qos_overrides./coseg_node/image.subscription.reliability:=reliable",
    )  # fmt: skip
    client, executor = client
    clouds, masks = [], []
    client.create_subscription(PointCloud2, "/coseg_node/points_labeled", clouds.append, RELIABLE)
    client.create_subscription(Image, "/coseg_node/mask", masks.append, RELIABLE)
    send_cloud = client.create_publisher(PointCloud2, "/coseg_node/points", RELIABLE)
    send_image = client.create_publisher(Image, "/coseg_node/image", RELIABLE)
    node.wait_ready()
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 2, (100_000, 3)).astype(np.float32)
    cloud = large_cloud_message(xyz, frame="os_lidar", stamp=(5, 6))
    image = image_message(picture(480, 640), "rgb8", frame="front", stamp=(9, 10))
    end = time.monotonic() + 20
    while not (clouds and masks):
        assert time.monotonic() < end and node.process.poll() is None, node.lines
        if not clouds and send_cloud.get_subscription_count():
            send_cloud.publish(cloud)
        if not masks and send_image.get_subscription_count():
            send_image.publish(image)
        stop = time.monotonic() + 0.3
        while time.monotonic() < stop and not (clouds and masks):
            executor.spin_once(timeout_sec=0.05)
    answer = clouds[0]
    assert answer.header == cloud.header and masks[0].header == image.header
    rows = np.frombuffer(answer.data, np.float32).reshape(-1, 7)
    np.testing.assert_array_equal(rows[:, :3], xyz)
    np.testing.assert_array_equal(rows.view(np.uint32)[:, 4], np.where(xyz[:, 2] > 1, 2, 0))
    assert np.frombuffer(masks[0].data, np.uint8).sum() == 480 * 320
    node.process.send_signal(signal.SIGTERM)
    assert node.end() == 0
