"""Obstacles and objects in the target frame."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages.results import labelled_cloud
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros.message_types import InstalledTypes
from support import fake_tf
from support.live_node import LATCHED
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


def test_the_map_stays_after_a_restart(live, monkeypatch, tmp_path):
    monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    options = {"target_frame": "odom", "map.enabled": True, "map.file": str(tmp_path / "home.map"), "map.voxel": 0.5}
    node = live(listen=(), **options)
    node.node.worker.frames._buffer.set_transform(fake_tf.transform(100.0), "test")
    sent = cloud_message(points(), stamp=(100, 0))
    node.send_and_wait("points", sent, "cloud")
    saved = node.call(Trigger, "save_map", Trigger.Request())
    assert saved.success and saved.message.endswith(" voxels")
    node.close()
    again = live(listen=(), **options)
    found = []
    again.client.create_subscription(PointCloud2, "/coseg_node/map_labeled", found.append, LATCHED)
    again.wait(lambda: any(message.width for message in found))
    cloud, label = labelled_cloud(found[-1])
    x, y, z = codec.cloud_from_message(sent).xyz[1::2].T
    voxels = np.unique(np.floor(np.stack([1 - y, x, z + 2], 1) / 0.5), axis=0)
    assert found[-1].header.frame_id == "odom" and found[-1].header.stamp.sec == 100 and set(label) == {2}
    np.testing.assert_allclose(np.unique(cloud.xyz, axis=0), (voxels + 0.5) * 0.5, atol=1e-5)


def test_a_map_needs_a_frame_that_stands_still(monkeypatch, live):
    with pytest.raises(InputError, match=r"map\.enabled: needs target_frame"):
        live(**{"map.enabled": True})
    monkeypatch.setattr(frames, "tf2_ros", None)
    with pytest.raises(InputError, match=r"map\.enabled: needs tf2_ros"):
        live(**{"map.enabled": True, "target_frame": "odom"})
    node = live(listen=())
    answer = node.call(Trigger, "save_map", Trigger.Request())
    assert not answer.success and "map.file" in answer.message
