"""The live node and input that is bad, late, lost or silent, over DDS."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.ros.worker import Throttle
from support.fake_pipeline import FakePipeline
from support.ros_cases import (
    bad_clouds,
    bad_compressed,
    bad_images,
    cloud_message,
    compressed_message,
    image_message,
    labels_of,
    large_cloud_message,
    picture,
    points,
)

pytestmark = pytest.mark.dds


def test_bad_input_is_counted_and_named_and_the_node_lives_on(live):
    node = live(max_points=4_000_000)
    cases = [("points", "cloud", name, *case) for name, case in bad_clouds().items()]
    cases += [("image", "image", name, *case) for name, case in bad_images().items()]
    large = large_cloud_message(np.zeros((5_000_000, 3)))
    cases.append(("points", "cloud", "5M points", large, "5000000 points, expected at most 4000000"))
    for topic, stream, name, message, line in cases:
        node.node.worker.throttle = Throttle()  # so that cases which differ in numbers only are all told
        node.lines.clear()
        before = node.counts(stream)
        node.send_and_wait(topic, message, stream)
        after = node.counts(stream)
        assert (after.rejected, after.processed) == (before.rejected + 1, before.processed), name
        node.wait(lambda: node.lines)
        assert len(node.lines) == 1 and line in node.lines[0] and f"/coseg_node/{topic}: " in node.lines[0], (name, node.lines)
        assert node.node.worker.is_alive()
    node.lines.clear()

    good = {
        "empty": PointCloud2(),
        "all NaN": cloud_message({"x": [float("nan")] * 4, "y": [0.0] * 4, "z": [2.0] * 4}),
        "float64": cloud_message(points(), [("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)], 24),
        "big-endian": cloud_message(points(), big=True),
        "organised with padding": cloud_message(points(), shape=(2, 3), row_padding=12),
    }
    expected = {"empty": [], "all NaN": [0, 0, 0, 0]}
    for name, message in good.items():
        node.received["points_labeled"].clear()
        node.send("points", message)
        node.wait(lambda: node.received["points_labeled"])
        assert labels_of(node.received["points_labeled"][0]) == expected.get(name, [0, 2, 0, 2, 0, 2]), name
    for name, message in {
        "1x1": image_message(np.full((1, 1, 3), (255, 0, 0), np.uint8), "rgb8"),
        "bayer": image_message(np.zeros((8, 8), np.uint8), "bayer_rggb8"),
        "good": image_message(picture(), "rgb8"),
    }.items():
        node.received["mask"].clear()
        node.send("image", message)
        node.wait(lambda: node.received["mask"])
        assert node.received["mask"][0].width == message.width, name
    assert node.lines == []
    for stream in ("cloud", "image"):
        counts = node.counts(stream)
        assert counts.received == counts.processed + counts.rejected and counts.dropped == 0


def test_bad_compressed_input(live):
    node = live(image_transport="compressed")
    for name, (message, line) in bad_compressed().items():
        node.node.worker.throttle = Throttle()
        node.lines.clear()
        node.send_and_wait("image/compressed", message, "image")
        node.wait(lambda: node.lines)
        assert len(node.lines) == 1 and line in node.lines[0], name
    assert node.counts("image").rejected == len(bad_compressed())
    message = compressed_message(picture(), ".png", "png")
    node.send("image/compressed", message)
    node.wait(lambda: node.received["mask"])
    assert node.received["mask"][0].header == message.header and sum(node.received["mask"][0].data) == 24 * 16


def test_the_same_fault_is_logged_once(live):
    node = live()
    for i in range(5):
        node.send_and_wait("points", cloud_message(points(), width=10 + i), "cloud")
    node.send_and_wait("points", cloud_message(points()), "cloud")
    node.wait(lambda: node.received["points_labeled"] and node.lines)
    assert node.counts("cloud").rejected == 5 and len(node.lines) == 1


def test_a_failing_pipeline_does_not_end_the_node(live):
    pipeline = FakePipeline()
    node = live(pipeline)
    pipeline.error = RuntimeError("the network\nexploded")
    for _ in range(3):
        node.send_and_wait("points", cloud_message(points()), "cloud")
    pipeline.error = None
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"] and node.lines)
    assert node.counts("cloud").rejected == 3
    assert len(node.lines) == 1 and "RuntimeError at fake_pipeline.py:" in node.lines[0] and "the network exploded" in node.lines[0]


def test_silent_inputs_are_named(live):
    other = Context()  # one participant cannot hold two types of a topic
    rclpy.init(context=other)
    stranger = Node("stranger", context=other)
    stranger.create_publisher(String, "/coseg_node/image", 1)
    node = live(status_period=0.1)
    node.client.destroy_publisher(node._publishers["image"])
    seen = node.node.get_publishers_info_by_topic  # silence is named once in half a minute: not before all publishers are known
    node.wait(lambda: [p.node_name for p in seen("/coseg_node/image")] == ["stranger"])
    assert node.set_one("input_timeout", 0.8)[0]
    node.wait(lambda: len(node.lines) >= 2)
    cloud = next(line for line in node.lines if "/points" in line)
    image = next(line for line in reversed(node.lines) if "/image" in line)
    assert "/coseg_node/points: no input for" in cloud and "1 publisher (client: sensor_msgs/msg/PointCloud2 reliable)" in cloud
    assert "1 publisher (stranger: std_msgs/msg/String reliable)" in image and "expected type sensor_msgs/msg/Image" in image
    said = len(node.lines)
    time.sleep(0.3)
    assert len(node.lines) == said, "said once"
    levels = {status.name: status.level for status in node.diagnostics[-1].status}
    assert levels["coseg_node: cloud"] == b"\x01" and levels["coseg_node: pipeline"] == b"\0"
    node.send("points", cloud_message(points()))
    node.wait(lambda: {s.name: s.level for s in node.diagnostics[-1].status}["coseg_node: cloud"] == b"\0")
    stranger.destroy_node()
    rclpy.try_shutdown(context=other)


def test_losses_on_the_way_are_named(live):
    node = live(status_period=0.1)

    def cloud_status():
        return next(s for s in node.diagnostics[-1].status if s.name == "coseg_node: cloud")

    node.wait(lambda: node.diagnostics)
    node.node.inputs.streams["cloud"].lose(7)
    node.wait(lambda: node.lines)
    assert node.lines == ["/coseg_node/points: 7 messages lost on the way"]
    node.wait(lambda: {v.key: v.value for v in cloud_status().values}["lost"] == "7")
    node.wait(lambda: cloud_status().level == b"\0")
    node.node.inputs.streams["cloud"].lose(9)
    node.wait(lambda: cloud_status().level == b"\x01" and "9 lost on the way" in cloud_status().message)
    assert len(node.lines) == 1


def test_parameters_are_refused_with_a_reason(live):
    node = live()
    for name, value, reason in (
        ("wanted_labels", ["red", "tall"], "no concept tall, expected some of red, high"),
        ("max_points", 0, "out of range"),
        ("max_points", 2.5, "Wrong parameter type"),
        ("input_timeout", float("nan"), "out of range"),
        ("device", "cpu", "read-only"),
        ("packs", ["a.pack"], "pack 'a.pack': no such file"),
    ):
        result = node.node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful and reason in result.reason, (name, result.reason)
    taken, reason = node.set_one("pack", ["a.pack"])
    assert not taken and "undeclared" in reason
    assert node.node.parameters.max_points == codec.MAX_POINTS and node.node.parameters.wanted_labels == ()
    assert node.node.set_parameters([Parameter("max_points", value=5)])[0].successful
    node.send_and_wait("points", cloud_message(points()), "cloud")
    assert node.counts("cloud").rejected == 1
    assert node.node.describe_parameter("max_points").description
    assert node.node.describe_parameter("device").additional_constraints == "one of: auto, cpu, cuda"


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"pack": ["a"]}, "parameter pack: unknown, did you mean packs?"),
        ({"max_points": 0}, "parameter max_points: .*out of range"),
        ({"max_points": "many"}, "parameter max_points: expected integer, got 'many'"),
        ({"input_timeout": 3}, "parameter input_timeout: expected double, got 3"),
        ({"device": "tpu"}, "parameter device: expected one of auto, cpu, cuda, got 'tpu'"),
        ({"image_transport": "none", "cloud_source": "none"}, "both are none"),
    ],
)
def test_bad_parameters_at_the_start(live, parameters, line):
    with pytest.raises(InputError, match=line):
        live(**parameters)


def test_lists_may_be_empty(live):
    node = live(packs=[""], wanted_labels=["high"])
    assert node.node.parameters.packs == () and node.node.parameters.wanted_labels == ("high",)
