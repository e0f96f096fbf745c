"""The node's reports: ~/status, /diagnostics, and log lines about silent or mismatched inputs."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from geoseg_ros.ros.message_types import geoseg_msgs
from geoseg_ros.ros.qos import output_qos
from geoseg_ros.runtime.mailbox import Mailbox, StreamCounts
from geoseg_ros.runtime.stream_state import CompanionState, StreamState

_NAMESAKE = 25.0  # seconds after which another node of the same name is reported


class Diagnostics:
    """Publishes the state of the node every ``period`` seconds of real time, in every state of its life.

    Attributes:
        timeout: seconds after which an input counts as silent.
        state: of the life cycle, by name.
        pipeline: the current one, or None.
        doing: the current activity, such as "opening packs", or empty.
        progress: returns a more precise text, such as "engine: building 43 %", or an empty one.
        trouble: one line about an error that stops the node from working, or empty.
        paused: the node is paused.
        learning: returns (something is wrong, message, values) of what is being learnt; None: nothing ever was.
    """

    def __init__(
        self, node: Node, mailbox: Mailbox, streams: Mapping[str, StreamState], companions: Mapping[str, CompanionState], period: float
    ) -> None:
        self._node, self._mailbox, self._streams, self._companions = node, mailbox, streams, companions
        self._name = node.get_fully_qualified_name().strip("/")  # two robots have nodes of one name
        self._namesake_since = math.inf
        self._warned: dict[str, float] = {}
        self.period = period
        self.timeout = 2.0
        self.state = "unconfigured"
        self.pipeline: Any = None
        self.doing = self.trouble = ""
        self.progress: Callable[[], str] = lambda: ""
        self.paused = False
        self.learning: Callable[[], tuple[bool, str, Mapping[str, Any]]] | None = None
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self._status = node.create_publisher(geoseg_msgs.NodeStatus, "~/status", output_qos()) if geoseg_msgs else None
        # simulated time may stand still, and then a silent input must be noticed all the same
        node.create_timer(period, self.update, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def report(self) -> DiagnosticArray:
        """The current state as a message."""
        counts = self._mailbox.counts()
        busy = sum(stream.busy for stream in self._streams.values()) or math.inf
        streams = [self._stream_status(stream, counts[stream.name], stream.busy / busy) for stream in self._streams.values()]
        companions = [self._companion_status(companion) for companion in self._companions.values()]
        array = DiagnosticArray(status=[self._pipeline_status(), *streams, *companions])
        if self.learning is not None:
            wrong, message, values = self.learning()
            level = DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK
            array.status.append(DiagnosticStatus(name=f"{self._name}: learn", level=level, message=message, values=_values(values)))
        array.header.stamp = self._node.get_clock().now().to_msg()
        return array

    def update(self) -> None:
        """Look for silent inputs and publish."""
        if self.state == "active":
            for stream in self._streams.values():
                self._watch(stream)
        self._look_for_a_namesake()
        array = self.report()
        self._diagnostics.publish(array)
        if self._status is not None:
            counts = self._mailbox.counts()
            message = geoseg_msgs.NodeStatus(streams=[_stream_message(s, counts[s.name]) for s in self._streams.values()])
            message.header.stamp = array.header.stamp
            if self.pipeline is not None:
                message.backend, message.backbone = self.pipeline.backend, self.pipeline.backbone_name
                message.pack_names = list(self.pipeline.labels.names)
                message.pack_versions = [str(v) for v in self.pipeline.pack_versions]
            self._status.publish(message)

    def _look_for_a_namesake(self) -> None:
        own = (self._node.get_name(), self._node.get_namespace())
        if self._node.get_node_names_and_namespaces().count(own) < 2:
            self._namesake_since = math.inf
            return
        self._namesake_since = min(self._namesake_since, time.monotonic())
        # one that was killed is known for another 20 s
        if time.monotonic() - self._namesake_since > _NAMESAKE and self._due("namesake"):
            name = self._node.get_fully_qualified_name()
            self._node.get_logger().warning(
                f"another node is named {name}: services and topics mix; give one a name or a namespace of its own"
            )

    def _due(self, kind: str, seconds: float = 30.0) -> bool:
        """Whether a line of this kind may be logged again."""
        now = time.monotonic()
        if now - self._warned.get(kind, -math.inf) < seconds:
            return False
        self._warned[kind] = now
        return True

    def _companion_status(self, companion: CompanionState) -> DiagnosticStatus:
        silent = self.state == "active" and companion.expected and companion.rate.age() >= self.timeout
        latched = companion.name.endswith("camera_info") and companion.received > 0  # once is enough
        status = DiagnosticStatus(name=f"{self._name}: {companion.name}", level=DiagnosticStatus.OK)
        status.message = f"{companion.rate.hertz():.1f} Hz"
        if silent and not latched:
            status.level, status.message = DiagnosticStatus.WARN, f"no input for {companion.rate.age():.0f} s"
        age = f"{companion.rate.age():.2f}" if companion.rate.started() else "nan"
        values = {"topic": companion.topic, "received": companion.received, "rate_hz": f"{companion.rate.hertz():.2f}", "age_s": age}
        status.values = _values(values)
        return status

    def _watch(self, stream: StreamState) -> None:
        log, news = self._node.get_logger(), stream.watch(self.timeout, self._mailbox.counts()[stream.name].rejected)
        if news == "silent":
            log.warning(f"{stream.topic}: no input for {stream.rate.age():.0f} s, {self._publishers(stream)}")
        elif news == "mismatch":
            log.warning(f"{stream.topic}: a publisher cannot be heard, {self._publishers(stream)}")
        elif news == "losing":
            log.warning(f"{stream.topic}: {stream.lost} messages lost on the way{_advice(stream)}")
        elif news == "back":
            log.info(f"{stream.topic}: input is back")

    def _publishers(self, stream: StreamState) -> str:
        """The publishers of the topic, and a possible reason why no messages arrive."""
        found = self._node.get_publishers_info_by_topic(stream.topic)
        if not found:
            return f"no publisher of {stream.message_type}"
        listed = ", ".join(f"{info.node_name}: {info.topic_type} {info.qos_profile.reliability.name.lower()}" for info in found)
        here = "best_effort" if stream.best_effort else "reliable"
        line = f"{len(found)} publisher{'s' if len(found) > 1 else ''} ({listed}), QoS here {here}"
        if all(info.topic_type != stream.message_type for info in found):
            return f"{line}; expected type {stream.message_type}"
        deaf = [i.node_name for i in found if not stream.best_effort and i.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT]
        if deaf:
            return f"{line}; {', '.join(deaf)} offers less: set qos_overrides.{stream.topic}.subscription.reliability to best_effort"
        return line + _advice(stream)

    def _pipeline_status(self) -> DiagnosticStatus:
        status = DiagnosticStatus(name=f"{self._name}: pipeline", level=DiagnosticStatus.OK, message="running")
        if self.trouble:
            status.level, status.message = DiagnosticStatus.ERROR, self.trouble
        elif self.doing:
            status.level, status.message = DiagnosticStatus.WARN, self.progress() or self.doing
        elif replaced := getattr(self.pipeline, "trouble", ""):
            status.level, status.message = DiagnosticStatus.WARN, replaced
        elif self.paused:
            status.message = "paused"
        elif self.state != "active":
            status.message = self.state
        elif self.pipeline is None:
            status.message = "idle, no packs"
        values: dict[str, Any] = {"state": self.state, **_memory()}
        if self.pipeline is not None:
            values |= {
                "backend": self.pipeline.backend,
                "backend_reason": getattr(self.pipeline, "backend_reason", ""),
                "backbone": self.pipeline.backbone_name,
                "packs": ", ".join(self.pipeline.labels.names),
                "pack_versions": ", ".join(str(v) for v in self.pipeline.pack_versions),
            }
        status.values = _values(values)
        return status

    def _stream_status(self, stream: StreamState, counts: StreamCounts, share: float) -> DiagnosticStatus:
        """``share``: of the time that was worked on all streams."""
        p50, p95 = stream.latency.percentiles(50, 95)
        said, wrong = [f"{stream.rate.hertz():.1f} Hz"], False
        if self.state == "active":
            wrong = stream.silent or stream.losing or stream.mismatched or stream.displaced or stream.refusing
            if stream.silent:
                said = [f"no input for {stream.rate.age():.0f} s"]
            if stream.mismatched:
                said.append("QoS of a publisher does not match")
            if stream.losing:
                said.append(f"{stream.lost} lost on the way")
            if stream.displaced:
                said.append(f"{stream.unplaced} without transform")
            if stream.refusing:
                said.append(f"{counts.rejected} rejected")
        values: dict[str, Any] = {
            "topic": stream.topic,
            "type": stream.message_type,
            "kind": stream.kind,
            "received": counts.received,
            "processed": counts.processed,
            "dropped": counts.dropped,
            "rejected": counts.rejected,
            **({"last_rejected": stream.refusal} if stream.refusal else {}),
            "unheard": stream.unheard,
            "paused": stream.paused,
            "lost": stream.lost,
            "unplaced": stream.unplaced,
            **({"uncoloured": stream.uncoloured, "color_age_s": f"{stream.color_age:.3f}"} if stream.depth else {}),
            "share": f"{share:.3f}",
            "rate_hz": f"{stream.rate.hertz():.2f}",
            "age_s": f"{stream.rate.age():.2f}" if stream.rate.started() else "nan",
            "latency_p50_ms": f"{1e3 * p50:.1f}",
            "latency_p95_ms": f"{1e3 * p95:.1f}",
        }
        for stage, (middle, high) in stream.stage_percentiles().items():
            values |= {f"{stage}_p50_ms": f"{1e3 * middle:.1f}", f"{stage}_p95_ms": f"{1e3 * high:.1f}"}
        values |= {f"presence_rate {name}": f"{share:.3f}" for name, share in stream.presence_rates().items()}
        return DiagnosticStatus(
            name=f"{self._name}: {stream.name}",
            level=DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK,
            message=", ".join(said),
            values=_values(values),
        )


def _advice(stream: StreamState) -> str:
    if not stream.best_effort:
        return ""
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    where = f"to {profile} for the publisher, too" if profile else "to config/fastdds_shm.xml in both processes"
    return f"; for large messages set FASTDDS_DEFAULT_PROFILES_FILE {where}, or the publisher's QoS to reliable"


def _memory() -> dict[str, str]:
    """Resident memory of this process, and what PyTorch holds on the GPU, MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return {}
    found = {"memory_mib": f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f}"}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["gpu_memory_mib"] = f"{torch.cuda.memory_reserved() / 2**20:.0f}"
    return found


def _values(pairs: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in pairs.items()]


def _stream_message(stream: StreamState, counts: StreamCounts) -> Any:
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
