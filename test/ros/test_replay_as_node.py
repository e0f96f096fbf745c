"""One recording through the live node, message by message, and through ``replay``: the same labels, tracks, boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")

from rclpy.serialization import deserialize_message

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import stamp_ns
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.msg import CosegObjectArray
from geoseg_ros.results import CloudResult
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros.message_types import InstalledTypes
from geoseg_ros.runtime.parameter_file import read_parameters
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.runtime.replay import ReplayTopics, replay
from support import fake_tf
from support.fake_pipeline import FakePipeline
from support.fake_world import CONFIG, picture, table

pytestmark = pytest.mark.dds

START, SECOND = 10**11, 10**9
OUTPUTS = ("points_labeled", "points_obstacles", "objects", "mask", "overlay")
TYPES = InstalledTypes()


def write_transform(writer: RecordingWriter, stamp: int, frame: str = "lidar") -> None:
    """The transform of ``fake_tf`` at a time."""
    known = fake_tf.transform(0.0, frame).transform
    types = writer.types.types
    shift = types["geometry_msgs/msg/Vector3"](known.translation.x, known.translation.y, known.translation.z)
    turn = types["geometry_msgs/msg/Quaternion"](known.rotation.x, known.rotation.y, known.rotation.z, known.rotation.w)
    pose = types["geometry_msgs/msg/Transform"](translation=shift, rotation=turn)
    stamped = types["geometry_msgs/msg/TransformStamped"](header=writer.header(stamp, "odom"), child_frame_id=frame, transform=pose)
    writer.write_message("/tf", stamp, types["tf2_msgs/msg/TFMessage"](transforms=[stamped]))


def write_clouds(path: Path) -> None:
    """Tables with objects that come and go, images, and transforms from the second cloud on; one cloud and one image cannot be read."""
    with RecordingWriter(path) as writer:
        for i, objects in enumerate([("red", "green"), ("red", "blue"), ("red", "blue"), ("red",), ("green", "cyan"), ("red", "blue")]):
            stamp = START + i * SECOND // 4
            if i:
                write_transform(writer, stamp)
            cloud, _ = table(70, objects)
            writer.write_cloud("/lidar", stamp, "lidar", Cloud(cloud.xyz, cloud.rgb))
            image = picture(80 + i, objects[:1])[0]
            writer.write_image("/camera", stamp + 7, "camera", image)
            if i == 2:
                writer.write_image("/camera", stamp + 8, "camera", np.zeros((1, 0, 3), np.uint8))


def write_depth(path: Path) -> None:
    """A depth camera whose colour comes before or after its depth, too late, in another frame or not at all; JPEG images beside it."""
    rng = np.random.default_rng(5)
    with RecordingWriter(path) as writer:
        types = writer.types.types
        plain = {"distortion_model": "plumb_bob", "d": np.zeros(0), "r": np.eye(3).ravel(), "binning_x": 0, "binning_y": 0}
        region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        k = np.array([30.0, 0, 16, 0, 30, 12, 0, 0, 1])

        def depth(stamp: int) -> None:
            pixels = rng.integers(500, 1500, (24, 32)).astype(np.uint16)
            message = types["sensor_msgs/msg/Image"](
                header=writer.header(stamp, "optical"), height=24, width=32, encoding="16UC1", is_bigendian=0, step=64,
                data=pixels.view(np.uint8).ravel(),
            )  # fmt: skip
            writer.write_message("/depth/image", stamp, message)

        depth(START)  # no calibration has come
        info = types["sensor_msgs/msg/CameraInfo"](
            header=writer.header(START, "optical"), height=24, width=32, k=k, p=np.zeros(12), roi=region, **plain
        )
        writer.write_message("/depth/camera_info", START + 1, info)
        for i, (offset, frame) in enumerate([(-10, "optical"), (10, "optical"), (-80, "optical"), (-5, "elsewhere"), (-5, "optical")]):
            stamp = START + (i + 1) * SECOND
            color = (stamp + offset * 10**6, frame, rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
            if offset < 0:
                writer.write_image("/color/image", *color)
            depth(stamp)
            if offset > 0:
                writer.write_image("/color/image", *color)
            jpeg = cv2.imencode(".jpg", picture(i, ("red",))[0])[1]
            compressed = types["sensor_msgs/msg/CompressedImage"](
                header=writer.header(stamp + 9, "camera"), format="jpeg", data=jpeg.ravel()
            )
            writer.write_message("/photo/compressed", stamp + 9, compressed)


def write_two_lidars(path: Path) -> None:
    """Two LiDARs at one place, turned to each other by a quarter, see the same table; the rear one is without transform at first."""
    with RecordingWriter(path) as writer:
        for i, objects in enumerate([("red", "green"), ("red", "blue"), ("red", "blue"), ("red",), ("red", "blue"), ("red", "blue")]):
            stamp = START + i * SECOND // 4
            cloud, _ = table(70, objects)
            rear = cloud.xyz[:, [1, 0, 2]] * np.array([-1, 1, 1], np.float32)
            write_transform(writer, stamp)
            writer.write_cloud("/front/points", stamp, "lidar", Cloud(cloud.xyz, cloud.rgb))
            if i:
                write_transform(writer, stamp + 5, "rear")
            writer.write_cloud("/rear/points", stamp + 5, "rear" if i else "elsewhere", Cloud(rear, cloud.rgb))
            writer.write_image("/camera", stamp + 7, "camera", picture(80 + i, objects[:1])[0])


class ByColour(FakePipeline):
    """Label 1 where a point is red, else 2 above z = 1: colours and depth both show in the labels."""

    def process_cloud(self, cloud: Cloud) -> CloudResult:
        result = super().process_cloud(cloud)
        if cloud.rgb is not None:
            result.label[cloud.rgb[:, 0] > 127] = 1
        return result


def through_the_node(
    live: Any, path: Path, pipeline: Any, topics: dict[str, tuple[str, str]], values: dict[str, Any], outputs: Sequence[str] = OUTPUTS
) -> dict[str, dict]:
    """Output -> stamp -> message; every message waits until the one before is done.

    ``topics``: topic of the recording -> input of the node, and its stream or an empty string.
    """
    node = live(pipeline, listen=[name for name in outputs if not name.endswith("objects")], **values)
    for name in outputs:
        if name.endswith("objects"):
            node.listen(name, CosegObjectArray)
    with Recording(path) as recording:
        for raw in recording.messages():
            if raw.topic == "/tf":
                node.node.worker.frames._buffer.set_transform(fake_tf.transform(raw.stamp_ns * 1e-9), "test")
                continue
            name, stream = topics[raw.topic]
            if stream:
                node.send_and_wait(name, raw.data, stream)
            else:
                stamp = deserialize_message(raw.data, TYPES[raw.type]).header.stamp
                node.send(name, raw.data)
                node.wait(lambda n=name, s=stamp: getattr(node.node.inputs.companion(f"~/{n}"), "header", None) and
                          node.node.inputs.companion(f"~/{n}").header.stamp == s)  # fmt: skip
    sent = {topic.removeprefix("/coseg_node/"): message for topic, message in node.node._outputs.last.items()}
    for name, message in sent.items():
        node.wait(lambda n=name, m=message: node.received[n] and node.received[n][-1].header.stamp == m.header.stamp)
    return {name: {stamp_ns(message.header): message for message in node.received[name]} for name in outputs}


def through_replay(
    path: Path, pipeline: Any, out: Path, topics: ReplayTopics, values: dict[str, Any], outputs: Sequence[str] = OUTPUTS
) -> tuple[dict[str, dict], Any]:
    (out / "node.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    found: dict[str, dict] = {name: {} for name in outputs}
    with Recording(path) as recording:
        report = replay(recording, pipeline, out / "out.mcap", read_parameters(out / "node.yaml"), topics, OUTPUTS)
    with Recording(out / "out.mcap") as recording:
        for raw in recording.messages():
            name = raw.topic.removeprefix("/coseg_node/")
            if name in found:
                message = deserialize_message(raw.data, TYPES[raw.type])
                found[name][stamp_ns(message.header)] = message
    return found, report


def compare(live: dict[str, dict], replayed: dict[str, dict]) -> None:
    for name in live:
        assert live[name].keys() == replayed[name].keys(), name
        for stamp, message in live[name].items():
            assert message == replayed[name][stamp], (name, stamp)


def test_clouds_and_images(live, tmp_path, monkeypatch, fake_backbone, fake_packs) -> None:
    monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    write_clouds(tmp_path / "in.mcap")
    values = {"target_frame": "odom", "wanted_labels": ["blue"], "tracking.confirm": 1, "tracking.forget": 2, "max_image_pixels": 100_000}
    values |= {"pipeline.coseg.image_side": CONFIG.coseg.image_side, "pipeline.coseg.image_margin": CONFIG.coseg.image_margin}

    def opened() -> Pipeline:
        return Pipeline(fake_backbone, [fake_packs["red"], fake_packs["blue"]], PipelineConfig(coseg=CONFIG.coseg))

    found = through_the_node(live, tmp_path / "in.mcap", opened(), {"/lidar": ("points", "cloud"), "/camera": ("image", "image")}, values)
    replayed, report = through_replay(tmp_path / "in.mcap", opened(), tmp_path, ReplayTopics(), values)
    compare(found, replayed)
    assert [len(found[name]) for name in OUTPUTS] == [6, 5, 5, 6, 6], "the first cloud has no transform"
    assert (report.clouds, report.images, report.unplaced, len(report.rejected), len(report.warnings)) == (6, 6, 1, 1, 1)
    assert "/lidar: no transform from 'lidar' to 'odom'" in report.warnings[0] and "/camera: 0 x 1 pixels" in report.rejected[0]
    tracks = [[(entry.name, entry.track_id) for entry in found["objects"][stamp].objects] for stamp in sorted(found["objects"])]
    assert [sorted(names) for names in tracks] == [
        [("blue", 2), ("red", 1)],
        [("blue", 2), ("red", 1)],
        [("red", 1)],
        [],
        [("blue", 2), ("red", 1)],
    ]
    assert [found["points_obstacles"][stamp].width > 0 for stamp in sorted(found["points_obstacles"])] == [True, True, False, False, True]
    assert {message.header.frame_id for name in ("objects", "points_obstacles") for message in found[name].values()} == {"odom"}


def test_two_lidars_and_a_camera(live, tmp_path, monkeypatch, fake_backbone, fake_packs) -> None:
    monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    write_two_lidars(tmp_path / "in.mcap")
    values = {"point_topics": ["/front/points", "/rear/points"], "image_topics": ["/camera"], "target_frame": "odom"}
    values |= {"wanted_labels": ["blue"], "tracking.confirm": 1, "tracking.forget": 2}
    values |= {"pipeline.coseg.image_side": CONFIG.coseg.image_side, "pipeline.coseg.image_margin": CONFIG.coseg.image_margin}
    streams = ("front_points", "rear_points")
    outputs = [f"{stream}/{name}" for stream in streams for name in ("points_labeled", "points_obstacles", "objects")]
    outputs += ["points_obstacles", "objects", "camera/mask"]

    def opened() -> Pipeline:
        return Pipeline(fake_backbone, [fake_packs["red"], fake_packs["blue"]], PipelineConfig(coseg=CONFIG.coseg))

    names = {"/front/points": ("/front/points", streams[0]), "/rear/points": ("/rear/points", streams[1]), "/camera": ("/camera", "camera")}
    found = through_the_node(live, tmp_path / "in.mcap", opened(), names, values, outputs)
    replayed, report = through_replay(tmp_path / "in.mcap", opened(), tmp_path, ReplayTopics(), values, outputs)
    compare(found, replayed)
    assert [len(found[name]) for name in outputs] == [6, 6, 6, 6, 5, 5, 11, 11, 6]
    assert (report.clouds, report.images, report.unplaced, report.rejected) == (12, 6, 1, [])
    merged = [found["objects"][stamp] for stamp in sorted(found["objects"])]
    tracks = [sorted((entry.name, entry.track_id) for entry in message.objects) for message in merged]
    assert tracks[0] == [("red", 1)] and tracks[-1] == [("blue", 2), ("red", 1)], "what both see is one track"
    obstacles = {name: max(found[f"{name}points_obstacles"]) for name in ("", "front_points/", "rear_points/")}
    widths = [found[f"{name}points_obstacles"][stamp].width for name, stamp in obstacles.items()]
    assert widths[0] == widths[1] + widths[2] > 0 and obstacles[""] == obstacles["rear_points/"]
    assert {message.header.frame_id for message in merged} == {"odom"}


@pytest.mark.parametrize("filtered", [False, True], ids=["own join", "message_filters"])
def test_depth_colour_and_compressed_images(live, tmp_path, monkeypatch, filtered) -> None:
    if filtered:
        pytest.importorskip("message_filters", reason="message_filters is not installed")
    else:
        monkeypatch.setattr("geoseg_ros.ros.inputs.message_filters", None)
    write_depth(tmp_path / "in.mcap")
    values = {"cloud_source": "depth", "image_transport": "compressed", "color_max_age": 0.05}
    names = {
        "/depth/image": ("depth", "cloud"),
        "/depth/camera_info": ("camera_info", ""),
        "/color/image": ("color", ""),
        "/photo/compressed": ("image/compressed", "image"),
    }
    topics = ReplayTopics(depth="/depth/image", color="/color/image")
    found = through_the_node(live, tmp_path / "in.mcap", ByColour(), names, values)
    replayed, report = through_replay(tmp_path / "in.mcap", ByColour(), tmp_path, topics, values)
    compare(found, replayed)
    assert [len(found[name]) for name in OUTPUTS] == [5, 5, 5, 5, 5]
    red = [1 in np.frombuffer(found["points_labeled"][s].data, np.uint32).reshape(-1, 7)[:, 4] for s in sorted(found["points_labeled"])]
    assert red == [True, False, False, False, True], "coloured where a colour image of its time and frame had come"
    assert len(report.rejected) == 1 and "no camera_info has come, expected one on /depth/camera_info" in report.rejected[0]
    late = "/depth/image: no colour image for it, expected one on /color/image within color_max_age 0.05 s"
    assert [line for line in report.warnings if not line.startswith(late)] == [
        "/depth/image: colour is in frame 'elsewhere', depth in 'optical': not registered to each other, so the cloud gets no colour"
    ]
