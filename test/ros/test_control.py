"""What one node does in the course of its life: pause, other packs or none, silent inputs, what it tells and draws."""

import json
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from std_srvs.srv import SetBool
from visualization_msgs.msg import Marker

from geoseg_ros.errors import InputError
from geoseg_ros.results import LabelSpace
from geoseg_ros.ros import diagnostics
from support.fake_pipeline import FakePipeline
from support.live_node import LiveNode
from support.ros_cases import cloud_message, image_message, picture, points

pytestmark = pytest.mark.dds


def values(node, stream):
    """What the diagnostics say of a stream: (level, message, values)."""
    status = next(s for s in node.node.diagnostics.report().status if s.name == f"coseg_node: {stream}")
    return status.level, status.message, {v.key: v.value for v in status.values}


class Packs:
    """A pipeline factory: packs are their names. ``go`` lets it open them; ``bad`` cannot be opened."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()

    @staticmethod
    def check(packs):
        if "missing" in packs:
            raise InputError("pack 'missing': no such file")
        return tuple(packs)

    def __call__(self, parameters):
        assert self.go.wait(10)
        if "bad" in parameters.packs:
            raise RuntimeError("out of memory")
        pipeline = FakePipeline()
        pipeline.labels = LabelSpace(parameters.packs)
        pipeline.pack_versions = ["1"] * len(parameters.packs)
        return pipeline


def names(node):
    return list(node.node.worker.pipeline.labels.names)


def back(node):
    """To the packs that the tests begin with."""
    assert node.set_one("wanted_labels", []) == (True, "") and node.set_one("packs", ["red", "high"]) == (True, "")
    node.wait(lambda: node.node.worker.pipeline is not None and names(node) == ["red", "high"])


@pytest.fixture(scope="module")
def packs():
    return Packs()


@pytest.fixture(scope="module")
def one_node(packs):
    """All tests share a node, and leave it as they found it."""
    node = LiveNode(packs, ("points_labeled", "mask", "markers"), packs.check, packs=["red", "high"], status_period=0.1)
    yield node
    node.close()


@pytest.fixture
def node(one_node):
    one_node.lines.clear()
    for messages in one_node.received.values():
        messages.clear()
    return one_node


def test_a_paused_node_counts_and_forgets(node):
    answer = node.call(SetBool, "pause", SetBool.Request(data=True))
    assert answer.success and answer.message == "paused"
    for i in range(3):
        node.send("points", cloud_message(points()))
        node.wait(lambda i=i: node.node.inputs.streams["cloud"].paused == i + 1)
    assert node.counts("cloud").received == 0 and values(node, "pipeline")[1] == "paused"
    assert values(node, "cloud")[2]["paused"] == "3"
    assert node.call(SetBool, "pause", SetBool.Request(data=False)).message == "running"
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    assert len(node.received["points_labeled"]) == 1 and values(node, "pipeline")[1] == "running"


def test_boxes_for_rviz(node):
    message = cloud_message(points(), frame="os_lidar")
    node.send("points", message)
    node.wait(lambda: node.received["markers"])
    clear, box, text = node.received["markers"][0].markers
    assert clear.action == Marker.DELETEALL and box.type == Marker.CUBE and text.type == Marker.TEXT_VIEW_FACING
    assert box.header == message.header and (box.scale.x, box.scale.z) == (0.1, 0.3) and text.text == "high"
    assert text.pose.position.z > box.pose.position.z + 0.15
    expected = FakePipeline().labels.palette()[2] / 255
    np.testing.assert_allclose([box.color.r, box.color.g, box.color.b], expected, atol=1e-6)
    node.send("points", message)
    node.wait(lambda: len(node.received["markers"]) == 2)
    assert node.received["markers"][1].markers[2].text == "high 1"


def test_stages_presence_age_and_memory_are_told(node):
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    node.send_and_wait("image", image_message(np.zeros((4, 4, 3), np.uint8), "rgb8"), "image")
    node.send_and_wait("points", cloud_message(points()), "cloud")
    _, message, told = values(node, "image")
    assert "Hz" in message and 0 <= float(told["age_s"]) < 10
    assert all(0 <= float(told[f"{s}_p50_ms"]) <= float(told[f"{s}_p95_ms"]) for s in ("decode", "pipeline", "publish"))
    assert told["presence_rate red"] == "0.500"
    assert "tracking_p95_ms" in values(node, "cloud")[2]
    assert 20 < float(values(node, "pipeline")[2]["memory_mib"]) < 100_000 and values(node, "pipeline")[2]["state"] == "active"


def test_messages_that_cannot_be_read_are_a_warning_while_they_come(node):
    def cloud():
        return next(s for s in node.diagnostics[-1].status if s.name == "coseg_node: cloud")

    node.wait(lambda: node.diagnostics and cloud().level == b"\0")
    node.send_and_wait("points", cloud_message(points(), point_step=12), "cloud")
    node.wait(lambda: any(s.level == b"\x01" and "1 rejected" in s.message for m in node.diagnostics for s in m.status))
    node.wait(lambda: cloud().level == b"\0" and "rejected" not in cloud().message)


def test_packs_change_while_the_node_works(node, packs):
    packs.go.clear()
    assert node.set_one("packs", ["red", "high", "mug"]) == (True, "")
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    assert names(node) == ["red", "high"], "the old ones work until the new ones are open"
    assert node.set_one("packs", ["mug"]) == (False, "packs: others are being opened, try again later")
    assert node.set_one("pipeline.coseg.p_max", 0.01) == (True, "")
    assert node.node.worker.pipeline.config.coseg.p_max == 0.01
    assert values(node, "pipeline")[1] == "opening packs"
    packs.go.set()
    node.wait(lambda: names(node) == ["red", "high", "mug"])
    node.wait(lambda: "mug" in node.labels[-1])
    assert values(node, "pipeline")[1:] == ("running", values(node, "pipeline")[2])
    assert node.node.worker.pipeline.config.coseg.p_max == 0.01, "also of packs that were being opened"
    assert node.set_one("wanted_labels", ["mug"]) == (True, "")
    assert node.set_one("packs", ["red", "high"])[1] == "wanted_labels: no concept mug, expected some of red, high"
    node.received["points_labeled"].clear()
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    back(node)


def test_bad_packs_leave_the_old_ones(node):
    assert node.set_one("packs", ["missing"]) == (False, "packs: pack 'missing': no such file")
    assert node.set_one("packs", ["bad"]) == (True, "")  # looks right, and fails later
    node.wait(lambda: node.lines)
    assert len(node.lines) == 1 and "out of memory; the old ones stay" in node.lines[0]
    assert node.node.get_parameter("packs").value == ["red", "high"] and node.node.parameters.packs == ("red", "high")
    assert names(node) == ["red", "high"] and node.set_one("packs", ["red"]) == (True, "")
    node.wait(lambda: names(node) == ["red"])
    back(node)


def test_without_packs_it_idles_until_it_gets_some(node):
    for nothing in ([""], []):  # a list of booleans: what `ros2 param set ... "[]"` sends, too
        assert node.set_one("packs", nothing) == (True, "")
        assert node.node.worker.pipeline is None and values(node, "pipeline")[1] == "idle, no packs"
        node.wait(lambda: [row["name"] for row in json.loads(node.labels[-1])] == ["none"])
        node.send_and_wait("points", cloud_message(points()), "cloud")
        assert node.received["points_labeled"] == [] == node.lines
        assert node.set_one("packs", ["missing"]) == (False, "packs: pack 'missing': no such file")
        back(node)
        node.send("points", cloud_message(points()))
        node.wait(lambda: node.received["points_labeled"])
        node.received["points_labeled"].clear()
        assert values(node, "pipeline")[1] == "running" and names(node) == ["red", "high"]


def test_silence_after_an_input_was_back_is_told_again(node):
    def silences():
        return [line for line in node.lines if line.startswith("/coseg_node/points: no input for ")]

    node.send_and_wait("points", cloud_message(points()), "cloud")
    assert node.set_one("input_timeout", 0.4) == (True, "")
    node.wait(silences)
    node.send_and_wait("points", cloud_message(points()), "cloud")
    node.wait(lambda: not node.node.inputs.streams["cloud"].silent)
    node.wait(lambda: len(silences()) == 2)
    assert node.set_one("input_timeout", 3600.0) == (True, "")


def test_a_node_of_the_same_name_is_told(node, monkeypatch):
    monkeypatch.setattr(diagnostics, "_NAMESAKE", 0.3)
    elsewhere = Node("coseg_node", context=node.context, namespace="/robot", enable_rosout=False)
    other = None
    try:
        node.wait(lambda: ("coseg_node", "/robot") in node.node.get_node_names_and_namespaces())
        time.sleep(0.6)
        assert node.lines == [], "another namespace is another name"
        other = Node("coseg_node", context=node.context, enable_rosout=False)
        node.wait(lambda: node.lines)
        assert node.lines == ["another node is named /coseg_node: services and topics mix; give one a name or a namespace of its own"]
    finally:
        for namesake in filter(None, (elsewhere, other)):
            namesake.destroy_node()
