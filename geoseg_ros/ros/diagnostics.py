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

_REMIND = 60.0  # seconds between two lines about the same silent topic


@dataclass
class Stream:
    """One input. Attributes: name; resolved topic; its message type as ROS names it; whether ours is a best effort
    subscription; arrival rate; latency from arrival to publication; unheard: messages that nobody wanted a result of."""

    name: str
    topic: str
    message_type: str
    best_effort: bool
    rate: Rate = field(default_factory=Rate)
    latency: Latency = field(default_factory=Latency)
    unheard: int = 0
    _reported: float = -float("inf")
    _silent: bool = False


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
        age, now = stream.rate.age(), time.monotonic()
        if age < self.timeout:
            if stream._silent:
                self._node.get_logger().info(f"{stream.topic}: input is back")
            stream._silent = False
        elif not stream._silent or now - stream._reported > _REMIND:
            stream._silent, stream._reported = True, now
            self._node.get_logger().warning(f"{stream.topic}: no input for {age:.0f} s, {self._publishers(stream)}")

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
        if stream.best_effort and not os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE"):
            line += "; large messages may get lost: set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds_shm.xml, or the QoS to reliable"
        return line

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
        silent = stream.rate.age() >= self.timeout
        return DiagnosticStatus(
            name=f"{self._node.get_name()}: {stream.name}",
            level=DiagnosticStatus.WARN if silent else DiagnosticStatus.OK,
            message=f"no input for {stream.rate.age():.0f} s" if silent else f"{stream.rate.hertz():.1f} Hz",
            values=_values(
                topic=stream.topic,
                received=counts.received,
                processed=counts.processed,
                dropped=counts.dropped,
                rejected=counts.rejected,
                unheard=stream.unheard,
                rate_hz=f"{stream.rate.hertz():.2f}",
                latency_p50_ms=f"{1e3 * p50:.1f}",
                latency_p95_ms=f"{1e3 * p95:.1f}",
            ),
        )


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
