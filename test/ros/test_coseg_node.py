"""The live node over DDS, with a pipeline of thresholds."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from geoseg_ros.io import messages as codec
from geoseg_ros.ros import diagnostics, inputs, message_types, publishers
from support.fake_pipeline import FakePipeline
from support.live_node import LATCHED, LiveNode
from support.ros_cases import XYZ, cloud_message, image_message, labels_of, large_cloud_message, picture, points

pytestmark = pytest.mark.dds

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks


def test_answers_keep_order_stamp_and_frame(live):
    node = live(listen=("points_labeled", "mask", "overlay"))
    columns = points(8)
    columns["x"][3] = float("nan")
    message = cloud_message(columns, shape=(2, 4), row_padding=4, frame="os_lidar", stamp=(123, 456))
    node.send("points", message)
    node.wait(lambda: node.received["points_labeled"])
    answer = node.received["points_labeled"][0]
    assert answer.header == message.header and (answer.height, answer.width) == (2, 4) and not answer.is_dense
    np.testing.assert_array_equal(codec.cloud_from_message(answer).xyz, codec.cloud_from_message(message).xyz)
    assert labels_of(answer) == [0, 2, 0, 0, 0, 2, 0, 2]  # point 3 is high, but invalid

    image = image_message(picture()[..., ::-1], "bgr8", padding=8, frame="front_camera", stamp=(321, 654))
    node.send("image", image)
    node.wait(lambda: node.received["mask"] and node.received["overlay"])
    mask = node.received["mask"][0]
    assert mask.header == image.header == node.received["overlay"][0].header and mask.encoding == "mono8"
    pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
    assert (pixels[:, :16] == 1).all() and (pixels[:, 16:] == 0).all()
    assert codec.image_from_message(node.received["overlay"][0]).shape == (24, 32, 3)


def test_five_million_points_are_answered(live):
    node = live()
    xyz = np.zeros((5_000_000, 3), np.float32)
    xyz[-1] = (1, 1, 2)
    node.send("points", large_cloud_message(xyz))
    node.wait(lambda: node.received["points_labeled"], 20)
    answer = node.received["points_labeled"][0]
    assert answer.width == 5_000_000 and len(answer.data) == 140_000_000 and answer.data[-12] == 2


def test_newest_wins_and_modalities_share(live):
    node = live(FakePipeline(delay=0.08))
    for i in range(20):
        node.send("image", image_message(picture(), "rgb8", stamp=(i, 0)))
        node.send("points", cloud_message(points(), stamp=(i, 0)))
        time.sleep(0.01)

    def done():
        return all(c.received == 20 == c.processed + c.dropped for c in map(node.counts, ("cloud", "image")))

    node.wait(done)
    # the last result of each stream may still be on its way
    node.wait(lambda: all(m and m[-1].header.stamp.sec == 19 for m in (node.received["mask"], node.received["points_labeled"])))
    for name, stream in (("points_labeled", "cloud"), ("mask", "image")):
        stamps = [m.header.stamp.sec for m in node.received[name]]
        assert stamps == sorted(stamps) and stamps[-1] == 19, "the newest must be answered"
        assert node.counts(stream).dropped > 5
    assert abs(node.counts("cloud").processed - node.counts("image").processed) <= 1


def test_nothing_is_computed_that_nobody_listens_to(live):
    pipeline = FakePipeline()
    node = live(pipeline, listen=())
    node.send_and_wait("points", cloud_message(points()), "cloud")
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    assert pipeline.calls == {"image": 0, "cloud": 0}
    assert node.counts("cloud").processed == node.counts("image").processed == 1
    node.send_and_wait("points", cloud_message(points(), point_step=12), "cloud")
    assert node.counts("cloud").rejected == 1, "bad input is seen without listeners too"
    subscription = node.listen("mask")
    node.send("image", image_message(picture(), "rgb8"))
    node.wait(lambda: node.received["mask"])
    assert pipeline.calls == {"image": 1, "cloud": 0}
    node.client.destroy_subscription(subscription)
    node.wait(lambda: not node.node._outputs.wanted(["mask", "overlay"]))
    node.listen("points_obstacles")
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_obstacles"])
    assert pipeline.calls == {"image": 1, "cloud": 1}


def test_obstacles_follow_the_wanted_labels(live):
    node = live(listen=("points_obstacles",))
    message = cloud_message(points(), frame="os_lidar")

    def obstacles():
        node.received["points_obstacles"].clear()
        node.send("points", message)
        node.wait(lambda: node.received["points_obstacles"])
        return node.received["points_obstacles"][0]

    first = obstacles()
    assert first.header == message.header and [f.name for f in first.fields] == ["x", "y", "z"]
    np.testing.assert_array_equal(codec.cloud_from_message(first).xyz, codec.cloud_from_message(message).xyz[1::2])
    assert node.node.set_parameters([Parameter("wanted_labels", value=["red"])])[0].successful
    assert obstacles().width == 0
    assert node.node.set_parameters([Parameter("wanted_labels", value=["red", "high"])])[0].successful
    assert obstacles().width == 3


def test_label_info_is_latched(live):
    node = live()
    late = []
    node.client.create_subscription(String, "/coseg_node/label_info", lambda m: late.append(m.data), LATCHED)
    node.wait(lambda: late and node.labels)
    rows = json.loads(late[0])
    assert [(row["id"], row["name"]) for row in rows] == [(0, "none"), (1, "red"), (2, "high")]
    assert rows[2]["color"] == FakePipeline().labels.palette()[2].tolist()


def test_objects_and_status(live):
    messages = pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")
    node = live(listen=("mask",), status_period=0.1)
    node.listen("objects", messages.CosegObjectArray)
    node.listen("status", messages.NodeStatus)
    message = cloud_message(points(), frame="os_lidar")
    node.send("points", message)
    node.send_and_wait("image", image_message(picture(), "unknown"), "image")
    node.wait(lambda: node.received["objects"])
    array = node.received["objects"][0]
    assert array.header == message.header
    entry = array.objects[0]
    assert (entry.label, entry.name, entry.instance, entry.point_count) == (2, "high", 1, 3)
    assert entry.confidence == 0.75 and entry.p_value == pytest.approx(0.01)
    assert (entry.center.position.x, entry.center.position.y, entry.center.position.z) == (1.0, 2.0, 3.0)
    half = np.sqrt(0.5)  # a quarter turn about z
    turn = entry.center.orientation
    np.testing.assert_allclose(np.array([turn.x, turn.y, turn.z, turn.w]) * np.sign(turn.w), [0, 0, half, half], atol=1e-6)
    assert (entry.size.x, entry.size.y, entry.size.z) == (0.1, 0.2, 0.3)

    def told():
        return node.received["status"] and [(s.processed, s.rejected) for s in node.received["status"][-1].streams] == [(1, 0), (0, 1)]

    node.wait(told)
    status = node.received["status"][-1]
    assert (status.backend, status.backbone, list(status.pack_names)) == ("fake", "none", ["red", "high"])
    cloud, image = status.streams
    assert (cloud.name, cloud.topic) == ("cloud", "/coseg_node/points")
    assert (cloud.received, cloud.processed, cloud.dropped, cloud.rejected) == (1, 1, 0, 0)
    assert 0 < cloud.latency_p50 <= cloud.latency_p95 < 10_000
    assert (image.received, image.rejected) == (1, 1) and np.isnan(image.latency_p50)


def test_detections_and_label_info_of_vision_msgs(live):
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    node = live(listen=())
    infos = []
    node.client.create_subscription(messages.LabelInfo, "/coseg_node/vision_info", infos.append, LATCHED)
    node.listen("detections", messages.Detection3DArray)
    message = cloud_message(points(), frame="os_lidar")
    node.send("points", message)
    node.wait(lambda: node.received["detections"] and infos)
    assert [(c.class_id, c.class_name) for c in infos[0].class_map] == [(0, "none"), (1, "red"), (2, "high")]
    array = node.received["detections"][0]
    assert array.header == message.header == array.detections[0].header
    detection = array.detections[0]
    assert (detection.id, detection.bbox.center.position.y, detection.bbox.size.z) == ("1", 2.0, 0.3)
    assert detection.results[0].hypothesis.class_id == "high" and detection.results[0].hypothesis.score == 0.75


def test_without_our_messages_the_rest_works(live, monkeypatch):
    for module in (message_types, publishers, diagnostics):
        monkeypatch.setattr(module, "geoseg_msgs", None)
    assert "no ~/objects, ~/parts, ~/where, ~/learn and ~/status" in message_types.missing_interfaces()
    node = live()
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])


def test_default_quality_of_service(live):
    node = live(cloud_source="points", image_transport="none").node  # the tests' override applies to the points only
    subscription = next(s for s in node.subscriptions if s.topic_name == "/coseg_node/points")
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE, "qos_overrides work"
    from geoseg_ros.ros.qos import input_qos

    assert (input_qos().reliability, input_qos().depth) == (ReliabilityPolicy.BEST_EFFORT, 1)
    publisher = next(p for p in node.publishers if p.topic_name == "/coseg_node/points_labeled")
    assert (publisher.qos_profile.reliability, publisher.qos_profile.depth) == (ReliabilityPolicy.RELIABLE, 1)


def test_inputs_are_reliable_where_all_publishers_are(live, monkeypatch):
    monkeypatch.setattr(LiveNode, "_inputs", staticmethod(lambda **_: []))  # no overrides
    monkeypatch.setattr(inputs, "_LOOK", 0.05)
    node = live(listen=("points_labeled",), image_transport="none")
    stream = node.node.inputs.streams["cloud"]
    node.wait(lambda: not stream.best_effort)
    weak = node.client.create_publisher(PointCloud2, "/coseg_node/points", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    node.wait(lambda: stream.best_effort and weak.get_subscription_count())
    for publish in (weak.publish, lambda message: node.send("points", message)):
        count = len(node.received["points_labeled"])
        publish(cloud_message(points()))
        node.wait(lambda: len(node.received["points_labeled"]) == count + 1)  # noqa: B023
    node.client.destroy_publisher(weak)
    node.wait(lambda: not stream.best_effort)
    assert node.lines == [] and stream.lost == 0


def test_a_publisher_that_cannot_be_heard_is_named(live):
    node = live(status_period=0.1, listen=())  # the tests' inputs are reliable
    weak = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    silent = PublisherEventCallbacks(use_default_callbacks=False)
    node.client.create_publisher(PointCloud2, "/coseg_node/points", weak, event_callbacks=silent)
    node.wait(lambda: node.lines)
    line = node.lines[0]
    assert line.startswith("/coseg_node/points: a publisher cannot be heard, 2 publishers (")
    assert line.endswith("client offers less: set qos_overrides./coseg_node/points.subscription.reliability to best_effort")
    cloud = next(s for s in node.node.diagnostics.report().status if s.name == "coseg_node: cloud")
    assert cloud.level == b"\x01" and "QoS of a publisher does not match" in cloud.message


def test_views_hold_for_organised_colour_clouds(live):
    node = live()
    columns = {**points(6), "rgb": [0xFF0000] * 6}
    node.send("points", cloud_message(columns, [*XYZ, ("rgb", "u4", 12)], 16, shape=(2, 3)))
    node.wait(lambda: node.received["points_labeled"])
    assert labels_of(node.received["points_labeled"][0]) == [0, 2, 0, 2, 0, 2]
