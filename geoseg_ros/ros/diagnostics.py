"""What the node tells about itself: ~/status, /diagnostics, and a line when an input is silent."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from geoseg_ros.ros.publishers import geoseg_msgs
from geoseg_ros.ros.qos import output_qos
from geoseg_ros.runtime.mailbox import Mailbox, StreamCounts
from geoseg_ros.runtime.stats import Latency, Rate

_REMIND = 30.0  # seconds between two lines of a kind about the same topic


@dataclass
class Stream:
    """One input.

    Attributes:
        name: as in the mailbox.
        topic: resolved.
        message_type: as ROS names it.
        best_effort: whether our subscription is.
        rate: of arrivals.
        latency: from arrival to publication.
        unheard: messages of which nobody wanted a result; they count as processed.
        lost: messages that were sent but did not arrive, as far as the middleware knows.
    """

    name: str
    topic: str
    message_type: str
    best_effort: bool
    rate: Rate = field(default_factory=Rate)
    latency: Latency = field(default_factory=Latency)
    unheard: int = 0
    lost: int = 0
    silent: bool = False
    losing: bool = False
    _lost_before: int = 0
    _told: dict[str, float] = field(default_factory=dict)

    def lose(self, total: int) -> None:
        """Called by the middleware."""
        self.lost = total

    def watch(self, timeout: float) -> str:
        """Look for silence and losses since the last call. Returns what is worth a line: "silent", "losing", "back" or nothing."""
        was, self.silent = self.silent, self.rate.age() >= timeout
        self.losing, self._lost_before = self.lost > self._lost_before, self.lost
        if self.silent and self._due("silent"):
            self._told["silent"] = time.monotonic()
            return "silent"
        if self.losing and self._due("losing"):
            self._told["losing"] = time.monotonic()
            return "losing"
        return "back" if was and not self.silent else ""

    def _due(self, news: str) -> bool:
        return time.monotonic() - self._told.get(news, -float("inf")) > _REMIND


class Diagnostics:
    """Publishes the state of the streams every ``period`` seconds of real time, also while the pipeline is still opening."""

    def __init__(self, node: Node, mailbox: Mailbox, streams: list[Stream], period: float) -> None:
        self._node, self._mailbox, self._streams = node, mailbox, streams
        self.timeout = 2.0
        self.pipeline: Any = None
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self._status = node.create_publisher(geoseg_msgs.NodeStatus, "~/status", output_qos()) if geoseg_msgs else None
        # simulated time may stand still, and then a silent input must be seen all the same
        node.create_timer(period, self.update, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def update(self) -> None:
        """Look for silent inputs and publish."""
        for stream in self._streams:
            self._watch(stream)
        counts = self._mailbox.counts()
        stamp = self._node.get_clock().now().to_msg()
        array = DiagnosticArray(status=[self._pipeline_status(), *(self._stream_status(s, counts[s.name]) for s in self._streams)])
        array.header.stamp = stamp
        self._diagnostics.publish(array)
        if self._status is not None:
            message = geoseg_msgs.NodeStatus(streams=[_stream_message(s, counts[s.name]) for s in self._streams])
            message.header.stamp = stamp
            if self.pipeline is not None:
                message.backend, message.backbone = self.pipeline.backend, self.pipeline.backbone_name
                message.pack_names = list(self.pipeline.labels.names)
                message.pack_versions = [str(v) for v in self.pipeline.pack_versions]
            self._status.publish(message)

    def _watch(self, stream: Stream) -> None:
        log, news = self._node.get_logger(), stream.watch(self.timeout)
        if news == "silent":
            log.warning(f"{stream.topic}: no input for {stream.rate.age():.0f} s, {self._publishers(stream)}")
        elif news == "losing":
            log.warning(f"{stream.topic}: {stream.lost} messages lost on the way{_advice(stream)}")
        elif news == "back":
            log.info(f"{stream.topic}: input is back")

    def _publishers(self, stream: Stream) -> str:
        """Who publishes the topic, and what may keep the messages away."""
        found = self._node.get_publishers_info_by_topic(stream.topic)
        if not found:
            return f"0 publishers; remap or start one of {stream.message_type}"
        listed = ", ".join(f"{info.node_name}: {info.topic_type} {info.qos_profile.reliability.name.lower()}" for info in found)
        here = "best_effort" if stream.best_effort else "reliable"
        line = f"{len(found)} publisher{'s' if len(found) > 1 else ''} ({listed}), QoS here {here}"
        if all(info.topic_type != stream.message_type for info in found):
            return f"{line}; expected type {stream.message_type}"
        return line + _advice(stream)

    def _pipeline_status(self) -> DiagnosticStatus:
        status = DiagnosticStatus(name=f"{self._node.get_name()}: pipeline", level=DiagnosticStatus.OK, message="running")
        if self.pipeline is None:
            status.level, status.message = DiagnosticStatus.WARN, "opening"
            return status
        status.values = _values(
            backend=self.pipeline.backend,
            backbone=self.pipeline.backbone_name,
            packs=", ".join(self.pipeline.labels.names),
            pack_versions=", ".join(str(v) for v in self.pipeline.pack_versions),
        )
        return status

    def _stream_status(self, stream: Stream, counts: StreamCounts) -> DiagnosticStatus:
        p50, p95 = stream.latency.percentiles(50, 95)
        message = f"no input for {stream.rate.age():.0f} s" if stream.silent else f"{stream.rate.hertz():.1f} Hz"
        return DiagnosticStatus(
            name=f"{self._node.get_name()}: {stream.name}",
            level=DiagnosticStatus.WARN if stream.silent or stream.losing else DiagnosticStatus.OK,
            message=f"{message}, {stream.lost} lost on the way" if stream.losing else message,
            values=_values(
                topic=stream.topic,
                received=counts.received,
                processed=counts.processed,
                dropped=counts.dropped,
                rejected=counts.rejected,
                unheard=stream.unheard,
                lost=stream.lost,
                rate_hz=f"{stream.rate.hertz():.2f}",
                latency_p50_ms=f"{1e3 * p50:.1f}",
                latency_p95_ms=f"{1e3 * p95:.1f}",
            ),
        )


def _advice(stream: Stream) -> str:
    if not stream.best_effort or os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE"):
        return ""
    return "; for large messages set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds_shm.xml in both processes, or the QoS to reliable"


def _values(**pairs: Any) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in pairs.items()]


def _stream_message(stream: Stream, counts: StreamCounts) -> Any:
    p50, p95 = stream.latency.percentiles(50, 95)
    return geoseg_msgs.StreamStatus(
        name=stream.name,
        topic=stream.topic,
        received=counts.received,
        processed=counts.processed,
        dropped=counts.dropped,
        rejected=counts.rejected,
        latency_p50=1e3 * p50,
        latency_p95=1e3 * p95,
    )
