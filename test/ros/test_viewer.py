"""The viewer on a live node over DDS."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

import geoseg_ros.msg
from geoseg_ros.display.frame import LabelledCloud, LabelledImage
from geoseg_ros.display.recorded_results import RecordedResults
from geoseg_ros.errors import InputError
from geoseg_ros.io.recordings import Recording
from geoseg_ros.results import LabelSpace
from geoseg_ros.ros import transforms as frames
from geoseg_ros.ros import viewer
from geoseg_ros.ros.viewer import LiveReport, follow
from support import fake_tf
from support.live_node import LiveNode
from support.ros_cases import cloud_message, image_message, picture, points

pytestmark = pytest.mark.dds


class Shown:
    """Keeps what the viewer gets."""

    def __init__(self) -> None:
        self.spaces: list[LabelSpace] = []
        self.items: list[LabelledCloud | LabelledImage] = []

    def labels(self, labels: LabelSpace) -> None:
        self.spaces.append(labels)

    def add(self, item: LabelledCloud | LabelledImage) -> None:
        assert self.spaces, "labels come first"
        self.items.append(item)

    def clouds(self) -> list[LabelledCloud]:
        return [item for item in self.items if isinstance(item, LabelledCloud)]


class Watching:
    """``follow`` in a thread of its own."""

    def __init__(self, source: str = "/coseg_node", **options) -> None:
        self.shown, self.lines, self.stop = Shown(), [], threading.Event()
        self.report: LiveReport | None = None
        self._thread = threading.Thread(target=self._run, args=(source, options))
        self._thread.start()

    def _run(self, source, options) -> None:
        self.report = follow(source, self.shown, self.stop, log=self.lines.append, **options)

    def end(self) -> LiveReport:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive() and self.report is not None
        return self.report


@pytest.fixture
def watch():
    started = []

    def start(*arguments, **options) -> Watching:
        started.append(Watching(*arguments, **options))
        return started[-1]

    yield start
    for entry in started:
        entry.stop.set()
        entry._thread.join(20)


def connected(node, *names: str) -> bool:
    """Whether somebody listens to these outputs of the node."""
    heard = {p.topic_name for p in node.node.publishers if p.get_subscription_count()}
    return heard >= {f"/coseg_node/{name}" for name in names}


def test_a_live_node_is_shown(live, watch):
    node = live(listen=())
    watching = watch()
    node.wait(lambda: connected(node, "points_labeled", "objects", "overlay", "label_info"))
    node.send("points", cloud_message(points(8), shape=(2, 4), frame="os_lidar", stamp=(123, 456)))
    node.send("image", image_message(picture()[..., ::-1], "bgr8", stamp=(321, 654)))
    node.wait(lambda: len(watching.shown.items) == 2)
    report = watching.end()
    assert watching.shown.spaces == [LabelSpace(("red", "high"))]
    (cloud,) = watching.shown.clouds()
    assert (cloud.stamp_ns, cloud.frame, cloud.cloud.shape) == (123 * 10**9 + 456, "os_lidar", (2, 4))
    assert cloud.label.tolist() == [0, 2, 0, 2, 0, 2, 0, 2] and [entry.name for entry in cloud.objects] == ["high"]
    image = next(item for item in watching.shown.items if isinstance(item, LabelledImage))
    assert image.stamp_ns == 321 * 10**9 + 654 and image.picture.shape == picture().shape and (image.picture != picture()).any()
    assert (report.clouds, report.images, report.objects, report.rejected) == (1, 1, 1, [])


def test_a_snapshot_can_be_viewed(live, tmp_path):
    node = live(snapshot_dir=str(tmp_path), listen=("points_labeled", "mask"))
    node.listen("objects", geoseg_ros.msg.CosegObjectArray)
    node.send("points", cloud_message(points(8), shape=(2, 4)))
    node.send("image", image_message(picture(), "rgb8"))
    node.wait(lambda: node.received["objects"] and node.received["mask"])
    node.call(Trigger, "snapshot", Trigger.Request())
    (folder,) = tmp_path.iterdir()
    with Recording(folder / "messages.mcap") as recording:
        answered = RecordedResults(recording, recording)
        frame = answered.frame()
    assert answered.labels.names == ("label 1", "high") and frame.image.found == (1,)
    assert frame.cloud.label.max() == 2 and len(frame.cloud.objects) == 1
    below = (frame.image.picture == picture()).all(axis=2)
    assert below.any() and not below.all(), "the picture that was sent, and the mask over it"


def test_it_ends_when_told(live, watch):
    node = live(listen=(), image_transport="none")
    watching = watch(finished=lambda report: report.clouds == 2)
    node.wait(lambda: connected(node, "points_labeled", "objects"))
    for number in (1, 2):
        node.send("points", cloud_message(points(4), stamp=(number, 0)))
        node.wait(lambda n=number: len(watching.shown.items) == n)
    node.wait(lambda: watching.report is not None)
    assert watching.report.clouds == 2 and not watching.stop.is_set()
    assert follow("/coseg_node", Shown(), threading.Event(), seconds=0.3).clouds == 0


def test_new_names_come_with_new_packs(live, watch):
    node = live(listen=())
    watching = watch()
    node.wait(lambda: watching.shown.spaces)
    node.node._outputs.publish_labels(LabelSpace(("cup",)))
    node.wait(lambda: watching.shown.spaces[-1].names == ("cup",))


class Buffer(fake_tf.Buffer):
    """Knows the transform at 100 s."""

    def __init__(self):
        super().__init__()
        self.set_transform(fake_tf.transform(100.0), "a test")


TF = SimpleNamespace(Buffer=Buffer, TransformListener=fake_tf.TransformListener, TransformException=fake_tf.TransformException)


@pytest.mark.parametrize("known", [True, False], ids=["tf", "no tf"])
def test_boxes_in_another_frame(live, watch, monkeypatch, known):
    monkeypatch.setattr(frames, "tf2_ros", TF)
    node = live(listen=(), target_frame="odom")
    if not known:  # for the viewer
        monkeypatch.setattr(frames, "tf2_ros", None)
    watching = watch()
    node.wait(lambda: connected(node, "points_labeled", "objects"))
    for seconds in (100, 50)[: 1 + known]:  # at 50 s not even the node knows, so there are no objects
        node.send("points", cloud_message(points(4), stamp=(seconds, 0)))
        node.wait(lambda s=seconds: [c for c in watching.shown.clouds() if c.stamp_ns == s * 10**9])
    first, *later = watching.shown.clouds()
    assert all((cloud.frame, cloud.objects, cloud.objects_frame) == ("lidar", (), "") for cloud in later)
    if known:
        assert (first.frame, first.objects_frame, len(first.objects)) == ("odom", "", 1)
        turned = np.array([1 - np.array(points(4)["y"]), points(4)["x"], np.array(points(4)["z"]) + 2])
        np.testing.assert_allclose(first.cloud.xyz.T, turned, atol=1e-6)
        assert first.objects[0].center[2] == pytest.approx(5)
    else:
        assert (first.frame, first.objects_frame, first.objects) == ("lidar", "odom", ())


@pytest.fixture
def other():
    """A node that publishes under the names of a coseg_node."""
    context = Context()
    rclpy.init(context=context)
    node = Node("other", context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_best_effort_publishers_are_heard_and_bad_messages_counted(watch, other):
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    labels = other.create_publisher(String, "/other/label_info", latched)
    for text in ("nonsense", '[{"id": 0, "name": "none"}, {"id": 1, "name": "cup"}]'):
        labels.publish(String(data=text))
    overlay = other.create_publisher(Image, "/other/overlay", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    cloud = other.create_publisher(PointCloud2, "/other/points_labeled", 1)
    watching = watch("/other", finished=lambda report: report.images > 0 and len(report.rejected) > 1)  # names and cloud
    LiveNode.wait(lambda: overlay.get_subscription_count() and cloud.get_subscription_count())

    def ended() -> bool:
        overlay.publish(image_message(picture(), "rgb8"))
        cloud.publish(cloud_message(points(4)))  # without labels
        return watching.report is not None

    LiveNode.wait(ended)
    assert watching.shown.spaces == [LabelSpace(("cup",))] and not watching.shown.clouds()
    assert any("no field label of type uint32" in line for line in watching.report.rejected) and watching.report.images > 0


def test_results_wait_for_their_names(watch, other):
    overlay = other.create_publisher(Image, "/other/overlay", 10)
    labels = other.create_publisher(String, "/other/label_info", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    watching = watch("/other")
    LiveNode.wait(lambda: overlay.get_subscription_count() and labels.get_subscription_count())
    for number in (1, 2):
        overlay.publish(image_message(picture(), "rgb8", stamp=(number, 0)))
    time.sleep(0.5)
    labels.publish(String(data='[{"id": 0, "name": "none"}]'))
    LiveNode.wait(lambda: watching.shown.items)
    assert [item.stamp_ns for item in watching.shown.items] == [2 * 10**9], "the newest"


def test_silence_is_explained(watch, other, monkeypatch):
    monkeypatch.setattr(viewer, "_SILENT", 1.0)
    publisher = other.create_publisher(PointCloud2, "/other/points_labeled", 1)
    absent, present = watch("/coseg_node"), watch("/other")
    LiveNode.wait(lambda: absent.lines and present.lines)
    assert absent.lines == ["no node /coseg_node yet; there is /other (--node)"]
    assert present.lines == ["/other is there, but no result has come yet; /diagnostics has the state of its inputs"]
    other.destroy_publisher(publisher)


def test_a_name_that_is_none():
    with pytest.raises(InputError, match="--node: '/n x' is no name of a node, expected one like /coseg_node"):
        follow("/n x", Shown(), threading.Event(), seconds=1.0)
