"""Publishing a recording over DDS with its own timing."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.io.recordings import PlayConfig, RawMessage, Recording

_SETTLE = 0.5  # seconds
_CLOCK_PERIOD = 0.025  # seconds of wall time between clock messages, 40 Hz as ros2 bag play
_DEPTH = 20


@dataclass
class PlayReport:
    """What was played.

    Attributes:
        published: messages per topic that was published on.
        seconds: wall time from the first message on.
        latest: the worst delay behind the bag's timing, seconds.
        skipped: one line per topic that cannot be published here.
        stopped: ended before the end of the recording.
    """

    published: dict[str, int]
    seconds: float = 0.0
    latest: float = 0.0
    skipped: list[str] = field(default_factory=list)
    stopped: bool = False


def play(
    path: str | os.PathLike[str], config: PlayConfig, stop: threading.Event, started: Callable[[PlayReport], None] | None = None
) -> PlayReport:
    """Publish the messages of a recording as they are, reliable, without decoding them.

    Args:
        path: anything that ``Recording`` opens.
        stop: set it from a signal handler or another thread to end early.
        started: called once when the publishers stand, with the report so far.

    Raises:
        InputError: bad recording, topic, or option; nothing that can be published.
        GeosegError: the subscribers did not come in time.
    """
    with Recording(path) as recording:
        unknown = [name for name in (*(config.topics or ()), *config.remap) if name not in recording.topics()]
        if unknown:
            raise InputError(f"{path}: no topic {unknown[0]}, it has {', '.join(recording.topics()) or 'none'}")
        # without args=[] rclpy reads the command line itself, and would apply the option --remap a second time
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node("geoseg_player", start_parameter_services=False, enable_rosout=False)
            return _Player(node, recording, config, stop).run(started)
        finally:
            rclpy.try_shutdown()


class _Player:
    def __init__(self, node: Node, recording: Recording, config: PlayConfig, stop: threading.Event) -> None:
        self._recording = recording
        self._config = config
        self._stop = stop
        self._publishers: dict[str, Publisher] = {}
        self.report = PlayReport({})
        for name, topic in recording.topics().items():
            if config.topics is not None and name not in config.topics:
                continue
            message_class = _message_class(topic.type)
            if message_class is None:
                self.report.skipped.append(f"{name}: message type {topic.type} is not installed")
                continue
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
            qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self._publishers[name] = node.create_publisher(message_class, config.remap.get(name, name), qos)
        if not self._publishers:
            why = "; ".join(self.report.skipped) or "it has no topics"
            raise InputError(f"{recording.path}: nothing to play: {why}")
        self.report.published = {publisher.topic_name: 0 for publisher in self._publishers.values()}
        self._clock = node.create_publisher(Clock, "/clock", 10) if config.clock else None

    def run(self, started: Callable[[PlayReport], None] | None) -> PlayReport:
        if started is not None:
            started(self.report)
        self._wait_for_subscribers()
        begin = time.monotonic()
        while not self._stop.is_set():
            self._play_once()
            if not self._config.loop:
                break
        self.report.seconds = time.monotonic() - begin
        self.report.stopped = self._stop.is_set()
        if not self.report.stopped:
            for publisher in self._publishers.values():  # else the last messages die with this process
                publisher.wait_for_all_acked(Duration(seconds=5))
            self._stop.wait(_SETTLE)  # who reads with best effort acknowledges nothing
        return self.report

    def _wait_for_subscribers(self) -> None:
        deadline = time.monotonic() + self._config.wait_seconds
        while not self._stop.is_set():
            lonely = [p.topic_name for p in self._publishers.values() if p.get_subscription_count() < self._config.wait]
            if not lonely:
                if self._config.wait:  # a subscriber that is known here may not know us yet, and then best effort misses the first messages
                    self._stop.wait(_SETTLE)
                return
            if time.monotonic() > deadline:
                raise GeosegError(f"{', '.join(lonely)}: fewer than {self._config.wait} subscribers after {self._config.wait_seconds:g} s")
            self._stop.wait(0.05)

    def _play_once(self) -> None:
        first_ns: int | None = None
        begin = time.monotonic()
        for message in self._recording.messages(list(self._publishers)):
            first_ns = message.stamp_ns if first_ns is None else first_ns
            due = begin + (message.stamp_ns - first_ns) * 1e-9 / self._config.rate
            if not self._wait_until(due, message.stamp_ns):
                return
            self.report.latest = max(self.report.latest, time.monotonic() - due)
            self._publish(message)

    def _wait_until(self, due: float, stamp_ns: int) -> bool:
        """Sleep until ``due``, and publish the time meanwhile; False when stopped."""
        while not self._stop.is_set():
            left = due - time.monotonic()
            if self._clock is not None:
                self._publish_clock(stamp_ns - round(max(left, 0.0) * self._config.rate * 1e9))
            if left <= 0:
                return True
            self._stop.wait(min(left, _CLOCK_PERIOD) if self._clock is not None else left)
        return False

    def _publish_clock(self, now_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(max(now_ns, 0), 10**9)
        self._clock.publish(message)  # type: ignore[union-attr]

    def _publish(self, message: RawMessage) -> None:
        publisher = self._publishers[message.topic]
        publisher.publish(message.data)
        self.report.published[publisher.topic_name] += 1


def _message_class(type_name: str) -> Any | None:
    package, folder, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{folder}"), name)
    except (ImportError, AttributeError):
        return None
