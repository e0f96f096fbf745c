"""``coseg_node``: clouds and images in, labelled clouds and masks out."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.ros import codec
from geoseg_ros.ros.diagnostics import Diagnostics, Stream
from geoseg_ros.ros.parameters import NodeParameters, declare, follow, refuse_unknown
from geoseg_ros.ros.publishers import Outputs, missing_interfaces
from geoseg_ros.ros.qos import subscribe
from geoseg_ros.ros.worker import Throttle, Worker, describe
from geoseg_ros.runtime.labels import LabelSpace
from geoseg_ros.runtime.mailbox import Mailbox
from geoseg_ros.runtime.pipeline import open_pipeline
from geoseg_ros.runtime.results import CloudResult, ImageResult

_MESSAGE_TYPES = {kind: f"sensor_msgs/msg/{kind.__name__}" for kind in (PointCloud2, Image, CompressedImage)}


class Pipeline(Protocol):
    """What the node needs of ``geoseg_ros.runtime.pipeline.CosegPipeline``."""

    labels: LabelSpace
    backbone_name: str
    backend: str
    pack_versions: list[str]

    def process_image(self, image: NDArray[np.uint8]) -> ImageResult: ...

    def process_cloud(self, cloud: Cloud) -> CloudResult: ...


class Arrival(NamedTuple):
    """What a callback stores. Attributes: message (with its companions for depth); seconds of the monotonic clock."""

    message: Any
    time: float


class Depth(NamedTuple):
    """A depth image with the newest calibration and colour at its arrival, or None where nothing had come yet."""

    header: Any
    image: Any
    info: Any
    color: Any


def open_packs(parameters: NodeParameters) -> Pipeline:
    """The real pipeline with the packs of the parameters."""
    import cv2
    import torch

    # on a busy machine threads that wait for one another cost far more than they bring, so some cores are left to others
    threads = parameters.threads or max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return open_pipeline(parameters.packs, parameters.backbone, parameters.device, parameters.pipeline)


class CosegNode(Node):
    """Callbacks store the newest message per stream, one worker thread decodes, segments and publishes.

    Args:
        pipeline_factory: makes the pipeline; called in the worker thread, so the node answers while it opens.
        arguments: of ``rclpy.node.Node``.

    Raises:
        InputError: a parameter is unknown, mistyped or out of range.
    """

    def __init__(self, pipeline_factory: Callable[[NodeParameters], Pipeline] = open_packs, **arguments: Any) -> None:
        super().__init__("coseg_node", **arguments)
        try:
            self._start(pipeline_factory)
        except BaseException:
            self.destroy_node()
            raise

    def _start(self, pipeline_factory: Callable[[NodeParameters], Pipeline]) -> None:
        self.parameters = declare(self, NodeParameters())
        self._pipeline_factory = pipeline_factory
        self._pipeline: Pipeline | None = None
        self._throttle = Throttle()
        self._info: CameraInfo | None = None
        self._color: Image | None = None
        self._streams: dict[str, Stream] = {}
        self._subscribe()
        if not self._streams:
            raise InputError("parameters cloud_source and image_transport: both are none, expected at least one input")
        self.mailbox = Mailbox(list(self._streams))
        self._outputs = Outputs(self)
        self._diagnostics = Diagnostics(self, self.mailbox, list(self._streams.values()), self.parameters.status_period)
        self._diagnostics.timeout = self.parameters.input_timeout
        refuse_unknown(self)
        follow(self, self.parameters, self._refusal, self._store)
        if missing := missing_interfaces():
            self.get_logger().info(missing)
        self.worker = Worker(self.mailbox, self._open, self._handle, self._report)
        self.worker.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Let the worker finish its item and end."""
        self.mailbox.close()
        self.worker.join(timeout)

    # ---- executor thread

    def _subscribe(self) -> None:
        source, transport = self.parameters.cloud_source, self.parameters.image_transport
        if source == "points":
            self._input("cloud", PointCloud2, "~/points", lambda message: self._put("cloud", message))
        elif source == "depth":
            self._input("cloud", Image, "~/depth", self._put_depth)
            subscribe(self, CameraInfo, "~/camera_info", lambda message: setattr(self, "_info", message))
            subscribe(self, Image, "~/color", lambda message: setattr(self, "_color", message))
        if transport == "raw":
            self._input("image", Image, "~/image", lambda message: self._put("image", message))
        elif transport == "compressed":
            self._input("image", CompressedImage, "~/image/compressed", lambda message: self._put("image", message))

    def _input(self, name: str, kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
        subscription = subscribe(self, kind, topic, callback, lambda total: self._streams[name].lose(total))
        best_effort = subscription.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        self._streams[name] = Stream(name, subscription.topic_name, _MESSAGE_TYPES[kind], best_effort)

    def _put(self, stream: str, message: Any) -> None:
        self._streams[stream].rate.add()
        self.mailbox.put(stream, Arrival(message, time.monotonic()))

    def _put_depth(self, message: Image) -> None:
        self._put("cloud", Depth(message.header, message, self._info, self._color))

    def _refusal(self, parameters: NodeParameters) -> str:
        """Why new parameters cannot be taken, or an empty string."""
        return self._unknown_labels(parameters)

    def _store(self, parameters: NodeParameters) -> None:
        self.parameters = parameters
        self._diagnostics.timeout = parameters.input_timeout

    # ---- worker thread

    def _open(self) -> None:
        pipeline = self._pipeline_factory(self.parameters)
        self._pipeline = pipeline
        if unknown := self._unknown_labels(self.parameters):
            raise InputError(f"parameter {unknown}")
        self._outputs.publish_labels(pipeline.labels)
        self._diagnostics.pipeline = pipeline
        names = ", ".join(f"{i} {name}" for i, name in enumerate(pipeline.labels.names, 1))
        self.get_logger().info(f"ready: {names or 'no concept'}; backbone {pipeline.backbone_name} on {pipeline.backend}")

    def _unknown_labels(self, parameters: NodeParameters) -> str:
        if self._pipeline is None:
            return ""  # checked again once the packs are read
        known = self._pipeline.labels.names
        unknown = [name for name in parameters.wanted_labels if name not in known]
        return f"wanted_labels: no concept {', '.join(unknown)}, expected some of {', '.join(known) or 'none'}" if unknown else ""

    def _handle(self, name: str, arrival: Arrival) -> None:
        """Decode always, so that bad input is seen; segment only what somebody listens to."""
        assert self._pipeline is not None  # the worker opens it first
        stream, pipeline = self._streams[name], self._pipeline
        heard = (self._cloud if name == "cloud" else self._image)(stream, arrival.message, pipeline)
        if heard:
            stream.latency.add(time.monotonic() - arrival.time)
        else:
            stream.unheard += 1

    def _cloud(self, stream: Stream, message: Any, pipeline: Pipeline) -> bool:
        parameters = self.parameters
        if isinstance(message, Depth):
            cloud = self._depth_cloud(stream.topic, message)
        else:
            cloud = codec.cloud_from_message(message, stream.topic, parameters.max_points)
        if not self._outputs.wants_cloud():
            return False
        result = pipeline.process_cloud(cloud)
        names = parameters.wanted_labels or pipeline.labels.names
        self._outputs.publish_cloud(message.header, cloud, result, [1 + pipeline.labels.names.index(name) for name in names])
        return True

    def _depth_cloud(self, topic: str, message: Depth) -> Cloud:
        if message.info is None:
            raise InputError(f"{topic}: no camera_info has come, expected one on {self.resolve_topic_name('~/camera_info')}")
        parameters, color = self.parameters, message.color
        if color is not None and abs(_seconds(color) - _seconds(message)) > parameters.color_max_age:
            color = None
        return codec.cloud_from_depth(message.image, message.info, color, topic, parameters.max_points, parameters.max_image_pixels)

    def _image(self, stream: Stream, message: Any, pipeline: Pipeline) -> bool:
        decode = codec.image_from_compressed if isinstance(message, CompressedImage) else codec.image_from_message
        image = decode(message, stream.topic, self.parameters.max_image_pixels)
        if not self._outputs.wants_image():
            return False
        self._outputs.publish_image(message.header, image, pipeline.process_image(image))
        return True

    def _report(self, stream: str, error: Exception) -> None:
        if not self.context.ok():
            return  # shutting down: what was in work cannot be published any more
        if line := self._throttle(f"{stream} rejected: {describe(error)}"):
            logger = self.get_logger()
            logger.warning(line) if isinstance(error, InputError) else logger.error(line)


def _seconds(message: Any) -> float:
    stamp = message.header.stamp
    return stamp.sec + 1e-9 * stamp.nanosec


def main(args: Sequence[str] | None = None, pipeline_factory: Callable[[NodeParameters], Pipeline] = open_packs) -> int:
    """Run the node until SIGINT or SIGTERM. Returns 0 after these, 1 when it failed, 2 for bad parameters or packs."""
    node, executor, code = None, None, 0
    log = rclpy.logging.get_logger("coseg_node")
    try:
        rclpy.init(args=None if args is None else list(args))
        node = CosegNode(pipeline_factory)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and node.worker.failure is None:
            executor.spin_once(timeout_sec=0.2)
        if node.worker.failure is not None and rclpy.ok():
            raise node.worker.failure
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (InputError, ParameterException, NameValidationException) as error:
        log.fatal(" ".join(str(error).split()))
        code = 2
    except (GeosegError, OSError, RuntimeError) as error:  # RCLError, for one, is a RuntimeError
        if node is None or node.context.ok():  # otherwise a signal came while something was being sent
            log.fatal(describe(error))
            code = 1
    finally:
        # a second signal (ros2 launch sends one to the whole process group) must not break the clean-up
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node.stop()
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
