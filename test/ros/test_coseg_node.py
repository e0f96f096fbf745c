"""The live node over DDS, with a pipeline of thresholds."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from fake_pipeline import FakePipeline
from live_node import LATCHED
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_cases import (
    XYZ,
    bad_clouds,
    bad_compressed,
    bad_images,
    cloud_message,
    compressed_message,
    image_message,
    large_cloud_message,
    picture,
    points,
)
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import String

from geoseg_ros.errors import InputError
from geoseg_ros.ros import codec, diagnostics, objects, publishers
from geoseg_ros.ros.worker import Throttle


def labels_of(message):
    offset = next(f.offset for f in message.fields if f.name == "label")
    rows = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
    return rows[:, offset : offset + 4].copy().view(np.uint32)[:, 0].tolist()


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


def test_bad_input_is_counted_and_named_and_the_node_lives_on(live):
    node = live(max_points=4_000_000)
    cases = [("points", "cloud", name, *case) for name, case in bad_clouds().items()]
    cases += [("image", "image", name, *case) for name, case in bad_images().items()]
    large = large_cloud_message(np.zeros((5_000_000, 3)))
    cases.append(("points", "cloud", "5M points", large, "5000000 points, expected at most 4000000"))
    for topic, stream, name, message, line in cases:
        node.node.handler.throttle = Throttle()  # so that cases which differ in numbers only are all told
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


def test_five_million_points_are_answered(live):
    node = live()
    xyz = np.zeros((5_000_000, 3), np.float32)
    xyz[-1] = (1, 1, 2)
    node.send("points", large_cloud_message(xyz))
    node.wait(lambda: node.received["points_labeled"], 20)
    answer = node.received["points_labeled"][0]
    assert answer.width == 5_000_000 and len(answer.data) == 140_000_000 and answer.data[-12] == 2


def test_bad_compressed_input(live):
    node = live(image_transport="compressed")
    for name, (message, line) in bad_compressed().items():
        node.node.handler.throttle = Throttle()
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
    node.wait(lambda: not node.node._outputs.wants_image())
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
        "encoding 'mono8', expected 16UC1": image_message(np.ones((2, 2), np.uint8), "mono8", frame="optical"),
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
    for module in (objects, publishers, diagnostics):
        monkeypatch.setattr(module, "geoseg_msgs", None)
    assert "~/objects and ~/status" in objects.missing_interfaces()
    node = live()
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])


def test_silent_inputs_are_named(live):
    other = Context()  # one participant cannot hold two types of a topic
    rclpy.init(context=other)
    stranger = Node("stranger", context=other)
    stranger.create_publisher(String, "/coseg_node/image", 1)
    node = live(input_timeout=0.8, status_period=0.1)
    node.client.destroy_publisher(node._publishers["image"])
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


def test_default_quality_of_service(live):
    node = live(cloud_source="points", image_transport="none").node  # the tests' override applies to the points only
    subscription = next(s for s in node.subscriptions if s.topic_name == "/coseg_node/points")
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE, "qos_overrides work"
    from geoseg_ros.ros.qos import input_qos

    assert (input_qos().reliability, input_qos().depth) == (ReliabilityPolicy.BEST_EFFORT, 1)
    publisher = next(p for p in node.publishers if p.topic_name == "/coseg_node/points_labeled")
    assert (publisher.qos_profile.reliability, publisher.qos_profile.depth) == (ReliabilityPolicy.RELIABLE, 1)


def test_views_hold_for_organised_colour_clouds(live):
    node = live()
    columns = {**points(6), "rgb": [0xFF0000] * 6}
    node.send("points", cloud_message(columns, [*XYZ, ("rgb", "u4", 12)], 16, shape=(2, 3)))
    node.wait(lambda: node.received["points_labeled"])
    assert labels_of(node.received["points_labeled"][0]) == [0, 2, 0, 2, 0, 2]
