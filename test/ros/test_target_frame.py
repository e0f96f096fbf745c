"""Obstacles and objects in the target frame."""

import numpy as np
import pytest

pytest.importorskip("rclpy")


from geoseg_ros.io import messages as codec
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros.message_types import InstalledTypes
from support import fake_tf
from support.ros_cases import cloud_message, points

pytestmark = pytest.mark.dds


TYPES = InstalledTypes()


def test_obstacles_and_objects_go_to_the_target_frame(live, monkeypatch):
    messages = pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")
    monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    node = live(listen=("points_labeled", "points_obstacles"), target_frame="odom")
    node.node.worker.frames._buffer.set_transform(fake_tf.transform(100.0), "test")
    node.listen("objects", messages.CosegObjectArray)
    early = cloud_message(points(), stamp=(50, 0))
    node.send("points", early)
    node.wait(lambda: node.received["points_labeled"] and node.lines)
    assert len(node.lines) == 1 and "no transform from 'lidar' to 'odom': Lookup would require extrapolation" in node.lines[0]
    assert node.received["points_obstacles"] == [] == node.received["objects"]
    node.node.inputs.streams["cloud"].watch(3600.0, 0)
    status = next(s for s in node.node.diagnostics.report().status if s.name == "coseg_node: cloud")
    level, message, told = status.level, status.message, {v.key: v.value for v in status.values}
    assert level == b"\x01" and message.endswith("1 without transform") and told["unplaced"] == "1" and told["processed"] == "1"
    sent = cloud_message(points(), stamp=(100, 0))
    node.send("points", sent)
    node.wait(lambda: node.received["objects"] and node.received["points_obstacles"])
    obstacles, objects = node.received["points_obstacles"][0], node.received["objects"][0]
    assert obstacles.header.frame_id == objects.header.frame_id == "odom" and obstacles.header.stamp == sent.header.stamp
    assert node.received["points_labeled"][1].header == sent.header, "the labelled cloud stays as it came"
    x, y, z = codec.cloud_from_message(sent).xyz[1::2].T
    np.testing.assert_allclose(codec.cloud_from_message(obstacles).xyz, np.stack([1 - y, x, z + 2], 1), atol=1e-6)
    center, turn = objects.objects[0].center.position, objects.objects[0].center.orientation
    np.testing.assert_allclose([center.x, center.y, center.z], [1 - 2, 1, 5])
    np.testing.assert_allclose(np.abs([turn.z, turn.w]), [1, 0], atol=1e-6)  # two quarter turns


def test_without_tf_the_sensor_frame_stays(live, monkeypatch):
    monkeypatch.setattr(frames, "tf2_ros", None)
    node = live(listen=("points_obstacles",), target_frame="odom")
    message = cloud_message(points())
    node.send("points", message)
    node.wait(lambda: node.received["points_obstacles"])
    assert node.received["points_obstacles"][0].header == message.header and node.node.worker.frames.target == ""
