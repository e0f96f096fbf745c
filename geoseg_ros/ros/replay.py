"""The node's work on a recording: every message, one after the other, no ROS needed, equal bytes for equal input."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.message_definitions import CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.io.recordings import RawMessage, Recording, RecordingWriter
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance
from geoseg_ros.runtime.tracking import Tracker


class Pipeline(Protocol):
    """What a replay needs of ``geoseg_ros.runtime.pipeline.CosegPipeline``."""

    labels: LabelSpace

    def process_image(self, image: NDArray[np.uint8]) -> ImageResult: ...

    def process_cloud(self, cloud: Cloud) -> CloudResult: ...


@dataclass
class ReplayReport:
    """What was done.

    Attributes:
        clouds, images: results written.
        objects: instances found in all clouds.
        rejected: one line per message that could not be read.
        cloud_seconds, image_seconds: time of the pipeline for each result.
    """

    clouds: int = 0
    images: int = 0
    objects: int = 0
    rejected: list[str] = field(default_factory=list)
    cloud_seconds: list[float] = field(default_factory=list)
    image_seconds: list[float] = field(default_factory=list)


def replay(
    recording: Recording,
    pipeline: Pipeline,
    out: str | os.PathLike[str],
    cloud_topic: str | None = None,
    image_topic: str | None = None,
    namespace: str = "/coseg_node",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReplayReport:
    """Run every cloud and image of a recording through the pipeline and record what the node would have published.

    Written are ``points_labeled``, ``objects``, ``mask`` and ``label_info`` below ``namespace``, with the header of the input and
    the time at which the input was recorded.

    Args:
        out: as ``RecordingWriter``.
        cloud_topic, image_topic: inputs; None means the only topic of that kind, if there is one.
        progress: called with (messages done, messages in all).

    Raises:
        InputError: neither kind is there, a topic is wrong or ambiguous, the recording is damaged.
    """
    cloud_topic = recording.choose_topic([CLOUD_TYPE], cloud_topic, "cloud")
    image_topic = recording.choose_topic([IMAGE_TYPE, COMPRESSED_TYPE], image_topic, "image")
    topics = [topic for topic in (cloud_topic, image_topic) if topic is not None]
    if not topics:
        raise InputError(f"{recording.path}: no cloud and no image in it, it has {', '.join(recording.topics()) or 'no topics'}")
    total = sum(recording.topics()[topic].messages for topic in topics)
    report, tracker = ReplayReport(), Tracker()
    with RecordingWriter(out) as writer:
        results = _ResultWriter(writer, pipeline.labels, namespace)
        for done, message in enumerate(recording.messages(topics), 1):
            try:
                if message.topic == cloud_topic:
                    _cloud(recording, message, pipeline, tracker, results, report)
                else:
                    _image(recording, message, pipeline, results, report)
            except InputError as error:
                report.rejected.append(str(error))
            progress(done, total)
    return report


def _cloud(
    recording: Recording, message: RawMessage, pipeline: Pipeline, tracker: Tracker, results: _ResultWriter, report: ReplayReport
) -> None:
    decoded = recording.decode(message)
    cloud = codec.cloud_from_message(decoded, message.topic)
    begin = time.perf_counter()
    result = pipeline.process_cloud(cloud)
    report.cloud_seconds.append(time.perf_counter() - begin)
    stamp = decoded.header.stamp
    result = tracker.follow(stamp.sec + 1e-9 * stamp.nanosec, result, decoded.header.frame_id)
    results.write_cloud(message.stamp_ns, decoded.header, cloud, result)
    report.clouds += 1
    report.objects += len(result.objects)


def _image(recording: Recording, message: RawMessage, pipeline: Pipeline, results: _ResultWriter, report: ReplayReport) -> None:
    decoded = recording.decode(message)
    decode = codec.image_from_compressed if message.type == COMPRESSED_TYPE else codec.image_from_message
    image = decode(decoded, message.topic)
    begin = time.perf_counter()
    result = pipeline.process_image(image)
    report.image_seconds.append(time.perf_counter() - begin)
    results.write_mask(message.stamp_ns, decoded.header, result.mask)
    report.images += 1


class _ResultWriter:
    """The node's output messages as objects that the recording writer serialises."""

    def __init__(self, writer: RecordingWriter, labels: LabelSpace, namespace: str) -> None:
        self._writer = writer
        self._types: dict[str, Any] = dict(writer.types.types)
        self._labels = labels
        self._palette = labels.palette()
        self._namespace = namespace.rstrip("/")
        self._labels_written = False
        point_field = self._types["sensor_msgs/msg/PointField"]
        self._fields = [
            point_field(name=name, offset=4 * i, datatype=kind, count=1) for i, (name, kind) in enumerate(codec.LABELLED_FIELDS)
        ]

    def write_cloud(self, stamp_ns: int, header: Any, cloud: Cloud, result: CloudResult) -> None:
        """Add the labelled cloud and its objects."""
        message = self._types[CLOUD_TYPE](
            header=header,
            height=0,
            width=0,
            fields=self._fields,
            is_bigendian=False,
            point_step=4 * len(self._fields),
            row_step=0,
            data=None,
            is_dense=False,
        )
        codec.labelled_cloud_message(header, cloud, result, self._palette, message)
        self._write("points_labeled", stamp_ns, message)
        objects = [self._object(entry) for entry in result.objects]
        self._write("objects", stamp_ns, self._types["geoseg_ros/msg/CosegObjectArray"](header=header, objects=objects))

    def write_mask(self, stamp_ns: int, header: Any, mask: NDArray[np.uint8]) -> None:
        """Add the mask of an image."""
        message = self._types[IMAGE_TYPE](header=header, height=0, width=0, encoding="mono8", is_bigendian=0, step=0, data=None)
        codec.mask_message(header, mask, message)
        self._write("mask", stamp_ns, message)

    def _write(self, name: str, stamp_ns: int, message: Any) -> None:
        if not self._labels_written:
            self._labels_written = True
            names = ("none", *self._labels.names)
            rows = [{"id": i, "name": label, "color": self._palette[i].tolist()} for i, label in enumerate(names)]
            text = self._types["std_msgs/msg/String"](data=json.dumps(rows))
            self._writer.write_message(f"{self._namespace}/label_info", stamp_ns, text, latched=True)
        if hasattr(message, "data"):
            message.data = np.frombuffer(message.data, np.uint8)  # the codec leaves an array.array
        self._writer.write_message(f"{self._namespace}/{name}", stamp_ns, message)

    def _object(self, entry: ObjectInstance) -> Any:
        point, quaternion = self._types["geometry_msgs/msg/Point"], self._types["geometry_msgs/msg/Quaternion"]
        pose, vector = self._types["geometry_msgs/msg/Pose"], self._types["geometry_msgs/msg/Vector3"]
        turn = quaternion(*Rotation.from_matrix(entry.rotation).as_quat().tolist())
        return self._types["geoseg_ros/msg/CosegObject"](
            label=entry.label,
            name=entry.name,
            instance=entry.instance,
            confidence=entry.confidence,
            p_value=entry.p_value,
            center=pose(position=point(*entry.center.tolist()), orientation=turn),
            size=vector(*entry.size.tolist()),
            point_count=entry.count,
            track_id=entry.track,
        )
