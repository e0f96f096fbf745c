"""Replay of a recording through a pipeline, without DDS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import cloud_from_message
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.replay import ReplayTopics, choose_topics, replay

QUARTER_TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # about z


class FakePipeline:
    """Labels what is bright, or above z = 0.5."""

    labels = LabelSpace(("mug", "can"))

    def process_image(self, image: NDArray[np.uint8]) -> ImageResult:
        return ImageResult(np.where(image[..., 0] > 127, 2, 0).astype(np.uint8), [])

    def process_cloud(self, cloud: Cloud) -> CloudResult:
        label = (cloud.xyz[:, 2] > 0.5).astype(np.uint32)
        entry = ObjectInstance(1, "mug", 1, 0.75, 0.02, np.array([1.0, 2, 3]), QUARTER_TURN, np.array([0.1, 0.2, 0.3]), int(label.sum()))
        return CloudResult(label, label, label.astype(np.float32) / 2, [entry], [])


def write_bag(path: Path, image_topics: tuple[str, ...] = ("/image",)) -> Path:
    rng = np.random.default_rng(3)
    with RecordingWriter(path) as writer:
        for i in range(4):
            xyz = rng.random((30, 3), np.float32)
            xyz[0] = np.nan
            writer.write_cloud("/points", 10**9 + i * 10**8, "lidar", Cloud(xyz, None, (5, 6)))
            for topic in image_topics:
                writer.write_image(topic, 10**9 + i * 10**8 + 7, "camera", rng.integers(0, 256, (8, 9, 3), np.uint8))
    return path


def test_outputs_are_those_of_the_node(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "bag"), tmp_path / "out.mcap"
    with Recording(bag) as recording:
        report = replay(recording, FakePipeline(), out)
        inputs = {(m.topic, m.stamp_ns): recording.decode(m) for m in recording.messages()}
    assert (report.clouds, report.images, report.objects, report.rejected) == (4, 4, 4, [])
    with Recording(out) as recording:
        counts = {name.rsplit("/", 1)[1]: topic.messages for name, topic in recording.topics().items()}
        assert counts == {"label_info": 1, "mask": 4, "objects": 4, "points_labeled": 4}
        messages = [(m, recording.decode(m)) for m in recording.messages()]
    for raw, message in messages:
        if raw.topic.endswith("points_labeled"):
            source = inputs["/points", raw.stamp_ns]
            assert message.header.frame_id == "lidar" and message.header.stamp.nanosec == source.header.stamp.nanosec
            assert [f.name for f in message.fields] == ["x", "y", "z", "rgb", "label", "instance", "confidence"]
            cloud = cloud_from_message(message)
            np.testing.assert_array_equal(cloud.xyz, cloud_from_message(source).xyz)
            assert cloud.shape == (5, 6)
            label = np.frombuffer(message.data, np.uint32).reshape(-1, 7)[:, 4]
            np.testing.assert_array_equal(label, cloud.xyz[:, 2] > 0.5)
            np.testing.assert_array_equal(cloud.rgb, FakePipeline.labels.palette()[label])
        elif raw.topic.endswith("mask"):
            source = inputs["/image", raw.stamp_ns]
            assert (message.encoding, message.height, message.width, message.step) == ("mono8", 8, 9, 9)
            np.testing.assert_array_equal(message.data.reshape(8, 9) > 0, source.data.reshape(8, 9, 3)[..., 0] > 127)
        elif raw.topic.endswith("objects"):
            (entry,) = message.objects
            assert (entry.label, entry.name, entry.confidence) == (1, "mug", 0.75)
            turn = entry.center.orientation
            assert (turn.z, turn.w) == pytest.approx((0.5**0.5, 0.5**0.5)) and entry.center.position.z == 3 and entry.size.y == 0.2
        else:
            assert [row["name"] for row in json.loads(message.data)] == ["none", "mug", "can"]


def test_twice_the_same_bag_gives_identical_bytes(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    for name in ("a", "b"):
        with Recording(bag) as recording:
            replay(recording, FakePipeline(), tmp_path / name / "out.mcap")
    first, second = ((tmp_path / name / "out.mcap").read_bytes() for name in ("a", "b"))
    assert first == second


def test_unreadable_messages_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_image("/image", 1, "camera", np.zeros((4, 4, 3), np.uint8))
        message = writer.types.types["sensor_msgs/msg/Image"](writer.header(2, "camera"), 4, 4, "rgb8", 0, 12, np.zeros(7, np.uint8))
        writer.write_message("/image", 2, message)
        writer.write("/image", "sensor_msgs/msg/Image", 3, b"\0\1\0\0junk")
        writer.write_image("/image", 4, "camera", np.zeros((4, 4, 3), np.uint8))
    with Recording(tmp_path / "bag") as recording:
        report = replay(recording, FakePipeline(), tmp_path / "out.mcap")
    assert report.images == 2 and len(report.rejected) == 2
    assert all("/image" in line and "\n" not in line for line in report.rejected)


def test_topics_must_be_clear(tmp_path: Path) -> None:
    with Recording(write_bag(tmp_path / "bag", ("/left", "/right"))) as recording:
        with pytest.raises(InputError, match="several image topics"):
            replay(recording, FakePipeline(), tmp_path / "out.mcap")
        assert replay(recording, FakePipeline(), tmp_path / "out.mcap", topics=ReplayTopics(image="/left")).images == 4
    with RecordingWriter(tmp_path / "text") as writer:
        writer.write_message("/text", 1, writer.types.types["std_msgs/msg/String"](data="hi"))
    with Recording(tmp_path / "text") as recording, pytest.raises(InputError, match="no cloud and no image"):
        replay(recording, FakePipeline(), tmp_path / "out.mcap")


def test_the_inputs_of_the_node_itself_come_first_and_its_outputs_are_none(tmp_path: Path) -> None:
    """As in a snapshot."""
    with RecordingWriter(tmp_path / "bag") as writer:
        for name in ("/coseg_node/points", "/coseg_node/points_labeled", "/elsewhere/points"):
            writer.write_cloud(name, 1, name, Cloud(np.ones((3, 3), np.float32)))
        for name in ("/coseg_node/mask", "/elsewhere/image"):
            writer.write_image(name, 2, "camera", np.zeros((4, 4, 3), np.uint8))
    with Recording(tmp_path / "bag") as recording:
        chosen = choose_topics(recording, NodeParameters(), ReplayTopics(), "/coseg_node")
        assert chosen == {"/coseg_node/points": {"points"}, "/elsewhere/image": {"image"}}
        with pytest.raises(InputError, match="several points topics"):
            choose_topics(recording, NodeParameters(), ReplayTopics(), "/robot1/coseg_node")


def test_inputs_of_a_depth_camera_are_found(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "bag") as writer:
        for name in ("/left/depth", "/left/color", "/right/photo"):
            writer.write_image(name, 1, "camera", np.zeros((4, 4, 3), np.uint8))
        for name in ("/left/camera_info", "/right/camera_info"):
            info = writer.types.types["sensor_msgs/msg/CameraInfo"]
            region = writer.types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            numbers = {"d": np.zeros(0), "k": np.eye(3).ravel(), "r": np.eye(3).ravel(), "p": np.zeros(12)}
            sizes = {"height": 4, "width": 4, "binning_x": 0, "binning_y": 0}
            writer.write_message(name, 1, info(writer.header(1, "camera"), distortion_model="", roi=region, **sizes, **numbers))
    depth = NodeParameters(cloud_source="depth")
    with Recording(tmp_path / "bag") as recording:
        chosen = choose_topics(recording, depth, ReplayTopics(depth="/left/depth", color="/left/color"), "/coseg_node")
        assert chosen == {
            "/left/depth": {"depth"},
            "/left/camera_info": {"camera_info"},
            "/left/color": {"color"},
            "/right/photo": {"image"},
        }
        both = ReplayTopics(depth="/left/depth", color="/left/color", image="/left/color", camera_info="/right/camera_info")
        chosen = choose_topics(recording, depth, both, "/coseg_node")
        assert chosen == {"/left/depth": {"depth"}, "/right/camera_info": {"camera_info"}, "/left/color": {"color", "image"}}
