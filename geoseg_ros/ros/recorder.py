"""Records the outputs of a ``coseg_node`` as raw bytes, and reports when the node is ready and when it has no work left.

example:
  python -m geoseg_ros.ros.recorder --out OUT.mcap --node /coseg_node

Prints ``ready`` once the node has opened its packs and all its outputs are connected. Ends when standard input is closed and the node
has processed what it received, or at a signal; then prints one JSON object: messages per topic, and the node's last status.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.io.recordings import RecordingWriter
from geoseg_ros.ros.message_types import type_name

_DEPTH = 20
_QUIET = 0.5  # seconds without a message after which nothing is under way any more


class Recorder:
    """Subscribes to the outputs of one node and writes every message at the time of its arrival.

    Args:
        node: of this process.
        source: full name of the recorded node.
        writer: where the messages go.
    """

    def __init__(self, node: Node, source: str, writer: RecordingWriter) -> None:
        try:
            from geoseg_ros.msg import CosegObjectArray, NodeStatus
        except ImportError:
            raise GeosegError("geoseg_ros was installed without its messages, which the recorder needs") from None
        self._node, self._writer = node, writer
        self._status_class = NodeStatus
        self._arrived = time.monotonic()
        self._statuses: list[Any] = []
        self._draining = False
        self.counts: dict[str, int] = {}
        for name, kind, latched in (
            ("points_labeled", PointCloud2, False), ("objects", CosegObjectArray, False), ("mask", Image, False),
            ("label_info", String, True), ("status", NodeStatus, False),
        ):  # fmt: skip
            topic = f"{source}/{name}"
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self.counts[topic] = 0
            node.create_subscription(kind, topic, partial(self._keep, topic, type_name(kind), latched), qos, raw=True)
        self._labels = f"{source}/label_info"
        self._status = f"{source}/status"

    def _keep(self, topic: str, kind: str, latched: bool, data: bytes) -> None:
        self._writer.write(topic, kind, time.time_ns(), data, latched)
        self.counts[topic] += 1
        if topic == self._status:
            if self._draining:
                self._statuses.append(deserialize_message(data, self._status_class))
            else:
                self._statuses = [deserialize_message(data, self._status_class)]
        else:
            self._arrived = time.monotonic()

    def ready(self) -> bool:
        """Whether the packs are open (the labels have come) and every output has its publisher."""
        return self.counts[self._labels] > 0 and all(self._node.count_publishers(topic) for topic in self.counts)

    def drained(self) -> bool:
        """Whether the node has processed everything. The first call starts the watch; only statuses that come later count."""
        if not self._draining:
            self._draining, self._statuses = True, self._statuses[-1:]
            self._old = len(self._statuses)
        new = self._statuses[self._old :]
        if len(new) < 2 or time.monotonic() - self._arrived < _QUIET:
            return False
        before, last = new[-2:]
        idle = all(s.received == s.processed + s.dropped + s.rejected for s in last.streams)
        return idle and [s.received for s in before.streams] == [s.received for s in last.streams]

    def report(self) -> dict[str, Any]:
        """Counts per topic and the last status as plain values (latencies in milliseconds, None before the first)."""
        status = self._statuses[-1] if self._statuses else None
        streams = {
            s.name: {
                "topic": s.topic, "received": s.received, "processed": s.processed, "dropped": s.dropped, "rejected": s.rejected,
                "latency_p50_ms": _number(s.latency_p50), "latency_p95_ms": _number(s.latency_p95),
            }
            for s in (status.streams if status else ())
        }  # fmt: skip
        return {
            "messages": self.counts,
            "backend": status.backend if status else "",
            "backbone": status.backbone if status else "",
            "packs": dict(zip(status.pack_names, status.pack_versions, strict=True)) if status else {},
            "streams": streams,
        }


def _number(value: float) -> float | None:
    return round(value, 2) if value == value else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 1 or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="BAG", help="recording to write (.mcap file or folder)")
    parser.add_argument("--node", default="/coseg_node", help="full name of the node (default %(default)s)")
    parser.add_argument("--drain-seconds", type=float, default=60.0, metavar="S", help="longest wait for the node at the end (%(default)s)")
    options = parser.parse_args(arguments)
    stop, closing = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_watch_input, args=(closing,), daemon=True).start()
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        with RecordingWriter(options.out) as writer:
            node = rclpy.create_node("geoseg_recorder", start_parameter_services=False, enable_rosout=False)
            recorder = Recorder(node, options.node, writer)
            _spin(node, recorder, stop, closing, options.drain_seconds)
        print(json.dumps(recorder.report()), flush=True)
    except (InputError, GeosegError, OSError) as error:
        print(f"recorder: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    finally:
        rclpy.try_shutdown()
    return 0


def _watch_input(closing: threading.Event) -> None:
    sys.stdin.read()
    closing.set()


def _spin(node: Node, recorder: Recorder, stop: threading.Event, closing: threading.Event, drain_seconds: float) -> None:
    announced, deadline = False, float("inf")
    while not stop.is_set() and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
        if not announced and recorder.ready():
            announced = True
            print("ready", flush=True)
        if closing.is_set():
            deadline = min(deadline, time.monotonic() + drain_seconds)
            if recorder.drained():
                return


if __name__ == "__main__":
    sys.exit(main())
