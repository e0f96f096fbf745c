"""A live node with several sensors: a result per stream, turns, counts that add up, and troubles that stay with their stream."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from geoseg_ros.errors import InputError
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros.message_types import LearnAdd, LearnStart
from geoseg_ros.ros.teacher import Teacher
from support import fake_tf
from support.fake_pipeline import FakePipeline
from support.ros_cases import cloud_message, image_message, labels_of, picture, points

pytestmark = pytest.mark.dds

LISTS = {"point_topics": ["/front/points", "/rear/points"], "image_topics": ["/left/image", "/right/image"]}
STREAMS = ["front_points", "rear_points", "left_image", "right_image"]


def told(node: Any) -> dict[str, tuple[DiagnosticStatus, dict[str, str]]]:
    """Diagnostics by stream."""
    found = node.node.diagnostics.report().status
    return {status.name.partition(": ")[2]: (status, {v.key: v.value for v in status.values}) for status in found}


def test_every_stream_has_its_results(live):
    results = ["front_points/points_labeled", "rear_points/points_labeled", "left_image/mask", "right_image/mask"]
    node = live(listen=results, **LISTS)
    sent = [cloud_message(points(4), frame="front"), cloud_message(points(8), frame="rear")]
    sent += [image_message(picture(), "rgb8", frame=name) for name in ("left", "right")]
    for topic, message, stream in zip([t for topics in LISTS.values() for t in topics], sent, STREAMS, strict=True):
        node.send_and_wait(topic, message, stream)
    node.wait(lambda: all(node.received[name] for name in results))
    assert [[m.header.frame_id for m in node.received[name]] for name in results] == [["front"], ["rear"], ["left"], ["right"]]
    assert [len(labels_of(node.received[name][0])) for name in results[:2]] == [4, 8]
    topics = {publisher.topic_name for publisher in node.node.publishers}
    assert not topics & {f"/coseg_node/{name}" for name in ("points_labeled", "objects", "mask", "overlay", "points_obstacles")}
    shares = [float(told(node)[stream][1]["share"]) for stream in STREAMS]
    assert abs(sum(shares) - 1) < 0.005 and min(shares) > 0


def test_merged_outputs_are_in_the_target_frame(live, monkeypatch):
    monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    node = live(listen=("points_obstacles", "front_points/points_obstacles", "markers"), target_frame="odom", **LISTS)
    node.node.worker.frames._buffer.set_transform(fake_tf.transform(100.0), "test")
    for topic, stream, frame, nanosec in (
        ("/front/points", STREAMS[0], "lidar", 0),
        ("/rear/points", STREAMS[1], "rear", 0),
        ("/rear/points", STREAMS[1], "nowhere", 0),
        ("/front/points", STREAMS[0], "lidar", 0),
    ):
        node.send_and_wait(topic, cloud_message(points(), frame=frame, stamp=(100, nanosec)), stream)
    node.wait(lambda: len(node.received["points_obstacles"]) == 3)
    assert [message.width for message in node.received["points_obstacles"]] == [3, 6, 3], "one that has lost its transform is left out"
    assert {message.header.frame_id for message in node.received["points_obstacles"]} == {"odom"}
    assert [stream.unplaced for stream in node.node.inputs.streams.values()] == [0, 1, 0, 0]
    assert any("/rear/points: no transform from 'nowhere' to 'odom'" in line for line in node.lines)


def test_turns_are_fair_and_counts_add_up(live):
    """All wait while one is worked on; then each has one turn, with its newest message."""
    begun, go, order = threading.Event(), threading.Event(), []

    class Slow(FakePipeline):
        def _begin(self, kind):
            begun.set()
            assert go.wait(10)
            super()._begin(kind)

        def process_cloud(self, cloud):
            order.append(("front", "rear")[len(cloud) == 8])
            return super().process_cloud(cloud)

        def process_image(self, image):
            order.append(("left", "right")[image.shape[0] == 48])
            return super().process_image(image)

    node = live(
        Slow(), listen=["front_points/points_labeled", "rear_points/points_labeled", "left_image/mask", "right_image/mask"], **LISTS
    )
    front, rear = cloud_message(points(4)), cloud_message(points(8))
    left, right = image_message(picture(), "rgb8"), image_message(picture(48), "rgb8")
    node.send("/front/points", front)
    assert begun.wait(10)
    for _ in range(3):
        for topic, message, place in (
            ("/front/points", front, 0),
            ("/right/image", right, 3),
            ("/left/image", left, 2),
            ("/rear/points", rear, 1),
        ):
            before = node.counts(STREAMS[place]).received
            node.send(topic, message)
            node.wait(lambda p=place, b=before: node.counts(STREAMS[p]).received == b + 1)
    go.set()
    node.wait(lambda: sum(node.counts(stream).processed for stream in STREAMS) == 5)
    assert order == ["front", "rear", "left", "right", "front"]
    for stream in STREAMS:
        values = told(node)[stream][1]
        received, *rest = (int(values[key]) for key in ("received", "processed", "dropped", "rejected"))
        assert received == sum(rest) and (received, rest[1]) in ((4, 2), (3, 2))


def test_garbage_and_silence_stay_with_their_stream(live):
    node = live(listen=["front_points/points_labeled"], input_timeout=0.4, **LISTS)
    for _ in range(2):
        node.send_and_wait("/rear/points", cloud_message(points(), point_step=7), "rear_points")
        node.send_and_wait("/front/points", cloud_message(points()), "front_points")
    node.wait(lambda: len(node.received["front_points/points_labeled"]) == 2)
    values = told(node)
    assert [values[stream][1]["rejected"] for stream in STREAMS] == ["0", "2", "0", "0"]
    assert values["rear_points"][1]["last_rejected"].startswith("/rear/points: row_step 96")
    assert [line for line in node.lines if "rejected" in line] == [f"rear_points rejected: {values['rear_points'][1]['last_rejected']}"]
    node.wait(lambda: node.node.inputs.streams["left_image"].silent)
    node.send_and_wait("/front/points", cloud_message(points()), "front_points")
    for stream in node.node.inputs.streams.values():
        stream.watch(0.4, 0)
    values = told(node)
    assert values["left_image"][0].message.startswith("no input for") and values["left_image"][0].level == DiagnosticStatus.WARN
    assert values["front_points"][0].level == DiagnosticStatus.OK


def test_each_depth_camera_has_its_own_calibration_and_colour(live):
    node = live(
        listen=["a_depth/points_labeled", "b_depth/points_labeled"],
        depth_topics=["/a/depth", "/b/depth"],
        color_topics=["/a/color", "none"],
        image_topics=["/a/color"],
    )
    assert set(node.node.inputs.companions) == {"a_depth/camera_info", "a_depth/color", "b_depth/camera_info"}
    depth = image_message(np.full((24, 32), 1000, np.uint16), "16UC1", frame="optical")
    info = CameraInfo(height=24, width=32, k=[30.0, 0.0, 16.0, 0.0, 30.0, 12.0, 0.0, 0.0, 1.0], header=depth.header)
    for topic, kind, message in (
        ("/a/camera_info", CameraInfo, info),
        ("/a/color", Image, image_message(picture(), "rgb8", frame="optical")),
    ):
        publisher = node.client.create_publisher(kind, topic, 10) if topic != "/a/color" else node.publisher(topic)
        node.wait(lambda p=publisher: p.get_subscription_count() > 0)
        publisher.publish(message)
        node.wait(lambda t=topic: node.node.inputs.companion(t))
    node.wait(lambda: node.counts("a_color").processed == 1)
    node.send_and_wait("/a/depth", depth, "a_depth")
    node.send_and_wait("/b/depth", depth, "b_depth")
    node.wait(lambda: node.received["a_depth/points_labeled"])
    values = told(node)
    assert node.counts("b_depth").rejected == 1 and "expected one on /b/camera_info" in values["b_depth"][1]["last_rejected"]
    assert (values["a_depth"][1]["uncoloured"], values["a_depth"][1]["color_age_s"]) == ("0", "0.000")
    assert values["b_depth/camera_info"][1]["received"] == "0" and values["a_depth/color"][1]["received"] == "1"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"point_topics": ["coseg", "/coseg"]}, "coseg"),
        ({"point_topics": ["~/a", "/coseg_node/a"]}, "/coseg_node/a: the topic of two inputs, a and coseg_node_a"),
        ({"point_topics": ["/a", ""]}, "parameter point_topics: expected no empty text in it"),
        ({"depth_topics": ["/a/d"], "color_topics": ["/c", "/d"]}, "parameter color_topics: 2 for 1 depth_topics"),
    ],
)
def test_lists_that_cannot_be(live, values, line):
    with pytest.raises(InputError, match=line) as caught:
        live(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(LearnAdd is None, reason="the package is installed without its messages")
def test_a_click_belongs_to_a_stream(live, tmp_path):
    topics = {"/a/image": "a_image", "/b/image": "b_image"}
    node = live(listen=(), learn_folder=str(tmp_path), image_topics=list(topics))
    assert node.call(LearnStart, "learn/start", LearnStart.Request(name="mug")).success

    def add(**what):
        return node.call(LearnAdd, "learn/add", LearnAdd.Request(positive=True, **what)).message

    for number, (topic, stream) in enumerate(topics.items()):
        node.send_and_wait(topic, image_message(picture(), "rgb8", stamp=(7, number)), stream)
    box = [0.0, 0, 16, 24]
    assert add(box=box) == "input: the click or box may belong to a_image, b_image, name one"
    assert add(input="b_image", box=box) == "mug: 16 x 24 pixels; 1 images"
    assert add(input="image").endswith("3 images") and "expected cloud, image, a_image, b_image" in add(input="c")
    teacher = Teacher("/coseg_node")
    try:
        for topic in topics:
            node.wait(lambda t=topic: node.publisher(t).get_subscription_count() == 2)
        for number, (topic, stream) in enumerate(topics.items()):
            node.send_and_wait(topic, image_message(picture(), "rgb8", stamp=(9, number)), stream)
        node.wait(lambda: teacher.state()["images"] == ["a_image", "b_image"])
        assert teacher.picture("b_image")[1] == 9 * 10**9 + 1
        assert teacher.add("b_image", 9 * 10**9 + 1, False, [], box)[1].startswith("not mug: 16 x 24 pixels")
    finally:
        teacher.close()
    assert node.call(Trigger, "learn/cancel", Trigger.Request()).success
