"""The subscriptions of the node. Callbacks store the newest message and return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from geoseg_ros.errors import InputError
from geoseg_ros.ros.message_types import type_name
from geoseg_ros.ros.parameters import refuse_unknown
from geoseg_ros.ros.qos import offered_reliable, reliability_is_given, subscribe, subscribe_latched
from geoseg_ros.runtime.mailbox import Mailbox
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.rgbd import KEPT, DepthFrame, RecentImages
from geoseg_ros.runtime.stream_state import CompanionState, StreamState

try:
    import message_filters
except ImportError:
    message_filters = None

_Put = Callable[[Any], None]
_LOOK = 1.0  # seconds between two looks at what the publishers offer


class Arrival(NamedTuple):
    """What a callback stores. Attributes: message (a DepthFrame for depth); seconds of the monotonic clock."""

    message: Any
    time: float


class FilteredImages(RecentImages):
    """The same on message_filters.

    Its Cache fits, and not its synchronizers: these keep back every depth image that finds no colour, and give every colour image to one
    depth image only, so that of a depth camera at 30 Hz beside a colour camera at 5 Hz, 25 images a second would be lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def add(self, image: Any) -> None:
        if image.header.stamp.sec >= 0:  # rclpy has no time before 1970
            with self._lock:
                self._input.signalMessage(image)

    def between(self, begin: int, end: int) -> Sequence[Any]:
        if end < 0:
            return ()
        first, last = (Time(nanoseconds=max(0, stamp), clock_type=ClockType.ROS_TIME) for stamp in (begin, end))
        with self._lock:
            return self._cache.getInterval(first, last)

    def clear(self) -> None:
        with self._lock:
            self._input = message_filters.SimpleFilter()
            self._cache = message_filters.Cache(self._input, KEPT)


class Inputs:
    """The inputs that the parameters ask for.

    Args:
        node: subscribes.
        parameters: where clouds and images come from.

    Attributes:
        streams: one per input that is worked on.
        companions: those that go with depth images.
        mailbox: where messages go.
        paused: messages are counted and forgotten.
        newest: topic -> (type, newest message), companions of a depth image too; also of what is rejected later.
        remember: called with (stream, message) while a target is learnt, else None.

    Raises:
        InputError: there is no input at all, or the user has set a parameter that the node does not have.
    """

    def __init__(self, node: Node, parameters: NodeParameters) -> None:
        self._node = node
        self._plan: list[tuple[Any, str, _Put]] = []
        self._subscriptions: dict[str, Any] = {}  # by the node's name of the topic
        self._latched: Any = None
        self._timer: Any = None
        self.streams: dict[str, StreamState] = {}
        self.companions: dict[str, CompanionState] = {}
        self.paused = False
        self.newest: dict[str, tuple[str, Any]] = {}
        self.remember: Callable[[str, Any], None] | None = None
        self._colors = RecentImages() if message_filters is None else FilteredImages()
        source, transport = parameters.cloud_source, parameters.image_transport
        if source == "points":
            self._stream("cloud", PointCloud2, "~/points")
        elif source == "depth":
            self._stream("cloud", Image, "~/depth", self._depth)
            self._companion(CameraInfo, "~/camera_info", True)
            # who gives it another name waits for it
            remapped = node.resolve_topic_name("~/color") != f"{node.get_fully_qualified_name()}/color"
            self._companion(Image, "~/color", remapped, self._colors.add)
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
            self._subscribe(kind, topic, put, bool(offered_reliable(self._node, self._node.resolve_topic_name(topic))))
            if kind is CameraInfo:  # a driver may have sent it once, before this node came
                self._latched = subscribe_latched(self._node, kind, topic, self._keep)
        for stream in self.streams.values():
            stream.begin()
        refuse_unknown(self._node)
        self._timer = self._node.create_timer(_LOOK, self._follow_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Unsubscribe, and forget what has not been worked on."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for subscription in [*self._subscriptions.values(), *filter(None, [self._latched])]:
            self._node.destroy_subscription(subscription)
        self._timer = self._latched = None
        self._subscriptions.clear()
        self.mailbox.clear()
        self.newest.clear()
        self._colors.clear()

    def _subscribe(self, kind: Any, topic: str, put: _Put, reliable: bool) -> None:
        name = self._node.resolve_topic_name(topic)
        stream = next((s for s in self.streams.values() if s.topic == name), None)
        subscription = subscribe(self._node, kind, topic, put, stream, reliable)
        self._subscriptions[topic] = subscription
        if stream is not None:
            stream.best_effort = subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
            stream.count_losses_anew()

    def _follow_publishers(self) -> None:
        """Reliable where all publishers offer it, since best effort loses most large messages of Fast DDS as it comes; else best effort."""
        for kind, topic, put in self._plan:
            name = self._node.resolve_topic_name(topic)
            reliable = self._subscriptions[topic].qos_profile.reliability == ReliabilityPolicy.RELIABLE
            offered = offered_reliable(self._node, name)
            if offered in (None, reliable) or reliability_is_given(self._node, name):
                continue
            self._node.get_logger().info(f"{name}: subscribed {'reliable' if offered else 'best effort'}, as its publishers offer")
            self._node.destroy_subscription(self._subscriptions.pop(topic))
            self._subscribe(kind, topic, put, bool(offered))

    def pause(self, paused: bool) -> None:
        """Forget messages from now on, or take them again."""
        self.paused = paused
        if paused:
            self.mailbox.clear()

    def companion(self, topic: str) -> Any:
        """The newest message of ``~/camera_info`` or ``~/color``, or None."""
        return self.newest.get(self._node.resolve_topic_name(topic), ("", None))[1]

    def _stream(self, name: str, kind: Any, topic: str, wrap: Callable[[Any], Any] = lambda message: message) -> None:
        stream = StreamState(name, self._node.resolve_topic_name(topic), type_name(kind))
        self.streams[name] = stream

        def put(message: Any) -> None:
            stream.rate.add()
            self.newest[stream.topic] = (stream.message_type, message)
            if self.paused:
                stream.paused += 1
                return
            wrapped = wrap(message)
            self.mailbox.put(name, Arrival(wrapped, time.monotonic()))
            if self.remember is not None:
                self.remember(name, wrapped)

        self._plan.append((kind, topic, put))

    def _companion(self, kind: Any, topic: str, expected: bool, keep: _Put = lambda message: None) -> None:
        name = self._node.resolve_topic_name(topic)
        state = CompanionState(topic.removeprefix("~/"), name, type_name(kind), expected)
        self.companions[state.name] = state

        def put(message: Any) -> None:
            state.arrive()
            keep(message)
            self.newest[name] = (type_name(kind), message)

        self._plan.append((kind, topic, put))

    def _keep(self, message: CameraInfo) -> None:
        """What was sent before; what is sent from now on comes here as well, and is counted by the other subscription."""
        state = self.companions["camera_info"]
        state.received = max(state.received, 1)
        self.newest[state.topic] = (state.message_type, message)

    def _depth(self, message: Image) -> DepthFrame:
        topic = "~/camera_info"
        color = self.companions["color"]
        color_topic = color.topic if color.expected else ""
        return DepthFrame(message, self.companion(topic), self._colors, self._node.resolve_topic_name(topic), color_topic)
