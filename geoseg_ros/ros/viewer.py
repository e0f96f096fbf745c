"""The live outputs of a coseg_node, joined and handed on for viewing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, String

from geoseg_ros.display.frame import LabelledCloud, LabelledImage, Sink
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import results, stamp_ns
from geoseg_ros.ros.message_types import geoseg_msgs
from geoseg_ros.ros.qos import latched_qos, output_qos
from geoseg_ros.ros.transforms import Frames
from geoseg_ros.runtime.placement import NoTransform

_JOIN = 0.3  # seconds that a cloud waits for its objects, which come right behind it
_SILENT = 5.0  # seconds without a result after which the reason is logged
_LINES = 20  # of rejected messages that are kept
_CHECK = 1.0  # seconds between two checks of the publishers


@dataclass
class LiveReport:
    """Attributes: clouds, images: shown; objects: in all clouds; rejected: a line for each of the first that could not be read."""

    clouds: int = 0
    images: int = 0
    objects: int = 0
    rejected: list[str] = field(default_factory=list)


def follow(
    source: str,
    sink: Sink,
    stop: threading.Event,
    finished: Callable[[LiveReport], bool] = lambda report: False,
    seconds: float | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> LiveReport:
    """Show what a node publishes until ``stop`` is set, ``finished`` says so, or the seconds are over.

    Args:
        source: full name of the node.
        log: gets a line where nothing comes, once.

    Raises:
        InputError: ``source`` is no name of a node.
    """
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("geoseg_viewer", context=context, start_parameter_services=False, enable_rosout=False)
        try:
            follower = _Follower(node, source, sink, log)
        except InvalidTopicNameException:
            raise InputError(f"--node: {source!r} is no name of a node, expected one like /coseg_node") from None
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        end = float("inf") if seconds is None else time.monotonic() + seconds
        while not stop.is_set() and time.monotonic() < end and not finished(follower.report):
            executor.spin_once(timeout_sec=0.1)
            follower.tick()
        return follower.report
    finally:
        rclpy.try_shutdown(context=context)


class _Follower:
    """Subscriptions to one node. Only the newest message of a topic waits; a viewer that is too slow leaves some out."""

    def __init__(self, node: Node, source: str, sink: Sink, log: Callable[[str], None]) -> None:
        self._node, self._source, self._sink, self._log = node, source, sink, log
        self.report = LiveReport()
        self._labels = False
        self._early: dict[type, LabelledCloud | LabelledImage] = {}
        self._cloud: tuple[PointCloud2, float] | None = None  # waits for its objects; since when
        self._objects: Any = None
        self._frames: Frames | None = None
        self._begin = self._checked = time.monotonic()
        self._explained = False
        self._subscriptions: dict[str, tuple[Any, Any, QoSProfile]] = {}  # topic -> subscription, how it is made, and as what
        self._subscribe("label_info", String, self._take_labels, latched_qos())
        if above := source.rpartition("/")[0]:  # a stream of a node with several sensors
            self._subscribe(f"{above}/label_info", String, self._take_labels, latched_qos())
        self._subscribe("points_labeled", PointCloud2, self._take_cloud, output_qos())
        self._subscribe("overlay", Image, self._take_image, output_qos())
        if geoseg_msgs is not None:
            self._subscribe("objects", geoseg_msgs.CosegObjectArray, self._take_objects, output_qos())
        else:
            log("geoseg_ros was installed without its messages: no boxes")

    def tick(self) -> None:
        """What has to be done between messages."""
        now = time.monotonic()
        if self._cloud is not None and now - self._cloud[1] > _JOIN:
            self._show_cloud()
        if now - self._checked < _CHECK:
            return
        self._checked = now
        for topic, (_, _, qos) in list(self._subscriptions.items()):
            offered = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(topic)]
            if qos.reliability == ReliabilityPolicy.RELIABLE and ReliabilityPolicy.BEST_EFFORT in offered:
                self._subscribe_again(topic)
        silent = not (self.report.clouds or self.report.images)
        if silent and not self._explained and now - self._begin > _SILENT:
            self._explained = True
            self._log(self._silence())

    def _subscribe(self, name: str, kind: Any, take: Callable[[str, Any], None], qos: QoSProfile) -> None:
        topic = name if name.startswith("/") else f"{self._source}/{name}"
        make = partial(self._node.create_subscription, kind, topic, partial(self._guard, topic, take))
        self._subscriptions[topic] = make(qos), make, qos

    def _subscribe_again(self, topic: str) -> None:
        """Reliable matches the node's own setting; where it was overridden, only best effort does."""
        old, make, qos = self._subscriptions[topic]
        self._node.destroy_subscription(old)
        qos.reliability = ReliabilityPolicy.BEST_EFFORT
        self._subscriptions[topic] = make(qos), make, qos

    def _guard(self, topic: str, take: Callable[[str, Any], None], message: Any) -> None:
        try:
            take(topic, message)
        except InputError as error:
            self._reject(error)

    def _reject(self, error: InputError) -> None:
        if len(self.report.rejected) < _LINES:
            self.report.rejected.append(str(error))

    def _silence(self) -> str:
        known = [name for name, _ in self._node.get_topic_names_and_types() if name.endswith("/points_labeled")]
        nodes = sorted(n.rpartition("/")[0] for n in known if self._node.get_publishers_info_by_topic(n))
        if self._source in nodes:
            return f"{self._source} is there, but no result has come yet; /diagnostics has the state of its inputs"
        return f"no node {self._source} yet" + (f"; there is {', '.join(nodes)} (--node)" if nodes else "")

    # ---- messages

    def _take_labels(self, topic: str, message: String) -> None:
        self._sink.labels(results.label_space(message.data, topic))
        self._labels = True
        while self._early:
            self._show(self._early.popitem()[1])

    def _take_cloud(self, topic: str, message: PointCloud2) -> None:
        if self._cloud is not None:  # its objects have not come, and will not
            self._show_cloud()
        self._cloud = message, time.monotonic()
        if self._objects is not None and stamp_ns(self._objects.header) == stamp_ns(message.header):
            self._show_cloud()

    def _take_objects(self, topic: str, message: Any) -> None:
        self._objects = message
        if self._cloud is not None and stamp_ns(message.header) == stamp_ns(self._cloud[0].header):
            self._show_cloud()

    def _take_image(self, topic: str, message: Image) -> None:
        self._show(LabelledImage(stamp_ns(message.header), codec.image_from_message(message, topic)))

    def _show_cloud(self) -> None:
        assert self._cloud is not None
        (message, _), self._cloud = self._cloud, None
        try:
            self._show(self._joined(message))
        except InputError as error:
            self._reject(error)

    def _show(self, item: LabelledCloud | LabelledImage) -> None:
        if not self._labels:  # the newest of each kind waits for them
            self._early[type(item)] = item
            return
        self._sink.add(item)
        if isinstance(item, LabelledCloud):
            self.report.clouds += 1
            self.report.objects += len(item.objects)
        else:
            self.report.images += 1

    def _joined(self, message: PointCloud2) -> LabelledCloud:
        """The cloud with its objects, in their frame where it is another one and TF knows the way."""
        cloud, label = results.labelled_cloud(message, f"{self._source}/points_labeled")
        stamp, frame = stamp_ns(message.header), message.header.frame_id
        if self._objects is None or stamp_ns(self._objects.header) != stamp:
            return LabelledCloud(stamp, frame, cloud, label)
        where = self._objects.header.frame_id
        if where != frame:
            matrix = self._transform(message.header, where)
            if matrix is None:
                return LabelledCloud(stamp, frame, cloud, label, objects_frame=where)
            cloud = _moved(cloud, matrix)
        return LabelledCloud(stamp, where, cloud, label, results.objects(self._objects, f"{self._source}/objects"))

    def _transform(self, header: Header, frame: str) -> NDArray[np.float64] | None:
        """[4, 4] from the frame of the cloud to that of the objects; None where TF does not know it."""
        if self._frames is None or self._frames.target not in (frame, ""):
            self._frames = Frames(self._node, frame)  # says so where there is no tf2_ros
        try:
            return self._frames.place(header).matrix
        except NoTransform:
            return None


def _moved(cloud: Cloud, matrix: NDArray[np.float64]) -> Cloud:
    """The cloud in another frame; in the order of a sensor no more, for what follows from that is not true of it."""
    return Cloud((cloud.xyz @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32), cloud.rgb)
