"""Run-time control: pause, snapshot, packs that change while the node runs, the target frame, markers."""

import json
import resource
import threading

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.recordings import Recording
from geoseg_ros.results import LabelSpace, ObjectInstance
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros.message_types import InstalledTypes
from geoseg_ros.runtime.parameter_file import read_parameters
from geoseg_ros.runtime.replay import replay
from support import fake_tf
from support.fake_pipeline import FakePipeline
from support.ros_cases import cloud_message, image_message, large_cloud_message, picture, points

pytestmark = pytest.mark.dds

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

TYPES = InstalledTypes()


def values(node, stream):
    """What the diagnostics say of a stream: (level, message, values)."""
    status = next(s for s in node.node._diagnostics.report().status if s.name == f"coseg_node: {stream}")
    return status.level, status.message, {v.key: v.value for v in status.values}


def test_a_paused_node_counts_and_forgets(live):
    node = live()
    answer = node.call(SetBool, "pause", SetBool.Request(data=True))
    assert answer.success and answer.message == "paused"
    for i in range(3):
        node.send("points", cloud_message(points()))
        node.wait(lambda i=i: node.node.inputs.streams["cloud"].paused == i + 1)
    assert node.counts("cloud").received == 0 and values(node, "pipeline")[1] == "paused"
    assert values(node, "cloud")[2]["paused"] == "3"
    assert node.call(SetBool, "pause", SetBool.Request(data=False)).message == "running"
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    assert len(node.received["points_labeled"]) == 1 and values(node, "pipeline")[1] == "running"


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


class Packs:
    """A pipeline factory: packs are their names. ``go`` lets it open them; ``bad`` cannot be opened."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()

    @staticmethod
    def check(packs):
        if "missing" in packs:
            raise InputError("pack 'missing': no such file")
        return tuple(packs)

    def __call__(self, parameters):
        assert self.go.wait(10)
        if "bad" in parameters.packs:
            raise RuntimeError("out of memory")
        pipeline = FakePipeline()
        pipeline.labels = LabelSpace(parameters.packs)
        pipeline.pack_versions = ["1"] * len(parameters.packs)
        return pipeline


def names(node):
    return list(node.node.worker.pipeline.labels.names)


def test_packs_change_while_the_node_works(live):
    packs = Packs()
    node = live(packs, pack_check=packs.check, packs=["red", "high"])
    packs.go.clear()
    assert node.set_one("packs", ["red", "high", "mug"]) == (True, "")
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    assert names(node) == ["red", "high"], "the old ones work until the new ones are open"
    assert node.set_one("packs", ["mug"]) == (False, "packs: others are being opened, try again later")
    assert node.set_one("pipeline.coseg.p_max", 0.01) == (True, "")
    assert node.node.worker.pipeline.config.coseg.p_max == 0.01
    assert values(node, "pipeline")[1] == "opening packs"
    packs.go.set()
    node.wait(lambda: names(node) == ["red", "high", "mug"])
    node.wait(lambda: "mug" in node.labels[-1])
    assert values(node, "pipeline")[1:] == ("running", values(node, "pipeline")[2])
    assert node.node.worker.pipeline.config.coseg.p_max == 0.01, "also of packs that were being opened"
    assert node.set_one("wanted_labels", ["mug"]) == (True, "")
    assert node.set_one("packs", ["red", "high"])[1] == "wanted_labels: no concept mug, expected some of red, high"
    node.received["points_labeled"].clear()
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])


def test_bad_packs_leave_the_old_ones(live):
    packs = Packs()
    node = live(packs, pack_check=packs.check, packs=["red", "high"])
    assert node.set_one("packs", ["missing"]) == (False, "packs: pack 'missing': no such file")
    assert node.set_one("packs", ["bad"]) == (True, "")  # looks right, and fails later
    node.wait(lambda: node.lines)
    assert len(node.lines) == 1 and "out of memory; the old ones stay" in node.lines[0]
    assert node.node.get_parameter("packs").value == ["red", "high"] and node.node.parameters.packs == ("red", "high")
    assert names(node) == ["red", "high"] and node.set_one("packs", ["red"]) == (True, "")
    node.wait(lambda: names(node) == ["red"])


def test_boxes_for_rviz(live):
    node = live(listen=("markers",))
    message = cloud_message(points(), frame="os_lidar")
    node.send("points", message)
    node.wait(lambda: node.received["markers"])
    clear, box, text = node.received["markers"][0].markers
    assert clear.action == Marker.DELETEALL and box.type == Marker.CUBE and text.type == Marker.TEXT_VIEW_FACING
    assert box.header == message.header and (box.scale.x, box.scale.z) == (0.1, 0.3) and text.text == "high"
    assert text.pose.position.z > box.pose.position.z + 0.15
    expected = FakePipeline().labels.palette()[2] / 255
    np.testing.assert_allclose([box.color.r, box.color.g, box.color.b], expected, atol=1e-6)
    node.send("points", message)
    node.wait(lambda: len(node.received["markers"]) == 2)
    assert node.received["markers"][1].markers[2].text == "high 1"


def test_markers_that_are_filled_again_are_as_new_ones():
    palette = FakePipeline().labels.palette()

    def things(count):
        return [
            ObjectInstance(1 + i % 2, f"thing {i}", i + 1, 0.9, 0.1, np.full(3, float(i)), np.eye(3), np.full(3, 1.0 + i), 5, track=i)
            for i in range(count)
        ]

    message = None
    for count in (2, 0, 3, 1):
        given, header = things(count), Header(frame_id=f"frame {count}")
        poses = codec.object_poses(TYPES, given)
        message = codec.marker_array(TYPES, header, given, poses, palette, message)
        assert message == codec.marker_array(TYPES, header, given, poses, palette) and len(message.markers) == 1 + 2 * count


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
    level, message, told = values(node, "cloud")
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


def test_stages_presence_age_and_memory_are_told(live):
    node = live(listen=("mask", "points_labeled"))
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    node.send_and_wait("image", image_message(np.zeros((4, 4, 3), np.uint8), "rgb8"), "image")
    node.send_and_wait("points", cloud_message(points()), "cloud")
    _, message, told = values(node, "image")
    assert "Hz" in message and 0 <= float(told["age_s"]) < 10
    assert all(0 <= float(told[f"{s}_p50_ms"]) <= float(told[f"{s}_p95_ms"]) for s in ("decode", "pipeline", "publish"))
    assert told["presence_rate red"] == "0.500"
    assert "tracking_p95_ms" in values(node, "cloud")[2]
    assert 20 < float(values(node, "pipeline")[2]["memory_mib"]) < 100_000 and values(node, "pipeline")[2]["state"] == "active"


def test_messages_that_cannot_be_read_are_a_warning_while_they_come(live):
    node = live(status_period=0.1)

    def cloud():
        return next(s for s in node.diagnostics[-1].status if s.name == "coseg_node: cloud")

    node.wait(lambda: node.diagnostics and cloud().level == b"\0")
    node.send_and_wait("points", cloud_message(points(), point_step=12), "cloud")
    node.wait(lambda: any(s.level == b"\x01" and "1 rejected" in s.message for m in node.diagnostics for s in m.status))
    node.wait(lambda: cloud().level == b"\0" and "rejected" not in cloud().message)


def test_a_publisher_that_cannot_be_heard_is_named(live):
    node = live(status_period=0.1, listen=())  # the tests' inputs are reliable
    weak = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    silent = PublisherEventCallbacks(use_default_callbacks=False)
    node.client.create_publisher(PointCloud2, "/coseg_node/points", weak, event_callbacks=silent)
    node.wait(lambda: node.lines)
    line = node.lines[0]
    assert line.startswith("/coseg_node/points: a publisher cannot be heard, 2 publishers (")
    assert line.endswith("client offers less: set qos_overrides./coseg_node/points.subscription.reliability to best_effort")
    level, message, _ = values(node, "cloud")
    assert level == b"\x01" and "QoS of a publisher does not match" in message
