"""The subscriptions of the node. Callbacks store the newest message and return."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from geoseg_ros.errors import InputError
from geoseg_ros.ros.parameters import refuse_unknown
from geoseg_ros.ros.qos import subscribe
from geoseg_ros.ros.stream import Stream
from geoseg_ros.runtime.mailbox import Mailbox
from geoseg_ros.runtime.node_parameters import NodeParameters

_MESSAGE_TYPES = {kind: f"sensor_msgs/msg/{kind.__name__}" for kind in (PointCloud2, Image, CompressedImage)}
_Put = Callable[[Any], None]
_COLORS = 10  # kept for a depth image that comes before its colour or after it: a third of a second of them


class Arrival(NamedTuple):
    """What a callback stores. Attributes: message (with its companions for depth); seconds of the monotonic clock."""

    message: Any
    time: float


class Depth(NamedTuple):
    """A depth image with the newest calibration at its arrival, or None where none had come yet.

    ``colors`` gives the last colour images, those too that come while the depth image waits for the worker.
    """

    header: Any
    image: Any
    info: Any
    colors: Callable[[], Sequence[Any]]


class Inputs:
    """The inputs that the parameters ask for.

    Attributes:
        streams: one per input that is worked on.
        mailbox: where messages go.
        paused: messages are counted and forgotten.
        newest: topic -> (type, newest message), companions of a depth image too; also of what is rejected later.

    Raises:
        InputError: there is no input at all, or the user has set a parameter that the node does not have.
    """

    def __init__(self, node: Node, parameters: NodeParameters) -> None:
        self._node = node
        self._plan: list[tuple[Any, str, _Put]] = []
        self._subscriptions: list[Any] = []
        self.streams: dict[str, Stream] = {}
        self.paused = False
        self.newest: dict[str, tuple[str, Any]] = {}
        self._colors: tuple[Any, ...] = ()
        source, transport = parameters.cloud_source, parameters.image_transport
        if source == "points":
            self._stream("cloud", PointCloud2, "~/points")
        elif source == "depth":
            self._stream("cloud", Image, "~/depth", self._depth)
            self._companion(CameraInfo, "~/camera_info")
            self._companion(Image, "~/color")
        if transport == "raw":
            self._stream("image", Image, "~/image")
        elif transport == "compressed":
            self._stream("image", CompressedImage, "~/image/compressed")
        if not self.streams:
            raise InputError("parameters cloud_source and image_transport: both are none, expected at least one input")
        self.mailbox = Mailbox(list(self.streams))
        refuse_unknown(node, [node.resolve_topic_name(topic) for _, topic, _ in self._plan])

    def open(self) -> None:
        """Subscribe. Raises InputError for a quality of service that does not exist."""
        for kind, topic, put in self._plan:
            name = self._node.resolve_topic_name(topic)
            stream = next((s for s in self.streams.values() if s.topic == name), None)
            subscription = subscribe(self._node, kind, topic, put, stream)
            self._subscriptions.append(subscription)
            if stream is not None:
                stream.best_effort = subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
                stream.begin()
        refuse_unknown(self._node)

    def close(self) -> None:
        """Unsubscribe, and forget what has not been worked on."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.mailbox.clear()
        self.newest.clear()
        self._colors = ()

    def pause(self, paused: bool) -> None:
        """Forget messages from now on, or take them again."""
        self.paused = paused
        if paused:
            self.mailbox.clear()

    def _stream(self, name: str, kind: Any, topic: str, wrap: Callable[[Any], Any] = lambda message: message) -> None:
        stream = Stream(name, self._node.resolve_topic_name(topic), _MESSAGE_TYPES[kind])
        self.streams[name] = stream

        def put(message: Any) -> None:
            stream.rate.add()
            self.newest[stream.topic] = (stream.message_type, message)
            if self.paused:
                stream.paused += 1
            else:
                self.mailbox.put(name, Arrival(wrap(message), time.monotonic()))

        self._plan.append((kind, topic, put))

    def _companion(self, kind: Any, topic: str) -> None:
        name, type_name = self._node.resolve_topic_name(topic), f"sensor_msgs/msg/{kind.__name__}"

        def put(message: Any) -> None:
            self.newest[name] = (type_name, message)
            if kind is Image:
                self._colors = (*self._colors[1 - _COLORS :], message)  # a new tuple, for the worker reads the old one

        self._plan.append((kind, topic, put))

    def companion(self, topic: str) -> Any:
        """The newest message of ``~/camera_info`` or ``~/color``, or None."""
        return self.newest.get(self._node.resolve_topic_name(topic), ("", None))[1]

    def _depth(self, message: Image) -> Depth:
        return Depth(message.header, message, self.companion("~/camera_info"), lambda: self._colors)
