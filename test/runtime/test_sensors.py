"""Several sensors: the names of their streams, lists that cannot be, tracks and obstacles of all clouds together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.display.recorded_results import RecordedResults
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import cloud_from_message, stamp_ns
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.results import CloudResult, ObjectInstance
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.parameter_file import read_parameters
from geoseg_ros.runtime.replay import ReplayTopics, replay
from geoseg_ros.runtime.tracking import Tracker, TrackingConfig
from support.fake_pipeline import FakePipeline

SECOND = 10**9


def obj(x: float) -> ObjectInstance:
    return ObjectInstance(1, "mug", 1, 0.98, 0.02, np.array([x, 0.0, 0.0]), np.eye(3), np.full(3, 0.1), 50)


def numbers(objects: list[ObjectInstance]) -> list[int]:
    return [entry.track for entry in objects]


def test_streams_are_named_by_their_topics() -> None:
    parameters = NodeParameters(
        point_topics=("/front/points", "rear/points"),
        depth_topics=("/arm/depth/image", "~/depth"),
        color_topics=("/arm/color", "none"),
        image_topics=("/left/image_raw", "/right/image/compressed"),
    )
    found = [(s.name, s.kind, s.message_type.rsplit("/", 1)[1], s.camera_info, s.color, s.prefix) for s in parameters.sensors()]
    assert found == [
        ("front_points", "cloud", "PointCloud2", "", "", "front_points/"),
        ("rear_points", "cloud", "PointCloud2", "", "", "rear_points/"),
        ("arm_depth_image", "cloud", "Image", "/arm/depth/camera_info", "/arm/color", "arm_depth_image/"),
        ("depth", "cloud", "Image", "~/camera_info", "", "depth/"),
        ("left_image_raw", "image", "Image", "", "", "left_image_raw/"),
        ("right_image_compressed", "image", "CompressedImage", "", "", "right_image_compressed/"),
    ]
    one = [(s.name, s.topic, s.prefix) for s in NodeParameters(point_topics=("/a",)).sensors()]
    assert one == [("a", "/a", "a/"), ("image", "~/image", "")], "a kind without a list stays as it was"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"point_topics": ["/a", "/b", "/a"]}, "/a: twice"),
        ({"point_topics": ["/a"], "image_topics": ["/a"]}, "/a: twice"),
        ({"point_topics": ["/a/b"], "image_topics": ["/a_b"]}, "/a_b: its stream would have the name a_b, as /a/b has"),
        ({"image_topics": ["/pipeline"]}, "/pipeline: its stream would have the name pipeline"),
        ({"image_topics": ["/cloud"]}, "/cloud: its stream would have the name cloud, as ~/points has"),
        ({"point_topics": ["/a", ""]}, "point_topics: expected no empty text in it"),
        ({"point_topics": "/a"}, "point_topics: expected a list, got '/a'"),
        ({"point_topics": ["/a", 3]}, "point_topics: expected a text, got 3"),
        ({"depth_topics": ["/a/d", "/b/d"], "color_topics": ["/a/c"]}, "color_topics: 1 for 2 depth_topics, expected one for each"),
        ({"depth_topics": ["/a/d"], "camera_info_topics": ["/i", "/k"]}, "camera_info_topics: 2 for 1 depth_topics"),
        ({"color_topics": ["/a/c"]}, "color_topics: 1 for 0 depth_topics"),
        ({"point_topics": ["/a"], "cloud_source": "none"}, "cloud_source: none, but point_topics or depth_topics name some"),
        ({"image_topics": ["/a"], "image_transport": "none"}, "image_transport: none, but image_topics name some"),
    ],
)
def test_lists_that_cannot_be_are_refused_in_one_line(values: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as caught:
        read_parameters(None, [f"{name}:={value!r}" for name, value in values.items()])
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_what_two_sensors_see_is_one_track() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    for i in range(5):
        assert numbers(tracker.update(0.1 * i, [obj(0.0), obj(5.0)], "odom", "front")) == [1, 2]
        assert numbers(tracker.update(0.1 * i - 0.04, [obj(0.1)], "odom", "rear")) == [1], "also where its clouds come late"
    assert tracker.resets == 0


def test_a_sensor_that_looks_elsewhere_ends_no_track() -> None:
    tracker = Tracker(TrackingConfig(confirm=1, forget=1))
    tracker.update(0.0, [obj(0.0)], "odom", "front")
    for i in range(1, 6):
        assert tracker.update(0.1 * i, [], "odom", "rear") == []
    assert numbers(tracker.update(0.6, [obj(0.0)], "odom", "rear")) == [1]
    for i in range(7, 11):
        tracker.update(0.1 * i, [], "odom", "front")
    assert numbers(tracker.update(1.1, [obj(0.0)], "odom", "front")) == [1], "the other one has not missed it"
    for i in range(12, 16):
        tracker.update(0.1 * i, [], "odom", "front")
        tracker.update(0.1 * i, [], "odom", "rear")
    assert numbers(tracker.update(1.7, [obj(0.0)], "odom", "front")) == [2]


def test_a_recording_that_starts_again_starts_tracks_anew_once() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    for begin in (100.0, 10.0):
        for i in range(3):
            for stream in ("front", "rear"):
                found = tracker.update(begin + 0.1 * i, [obj(0.0)], "odom", stream)
    assert numbers(found) == [2] and tracker.resets == 1


class WhereItIs(FakePipeline):
    """One object where the points above z = 1 are."""

    def process_cloud(self, cloud: Cloud) -> CloudResult:
        result = super().process_cloud(cloud)
        for entry in result.objects:
            entry.center[:] = cloud.xyz[cloud.xyz[:, 2] > 1].mean(axis=0)
        return result


def write(path: Path, clouds: list[tuple[str, float, float]]) -> Path:
    """``clouds``: name of the sensor, seconds, place of its object on x; five points of it, of the sensor ``b`` seven."""
    with RecordingWriter(path) as writer:
        for name, seconds, x in clouds:
            xyz = np.zeros((9, 3), np.float32)
            xyz[: 7 if name == "b" else 5] = (x, 0, 2)
            writer.write_cloud(f"/{name}", round(seconds * SECOND), "odom", Cloud(xyz))
    return path


def merged(path: Path, out: Path, **values: object) -> tuple[list, list]:
    """Merged objects and obstacles, in the order in which they were made."""
    values = {"target_frame": "odom", "tracking.confirm": 1, "image_transport": "none", "point_topics": ["/a", "/b"], **values}
    parameters = read_parameters(None, [f"{name}:={value}" for name, value in values.items()])
    with Recording(path) as recording:
        replay(recording, WhereItIs(), out, parameters, outputs=("points_labeled", "points_obstacles", "objects"))
    with Recording(out) as recording:
        found = [(raw.topic, recording.decode(raw)) for raw in recording.messages()]
    return tuple([message for topic, message in found if topic == f"/coseg_node/{name}"] for name in ("objects", "points_obstacles"))


def test_the_same_object_stands_once_and_obstacles_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.02, 3.1), ("b", 1.08, 9.0), ("a", 1.1, 3.0)])
    objects, obstacles = merged(path, tmp_path / "out.mcap")
    assert [[(entry.track_id, entry.instance, entry.point_count) for entry in message.objects] for message in objects] == [
        [(1, 1, 5)],
        [(1, 1, 7)],
        [(1, 1, 5), (2, 2, 7)],
        [(1, 1, 5), (2, 2, 7)],
    ], "as the cloud with the most points of it has it"
    assert [message.width for message in obstacles] == [5, 12, 12, 12]
    assert [stamp_ns(message.header) for message in obstacles] == [k * SECOND // 100 for k in (100, 102, 108, 110)]
    np.testing.assert_allclose(sorted(set(cloud_from_message(obstacles[-1]).xyz[:, 0].tolist())), [3.0, 9.0])


def test_a_sensor_that_is_silent_for_long_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.1, 9.0), ("a", 8.0, 3.0)])
    objects, obstacles = merged(path, tmp_path / "out.mcap")
    assert [len(message.objects) for message in objects] == [1, 2, 1] and [message.width for message in obstacles] == [5, 12, 5]


def test_without_tracks_every_cloud_has_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.1, 3.0)])
    objects, _ = merged(path, tmp_path / "out.mcap", **{"tracking.enabled": False})
    assert [[entry.instance for entry in message.objects] for message in objects] == [[1], [1, 2]]


def test_without_a_target_frame_nothing_is_merged(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.1, 3.0)])
    assert merged(path, tmp_path / "out.mcap", target_frame="''") == ([], [])
    with Recording(tmp_path / "out.mcap") as recording:
        topics = {f"/coseg_node/{stream}/{name}" for stream in "ab" for name in ("points_labeled", "points_obstacles", "objects")}
        assert set(recording.topics()) == topics | {"/coseg_node/label_info"}


def test_replay_refuses_lists_that_the_recording_does_not_have(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.1, 3.0)])
    with pytest.raises(InputError, match="no topic /c, it has /a, /b"):
        merged(path, tmp_path / "out.mcap", point_topics=["/a", "/c"])
    with Recording(path) as recording, pytest.raises(InputError, match="a topic is given for an input that point_topics"):
        parameters = NodeParameters(point_topics=("/a", "/b"))
        replay(recording, WhereItIs(), tmp_path / "out.mcap", parameters, ReplayTopics(points="/a"))


def test_the_results_of_one_stream_are_shown_and_exported(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mcap", [("a", 1.0, 3.0), ("b", 1.1, 3.0)])
    merged(path, tmp_path / "out.mcap")
    with Recording(tmp_path / "out.mcap") as results, Recording(path) as inputs:
        shown = RecordedResults(results, inputs, "/coseg_node/a", "/a")
        assert shown.labels.names == ("red", "high") and len(list(shown.items())) == 1
    exported = ["export", str(tmp_path / "out.mcap"), "--format", "semantickitti", "--node", "coseg_node/b", "--out", str(tmp_path / "set")]
    assert main(exported) == 0 and len(list((tmp_path / "set").rglob("*.label"))) == 1
