"""The worker's side of the node: one message in, everything that is published about it out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult
from geoseg_ros.ros.inputs import Arrival, Depth
from geoseg_ros.ros.objects import moved
from geoseg_ros.ros.packs import Pipeline, free_memory
from geoseg_ros.ros.publishers import Outputs
from geoseg_ros.ros.stream import Stream
from geoseg_ros.ros.transforms import Frames, NoTransform, Placement, seconds
from geoseg_ros.ros.worker import Throttle, describe
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.tracking import Tracker
from geoseg_ros.stopwatch import Stopwatch


@dataclass(frozen=True)
class _Loaded:
    """A pipeline with what belongs to its labels."""

    pipeline: Pipeline
    tracker: Tracker


class Handler:
    """Decodes, segments, tracks and publishes, in the worker's thread. The other methods are for the executor's thread.

    Args:
        node: for its log and clock.
        parameters: gives the parameters as they are now.

    Attributes:
        active: results are published.
    """

    def __init__(
        self, node: Node, parameters: Callable[[], NodeParameters], streams: dict[str, Stream], outputs: Outputs, frames: Frames
    ) -> None:
        self._node, self._parameters, self._streams, self._outputs, self._frames = node, parameters, streams, outputs, frames
        self.throttle = Throttle()
        self.active = False
        self._loaded: _Loaded | None = None
        self._tracker = Tracker(parameters().tracking)
        self._busy = threading.Lock()

    @property
    def pipeline(self) -> Pipeline | None:
        """What items are worked on with from now on."""
        return self._loaded.pipeline if self._loaded else None

    def use(self, pipeline: Pipeline) -> None:
        """Take this pipeline from the next item on, and publish its labels; an item in work with an older one is given up."""
        with self._outputs.lock:
            self._loaded = _Loaded(pipeline, self._tracker)
            for stream in self._streams.values():
                stream.forget_concepts()
            self._tracker.reset()
            self._outputs.publish_labels(pipeline.labels)

    def drop(self) -> None:
        """Let the item in work end, and free the memory of the pipeline."""
        self._loaded = None
        with self._busy:
            self._outputs.last.clear()
            self._tracker.reset()
            free_memory()

    def __call__(self, name: str, arrival: Arrival) -> None:
        """Decode always, so that bad input is seen; segment only what somebody listens to."""
        with self._busy:
            loaded, stream = self._loaded, self._streams[name]
            if loaded is None:
                return
            heard = (self._cloud if name == "cloud" else self._image)(stream, arrival.message, loaded)
        if heard:
            stream.latency.add(time.monotonic() - arrival.time)
        else:
            stream.unheard += 1

    def report(self, stream: str, error: Exception) -> None:
        """Log why an item was rejected."""
        if not self._node.context.ok():
            return  # shutting down: what was in work cannot be published any more
        self._tell(f"{stream} rejected: {describe(error)}", serious=not isinstance(error, InputError))

    def _tell(self, line: str, serious: bool = False) -> None:
        if told := self.throttle(line):
            logger = self._node.get_logger()
            logger.error(told) if serious else logger.warning(told)

    def _current(self, loaded: _Loaded) -> bool:
        """Whether a result may still be published; the outputs' lock is held."""
        return self.active and self._loaded is loaded

    def _cloud(self, stream: Stream, message: Any, loaded: _Loaded) -> bool:
        parameters, clock = self._parameters(), Stopwatch()
        if isinstance(message, Depth):
            cloud = self._depth_cloud(stream.topic, message)
        else:
            cloud = codec.cloud_from_message(message, stream.topic, parameters.max_points)
        if not self._outputs.wants_cloud():
            return False
        clock.stop("decode")
        result = loaded.pipeline.process_cloud(cloud)
        stream.work(result.seconds, result.presence)
        clock.stop("pipeline")
        placement = self._place(stream, message.header)
        with self._outputs.lock:
            if not self._current(loaded):
                return False
            if placement is not None:
                result = self._track(loaded.tracker, placement, result)
            clock.stop("tracking")
            names = loaded.pipeline.labels.names
            wanted = [1 + names.index(name) for name in parameters.wanted_labels or names if name in names]
            self._outputs.publish_cloud(message.header, cloud, result, wanted, placement)
        clock.stop("publish")
        stream.work(clock.seconds)
        return True

    def _place(self, stream: Stream, header: Any) -> Placement | None:
        try:
            return self._frames.place(header)
        except NoTransform as error:
            stream.unplaced += 1
            self._tell(f"{stream.topic}: {error}; obstacles and objects of this cloud are not sent")
            return None

    def _track(self, tracker: Tracker, placement: Placement, result: CloudResult) -> CloudResult:
        if placement.matrix is not None:
            result = replace(result, objects=moved(result.objects, placement.matrix))
        resets = tracker.resets
        result = tracker.follow(seconds(placement.header), result, placement.header.frame_id)
        if tracker.resets > resets:
            self._node.get_logger().warning("time went backwards or the frame changed: tracks start anew")
        return result

    def _depth_cloud(self, topic: str, message: Depth) -> Cloud:
        if message.info is None:
            raise InputError(f"{topic}: no camera_info has come, expected one on {self._node.resolve_topic_name('~/camera_info')}")
        parameters = self._parameters()

        def age(image: Any) -> float:
            return abs(seconds(image.header) - seconds(message.header))

        color = min(message.colors(), key=age, default=None)
        if color is not None and age(color) > parameters.color_max_age:
            color = None
        if color is not None and color.header.frame_id != message.header.frame_id:
            frames = f"colour is in frame {color.header.frame_id!r}, depth in {message.header.frame_id!r}"
            self._tell(f"{topic}: {frames}: not registered to each other, so the cloud gets no colour")
            color = None
        return codec.cloud_from_depth(message.image, message.info, color, topic, parameters.max_points, parameters.max_image_pixels)

    def _image(self, stream: Stream, message: Any, loaded: _Loaded) -> bool:
        clock = Stopwatch()
        decode = codec.image_from_compressed if isinstance(message, CompressedImage) else codec.image_from_message
        image = decode(message, stream.topic, self._parameters().max_image_pixels)
        if not self._outputs.wants_image():
            return False
        clock.stop("decode")
        result = loaded.pipeline.process_image(image)
        stream.work(result.seconds, result.presence)
        clock.stop("pipeline")
        with self._outputs.lock:
            if not self._current(loaded):
                return False
            self._outputs.publish_image(message.header, image, result)
        clock.stop("publish")
        stream.work(clock.seconds)
        return True
