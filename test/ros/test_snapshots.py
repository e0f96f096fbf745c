"""Snapshots: what the node writes for a bug report."""

import json
import resource

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from geoseg_ros.io.recordings import Recording
from geoseg_ros.runtime.parameter_file import read_parameters
from geoseg_ros.runtime.replay import replay
from support.fake_pipeline import FakePipeline
from support.ros_cases import cloud_message, image_message, large_cloud_message, picture, points

pytestmark = pytest.mark.dds


def test_a_snapshot_can_be_replayed(live, tmp_path):
    node = live(snapshot_dir=str(tmp_path / "shots"), snapshot_keep=2, max_points=1000)
    sent = cloud_message(points(), stamp=(5, 6))
    node.send("points", sent)
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    node.wait(lambda: node.received["points_labeled"] and node.received["mask"])
    rejected = image_message(picture(), "plaid8")
    node.send_and_wait("image", rejected, "image")
    answers = [node.call(Trigger, "snapshot", Trigger.Request()) for _ in range(3)]
    assert all(answer.success for answer in answers)
    folders = sorted(str(path) for path in (tmp_path / "shots").iterdir())
    assert folders == sorted(answer.message for answer in answers[1:]), "only two are kept, and nothing half-written"
    shot = tmp_path / "shots" / answers[2].message.rsplit("/", 1)[1]
    with Recording(shot / "messages.mcap") as recording:
        found = {message.topic: recording.decode(message) for message in recording.messages()}
    assert set(found) == {f"/coseg_node/{name}" for name in ("points", "image", "points_labeled", "mask")}
    assert bytes(found["/coseg_node/points"].data) == bytes(sent.data) and found["/coseg_node/points"].header.stamp.nanosec == 6
    assert found["/coseg_node/image"].encoding == "plaid8", "the newest input is what was rejected"
    assert bytes(found["/coseg_node/mask"].data) == bytes(node.received["mask"][0].data)
    parameters = yaml.safe_load((shot / "parameters.yaml").read_text())["/**"]["ros__parameters"]
    assert parameters["max_points"] == 1000 and parameters["pipeline.coseg.p_max"] == 0.05
    report = json.loads((shot / "report.json").read_text())
    assert report["versions"]["rclpy"] and report["versions"]["geoseg_ros"]
    assert report["diagnostics"]["coseg_node: image"]["rejected"] == "1"
    assert report["diagnostics"]["coseg_node: pipeline"]["pack_versions"] == "1, 1"
    assert read_parameters(shot / "parameters.yaml").max_points == 1000
    with Recording(shot / "messages.mcap") as recording:
        again = replay(recording, FakePipeline(), tmp_path / "again.mcap", read_parameters(shot / "parameters.yaml"))
    assert (again.clouds, again.images, len(again.rejected)) == (1, 0, 1) and "plaid8" in again.rejected[0]


def test_a_snapshot_that_cannot_be_written_is_refused_and_leaves_nothing(live, tmp_path):
    (tmp_path / "file").write_text("in the way")
    node = live(snapshot_dir=str(tmp_path / "file"))
    answer = node.call(Trigger, "snapshot", Trigger.Request())
    assert not answer.success and str(tmp_path / "file") in answer.message and "\n" not in answer.message

    assert node.node.set_parameters([Parameter("snapshot_dir", value=str(tmp_path / "shots"))])[0].successful
    node.send_and_wait("points", large_cloud_message(np.ones((100_000, 3))), "cloud")
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, whole[1]))  # the kernel ends writing in the middle of a file, as a full disk does
    try:
        answer = node.call(Trigger, "snapshot", Trigger.Request())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert not answer.success and "File too large" in answer.message and "\n" not in answer.message
    assert list((tmp_path / "shots").iterdir()) == [] and node.node.worker.active
    answer = node.call(Trigger, "snapshot", Trigger.Request())
    assert answer.success, "once there is room"
    assert [str(path) for path in (tmp_path / "shots").iterdir()] == [answer.message]


def test_a_snapshot_leaves_out_what_cannot_be_recorded(live, tmp_path, monkeypatch):
    """vision_msgs, where it is installed, is not among the message definitions that recordings know."""
    node = live(snapshot_dir=str(tmp_path))
    node.send_and_wait("points", cloud_message(points()), "cloud")
    monkeypatch.setattr(String, "__module__", "vision_msgs.msg._string")
    node.node._outputs.last["/coseg_node/detections"] = String(data="boxes")
    answer = node.call(Trigger, "snapshot", Trigger.Request())
    assert answer.success
    with Recording(f"{answer.message}/messages.mcap") as recording:
        assert "/coseg_node/detections" not in recording.topics() and "/coseg_node/points" in recording.topics()
    report = json.loads((tmp_path / answer.message / "report.json").read_text())
    assert report["left_out"] == {"/coseg_node/detections": "vision_msgs/msg/String"}
