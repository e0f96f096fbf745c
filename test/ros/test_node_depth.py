"""The live node with a depth camera instead of clouds, over DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from geoseg_ros.io import messages as codec
from support.fake_pipeline import FakePipeline
from support.live_node import LATCHED
from support.ros_cases import image_message, labels_of, picture

pytestmark = pytest.mark.dds


def test_depth_camera(live):
    node = live(listen=("points_labeled",), cloud_source="depth", image_transport="none")
    depth = image_message(np.array([[500, 1500], [0, 2000]], np.uint16), "16UC1", frame="optical", stamp=(50, 0))
    node.send_and_wait("depth", depth, "cloud")
    node.wait(lambda: node.lines)
    assert node.counts("cloud").rejected == 1 and "no camera_info has come" in node.lines[0]
    info = CameraInfo(width=2, height=2)
    info.k = np.array([2.0, 0, 0.5, 0, 2.0, 0.5, 0, 0, 1.0])
    node.send("camera_info", info)
    node.send("color", image_message(picture(2, 2), "rgb8", frame="optical", stamp=(50, 50_000_000)))
    node.wait(lambda: node.node.inputs.companion("~/camera_info") and node.node.inputs.companion("~/color"))
    node.send("depth", depth)
    node.wait(lambda: node.received["points_labeled"])
    answer = node.received["points_labeled"][0]
    assert answer.header == depth.header and (answer.height, answer.width) == (2, 2)
    assert labels_of(answer) == [0, 2, 0, 2]
    np.testing.assert_allclose(codec.cloud_from_message(answer).xyz[3], [0.5, 0.5, 2.0])
    late = image_message(picture(4, 4), "rgb8", frame="optical", stamp=(80, 0))  # of another time (and size): not used
    node.send("color", late)
    node.wait(lambda: node.node.inputs.companion("~/color").height == 4)
    node.send("depth", depth)
    node.wait(lambda: len(node.received["points_labeled"]) == 2)
    node.lines.clear()
    node.send("color", image_message(picture(3, 3), "rgb8", frame="color_optical", stamp=(50, 0)))  # not registered: not used
    node.wait(lambda: node.node.inputs.companion("~/color").height == 3)
    node.send("depth", depth)
    node.wait(lambda: len(node.received["points_labeled"]) == 3 and node.lines)
    assert "frame 'color_optical', depth in 'optical': not registered" in node.lines[0]
    bad = {
        "encoding 'mono8', expected one of 16UC1": image_message(np.ones((2, 2), np.uint8), "mono8", frame="optical"),
        "3 x 2, expected the 2 x 2": image_message(np.ones((2, 3), np.uint16), "16UC1", frame="optical"),
        "7 bytes of data, expected step 4": image_message(np.ones((2, 2), np.uint16), "16UC1", data=depth.data[:7]),
    }
    for line, message in bad.items():
        node.lines.clear()
        node.send_and_wait("depth", message, "cloud")
        node.wait(lambda: node.lines)
        assert len(node.lines) == 1 and line in node.lines[0]
    node.send_and_wait("depth", depth, "cloud")
    assert (node.counts("cloud").rejected, node.counts("cloud").dropped) == (1 + len(bad), 0)


def test_depth_takes_the_colour_of_its_time_from_before_or_after(live):
    class Seeing(FakePipeline):
        def __init__(self):
            super().__init__(delay=0.3)
            self.red = []

        def process_cloud(self, cloud):
            self.red.append(None if cloud.rgb is None else int(cloud.rgb[0, 0]))
            return super().process_cloud(cloud)

    pipeline = Seeing()
    node = live(pipeline, listen=("points_labeled",), cloud_source="depth", image_transport="none", color_max_age=0.02)

    def color(red, nanosec):
        node.send("color", image_message(np.full((2, 2, 3), red, np.uint8), "rgb8", frame="optical", stamp=(50, nanosec)))
        node.wait(lambda: (node.node.inputs.companion("~/color") or image).header.stamp.nanosec == nanosec)

    def depth(nanosec, count):
        node.send("depth", image_message(np.full((2, 2), 1500, np.uint16), "16UC1", frame="optical", stamp=(50, nanosec)))
        node.wait(lambda: node.counts("cloud").received == count)

    image = image_message(picture(2, 2), "rgb8")
    info = CameraInfo(width=2, height=2)
    info.k = np.array([2.0, 0, 0.5, 0, 2.0, 0.5, 0, 0, 1.0])
    node.send("camera_info", info)
    node.wait(lambda: node.node.inputs.companion("~/camera_info"))
    depth(0, 1)  # the worker is busy with it, without a colour
    node.wait(lambda: pipeline.calls["cloud"] == 1)
    color(10, 100_000_000)
    color(20, 133_000_000)
    depth(166_000_000, 2)
    color(30, 165_000_000)  # later than its depth image
    color(40, 198_000_000)
    node.wait(lambda: node.counts("cloud").processed == 2)
    depth(101_000_000, 3)
    node.wait(lambda: node.counts("cloud").processed == 3)
    depth(230_000_000, 4)  # no colour is that near
    node.wait(lambda: node.counts("cloud").processed == 4)
    assert pipeline.red == [None, 30, 10, None]


def test_colour_that_does_not_come_is_told_and_counted(live):
    node = live(listen=("points_labeled",), cloud_source="depth", image_transport="none")
    info = CameraInfo(width=2, height=2, d=[0.1, 0.0, 0.0, 0.0, 0.0])
    info.k = np.array([2.0, 0, 0.5, 0, 2.0, 0.5, 0, 0, 1.0])
    node.send("camera_info", info)
    node.send("color", image_message(picture(2, 2), "rgb8", frame="optical", stamp=(60, 0)))
    node.wait(lambda: node.node.inputs.companion("~/camera_info") and node.node.inputs.companion("~/color"))
    depth = image_message(np.array([[500, 1500], [0, 2000]], np.uint16), "16UC1", frame="optical", stamp=(50, 0))
    node.send_and_wait("depth", depth, "cloud")
    node.wait(lambda: len(node.lines) == 2)
    assert any("no colour image for it" in line and "the nearest is 10.000 s away" in line for line in node.lines)
    assert any("lens distortion" in line for line in node.lines)
    report = {status.name: status for status in node.node.diagnostics.report().status}
    values = {value.key: value.value for value in report["coseg_node: cloud"].values}
    assert values["uncoloured"] == "1" and float(values["color_age_s"]) == 10.0
    assert {"coseg_node: color", "coseg_node: camera_info"} <= set(report)
    assert {value.key: value.value for value in report["coseg_node: color"].values}["received"] == "1"


def test_what_was_sent_once_before_the_node_came_is_taken(live):
    """Calibration always; any other input where its durability is overridden."""
    context = Context()
    rclpy.init(context=context)
    driver = Node("driver", context=context)
    try:
        info = CameraInfo(width=2, height=2)
        info.k = np.array([2.0, 0, 0.5, 0, 2.0, 0.5, 0, 0, 1.0])
        sent = {"camera_info": info, "color": image_message(picture(2, 2), "rgb8", frame="optical", stamp=(50, 0))}
        publishers = {name: driver.create_publisher(type(message), f"/coseg_node/{name}", LATCHED) for name, message in sent.items()}
        for name, message in sent.items():
            publishers[name].publish(message)
        options = {"qos_overrides./coseg_node/color.subscription.durability": "transient_local"}
        node = live(listen=("points_labeled",), cloud_source="depth", image_transport="none", **options)
        node.wait(lambda: all(node.node.inputs.companion(f"~/{name}") for name in sent))
        node.send("depth", image_message(np.array([[500, 1500], [0, 2000]], np.uint16), "16UC1", frame="optical", stamp=(50, 0)))
        node.wait(lambda: node.received["points_labeled"])
        assert labels_of(node.received["points_labeled"][0]) == [0, 2, 0, 2] and node.counts("cloud").rejected == 0
        publishers["camera_info"].publish(info)
        companions = node.node.inputs.companions
        node.wait(lambda: companions["camera_info"].rate.started())
        assert (companions["camera_info"].received, companions["color"].received) == (2, 1), "each is counted once"
    finally:
        driver.destroy_node()
        rclpy.try_shutdown(context=context)
