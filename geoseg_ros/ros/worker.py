"""The one thread that works on messages: takes the newest, runs the stream step, publishes."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from geoseg_ros.errors import InputError
from geoseg_ros.results import PartPoint
from geoseg_ros.ros.inputs import Arrival
from geoseg_ros.ros.message_types import InstalledTypes
from geoseg_ros.ros.publishers import Outputs
from geoseg_ros.ros.transforms import Frames
from geoseg_ros.runtime.label_map import open_map
from geoseg_ros.runtime.mailbox import Mailbox
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.opening import OpenedPipeline, free_memory
from geoseg_ros.runtime.stream_state import StreamState
from geoseg_ros.runtime.stream_step import Segmented, StreamStep, output_names


class Worker(threading.Thread):
    """Works on one message of the mailbox after the other until the mailbox is closed.

    An error of one message is counted and logged, and the next message is taken. The methods are for the executor's thread.

    Args:
        node: for its log.
        mailbox: where messages wait.
        parameters: gives the parameters as they are now.
        streams: what is known about each input, by its name in the mailbox.
        outputs: where results go.
        frames: where obstacles and objects are placed.

    Attributes:
        active: results are published.
        frames: as given.
        throttle: of the log.
    """

    def __init__(
        self,
        node: Node,
        mailbox: Mailbox,
        parameters: Callable[[], NodeParameters],
        streams: Mapping[str, StreamState],
        outputs: Outputs,
        frames: Frames,
    ) -> None:
        super().__init__(name="pipeline", daemon=True)
        self._node, self._mailbox, self._parameters, self._streams, self._outputs = node, mailbox, parameters, streams, outputs
        self.active = False
        self.frames = frames
        self.throttle = Throttle()
        label_map = open_map(parameters().map, node.get_logger().info)
        self._step = StreamStep(InstalledTypes(), parameters().tracking, frames.place, self._warn, label_map, bool(frames.target))
        if self._step.label_map is not None:
            if not frames.target:
                raise InputError("map.enabled: needs tf2_ros, which is not installed")
            outputs.add_map()
        self._busy = threading.Lock()

    @property
    def pipeline(self) -> OpenedPipeline | None:
        """What messages are worked on with from now on."""
        return self._step.pipeline  # type: ignore[return-value]

    def use(self, pipeline: OpenedPipeline) -> None:
        """Take this pipeline from the next message on, and publish its labels; the result of a message in work is given up."""
        with self._outputs.lock:
            self._step.use(pipeline)
            for stream in self._streams.values():
                stream.forget_concepts()
            self._outputs.publish_labels(pipeline.labels)
            if self._step.label_map:  # what is known from before is there at once
                self._outputs.publish({"map_labeled": self._step.map_message()})

    def save_map(self, path: str) -> int:
        """Write the map; returns the number of its voxels. Raises InputError: there is none, or it cannot be written."""
        with self._outputs.lock:
            if self._step.label_map is None:
                raise InputError("no map: set the parameter map.enabled")
            self._step.label_map.save(path)
            return len(self._step.label_map)

    def where(self, target: str, part: str, point: NDArray[np.floating], track: int) -> tuple[Any, list[PartPoint]]:
        """As :meth:`StreamStep.where`."""
        with self._outputs.lock:
            return self._step.where(target, part, point, track)

    def drop(self) -> None:
        """Let the message in work end, and free the memory of the pipeline."""
        with self._outputs.lock:
            self._step.use(None)
        with self._busy:
            self._outputs.last.clear()
            free_memory()

    def run(self) -> None:
        """The thread."""
        while (taken := self._mailbox.take()) is not None:
            name, arrival = taken
            del taken  # nothing may hold the message while the next one is awaited
            begin = time.monotonic()
            try:
                self.process(name, arrival)
                accepted = True
            except Exception as error:  # one bad message must not stop the node
                accepted = False
                self._report(name, error)
            self._streams[name].busy += time.monotonic() - begin
            self._mailbox.finish(name, accepted)
            del arrival

    def process(self, name: str, arrival: Arrival) -> None:
        """Work on one message. It is always decoded, so that bad input shows, but segmented only for who listens."""
        stream, parameters = self._streams[name], self._parameters()
        with self._busy:
            if self._step.pipeline is None:
                return
            found = self._step.segment(arrival.message, stream, parameters, self._wanted(stream))
            if found is not None and self._publish(stream, found, parameters):
                stream.latency.add(time.monotonic() - arrival.time)
            else:
                stream.unheard += 1

    def _publish(self, stream: StreamState, found: Segmented, parameters: NodeParameters) -> bool:
        """Encode and send, unless the pipeline was exchanged or the node deactivated meanwhile."""
        stream.note_result(found.result.seconds, found.result.presence)
        with self._outputs.lock:
            if not (self.active and self._step.pipeline is found.pipeline):
                return False
            self._outputs.publish(self._step.encode(found, parameters, self._wanted(stream)))
        found.clock.stop("publish")
        stream.note_result(found.clock.seconds)
        stream.unplaced += found.unplaced
        return True

    def _wanted(self, stream: StreamState) -> list[str]:
        return self._outputs.wanted(output_names(stream.kind, stream.prefix, self.frames.target))

    def _report(self, stream: str, error: Exception) -> None:
        """Log why a message was rejected."""
        self._streams[stream].refusal = describe(error)
        if not self._node.context.ok():
            return  # shutting down: what was in work cannot be published any more
        if line := self.throttle(f"{stream} rejected: {describe(error)}"):
            logger = self._node.get_logger()
            logger.warning(line) if isinstance(error, InputError) else logger.error(line)

    def _warn(self, text: str) -> None:
        if line := self.throttle(text):
            self._node.get_logger().warning(line)


class Throttle:
    """Passes a line at most once per ``period`` seconds and kind, with the number of lines that were suppressed.

    Two lines are of one kind if they differ only in numbers behind the colon; what stands before it is the stream or the topic.
    """

    def __init__(self, period: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = period, clock
        self._held: dict[str, tuple[float, int]] = {}

    def __call__(self, line: str) -> str | None:
        """The line to log, or None."""
        now, (about, colon, rest) = self._clock(), line.partition(": ")
        kind = about + re.sub(r"\d+", "#", rest) if colon else re.sub(r"\d+", "#", line)
        since, held = self._held.get(kind, (-float("inf"), 0))
        if now - since < self._period:
            self._held[kind] = (since, held + 1)
            return None
        if len(self._held) > 1000:  # a stream of ever new errors must not fill the memory
            self._held.clear()
        self._held[kind] = (now, 0)
        return f"{line} (and {held} more like this)" if held else line


def describe(error: Exception) -> str:
    """One line for the log: what was expected for bad input, and for anything else the type and the place."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {place[0].filename.rsplit('/', 1)[-1]}:{place[0].lineno}" if place else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())}"
