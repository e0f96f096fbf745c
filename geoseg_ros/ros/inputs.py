"""The subscriptions of the node. Callbacks store the newest message and return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from geoseg_ros.errors import InputError
from geoseg_ros.ros.message_types import InstalledTypes, type_name
from geoseg_ros.ros.parameters import refuse_unknown
from geoseg_ros.ros.qos import offered_reliable, reliability_is_given, subscribe, subscribe_latched
from geoseg_ros.runtime.mailbox import Mailbox
from geoseg_ros.runtime.node_parameters import Sensor
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


class _Planned(NamedTuple):
    """A topic to subscribe. Attributes: kind of its messages; topic; put: gets them; stream: counts what the middleware reports lost."""

    kind: Any
    topic: str
    put: _Put
    stream: StreamState | None = None


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
    """Subscriptions to sensors.

    Args:
        node: subscribes.
        sensors: where clouds and images come from.

    Attributes:
        streams: one per input that is worked on, by name.
        companions: those that go with depth images, by name.
        mailbox: where messages go.
        paused: messages are counted and forgotten.
        newest: topic -> (type, newest message), companions of a depth image too; also of what is rejected later.
        remember: called with (stream, message) while a target is learnt, else None.

    Raises:
        InputError: there is no input at all, two are the same, or the user has set a parameter that the node does not have.
    """

    def __init__(self, node: Node, sensors: Iterable[Sensor]) -> None:
        self._node = node
        self._plan: list[_Planned] = []
        self._subscriptions: list[Any] = []  # as planned
        self._latched: list[Any] = []
        self._timer: Any = None
        self.streams: dict[str, StreamState] = {}
        self.companions: dict[str, CompanionState] = {}
        self.paused = False
        self.newest: dict[str, tuple[str, Any]] = {}
        self.remember: Callable[[str, Any], None] | None = None
        self._colors: list[RecentImages] = []
        for sensor in sensors:
            self._stream(sensor, self._depth_camera(sensor) if sensor.camera_info else lambda message: message)
        if not self.streams:
            raise InputError("parameters cloud_source and image_transport: both are none, expected at least one input")
        self.mailbox = Mailbox(list(self.streams))
        refuse_unknown(node, [node.resolve_topic_name(planned.topic) for planned in self._plan])

    def open(self) -> None:
        """Subscribe. Raises InputError for a quality of service that does not exist."""
        for planned in self._plan:
            reliable = bool(offered_reliable(self._node, self._node.resolve_topic_name(planned.topic)))
            self._subscriptions.append(self._subscribe(planned, reliable))
            if planned.kind is CameraInfo:  # a driver may have sent it once, before this node came
                self._latched.append(subscribe_latched(self._node, planned.kind, planned.topic, self._keep(planned.topic)))
        for stream in self.streams.values():
            stream.begin()
        refuse_unknown(self._node)
        self._timer = self._node.create_timer(_LOOK, self._follow_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Unsubscribe, and forget what has not been worked on."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for subscription in [*self._subscriptions, *self._latched]:
            self._node.destroy_subscription(subscription)
        self._timer = None
        self._subscriptions.clear()
        self._latched.clear()
        self.mailbox.clear()
        self.newest.clear()
        for colors in self._colors:
            colors.clear()

    def _subscribe(self, planned: _Planned, reliable: bool) -> Any:
        kind, topic, put, stream = planned
        subscription = subscribe(self._node, kind, topic, put, stream, reliable)
        if stream is not None:
            stream.best_effort = subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
            stream.count_losses_anew()
        return subscription

    def _follow_publishers(self) -> None:
        """Reliable where all publishers offer it, since best effort loses most large messages of Fast DDS as it comes; else best effort."""
        for place, planned in enumerate(self._plan):
            name = self._node.resolve_topic_name(planned.topic)
            reliable = self._subscriptions[place].qos_profile.reliability == ReliabilityPolicy.RELIABLE
            offered = offered_reliable(self._node, name)
            if offered in (None, reliable) or reliability_is_given(self._node, name):
                continue
            self._node.get_logger().info(f"{name}: subscribed {'reliable' if offered else 'best effort'}, as its publishers offer")
            self._node.destroy_subscription(self._subscriptions[place])
            self._subscriptions[place] = self._subscribe(planned, bool(offered))

    def pause(self, paused: bool) -> None:
        """Forget messages from now on, or take them again."""
        self.paused = paused
        if paused:
            self.mailbox.clear()

    def companion(self, topic: str) -> Any:
        """The newest message of such a topic as ``~/camera_info`` or ``~/color``, or None."""
        return self.newest.get(self._node.resolve_topic_name(topic), ("", None))[1]

    def _stream(self, sensor: Sensor, wrap: Callable[[Any], Any]) -> None:
        stream = StreamState.of(sensor, self._node.resolve_topic_name(sensor.topic))
        if twin := next((other for other in self.streams.values() if other.topic == stream.topic), None):
            raise InputError(f"{stream.topic}: the topic of two inputs, {twin.name} and {stream.name}")
        self.streams[stream.name] = stream

        def put(message: Any) -> None:
            stream.rate.add()
            self.newest[stream.topic] = (stream.message_type, message)
            if self.paused:
                stream.paused += 1
                return
            wrapped = wrap(message)
            self.mailbox.put(stream.name, Arrival(wrapped, time.monotonic()))
            if self.remember is not None:
                self.remember(stream.name, wrapped)

        self._plan.append(_Planned(InstalledTypes()[sensor.message_type], sensor.topic, put, stream))

    def _companion(self, name: str, kind: Any, topic: str, expected: bool, keep: _Put = lambda message: None) -> None:
        resolved = self._node.resolve_topic_name(topic)
        state = self.companions[name] = CompanionState(name, resolved, type_name(kind), expected)

        def put(message: Any) -> None:
            state.arrive()
            keep(message)
            self.newest[resolved] = (type_name(kind), message)

        self._plan.append(_Planned(kind, topic, put))

    def _keep(self, topic: str) -> _Put:
        """What was sent before; what is sent from now on comes here as well, and is counted by the other subscription."""
        resolved = self._node.resolve_topic_name(topic)

        def keep(message: CameraInfo) -> None:
            for state in self.companions.values():
                if state.topic == resolved:
                    state.received = max(state.received, 1)
            self.newest[resolved] = (type_name(CameraInfo), message)

        return keep

    def _depth_camera(self, sensor: Sensor) -> Callable[[Image], DepthFrame]:
        """Subscribe what goes with the depth images; returns what joins it to one."""
        node, colors, color_topic = self._node, RecentImages() if message_filters is None else FilteredImages(), ""
        self._colors.append(colors)
        self._companion(f"{sensor.prefix}camera_info", CameraInfo, sensor.camera_info, True)
        info_topic = node.resolve_topic_name(sensor.camera_info)
        if sensor.color:
            resolved = node.resolve_topic_name(sensor.color)
            if sensor.prefix or resolved != f"{node.get_fully_qualified_name()}/color":  # who names it waits for it
                color_topic = resolved
            self._companion(f"{sensor.prefix}color", Image, sensor.color, bool(color_topic), colors.add)
        return lambda message: DepthFrame(message, self.companion(info_topic), colors, info_topic, color_topic)
