"""From a recording of results to training data: pairs results with their inputs by the stamp of the header, and writes both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages import (
    CLOUD_TYPE,
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    image_from_compressed,
    image_from_message,
    stamp_ns,
)
from geoseg_ros.io.messages.clouds import LABELLED_FIELDS
from geoseg_ros.io.messages.results import label_space, labelled_cloud, objects, point_field
from geoseg_ros.io.recordings import Recording
from geoseg_ros.io.training_data import CLOUD_FORMATS, IMAGE_FORMATS, LabelledImage, LabelledSweep
from geoseg_ros.results import LabelSpace

_LABEL, _FLOAT = (dict(LABELLED_FIELDS)[name] for name in ("label", "x"))
_OBJECTS_TYPE, _TEXT_TYPE = "geoseg_ros/msg/CosegObjectArray", "std_msgs/msg/String"


@dataclass
class ExportReport:
    """Counts of an export.

    Attributes:
        items, instances: written.
        without_input: results whose image is not in the recording of the inputs.
        rejected: one line per message that could not be read.
        frame: of the clouds, ``body`` or ``optical``; empty for images.
    """

    items: int = 0
    instances: int = 0
    without_input: int = 0
    rejected: list[str] = field(default_factory=list)
    frame: str = ""


def export_dataset(
    results: Recording,
    inputs: Recording,
    form: str,
    out: Path,
    *,
    node: str | None = None,
    image: str | None = None,
    frame: str | None = None,
    every: int = 1,
    least: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Write results as training data, in the order of their time.

    Args:
        results: what ``geoseg replay`` wrote, or a recording of the node's outputs.
        inputs: of the node; may be the same recording. Images come from there, and the intensity of clouds.
        form: one of ``IMAGE_FORMATS`` or ``CLOUD_FORMATS``.
        out: folder; it exists.
        node: full name of the node whose results are taken; None: the only one.
        image: topic of the images in ``inputs``; None: the only one whose stamps fit.
        frame: of clouds, ``body`` or ``optical``; None: optical where the frame's name ends with ``_optical_frame`` (REP 103) or
            ``_optical``, else body.
        every: take every so manieth result.
        least: pixels of the smallest part of a mask that counts as an instance.
        progress: called with (results done, results in all).

    Raises:
        InputError: no such results, an ambiguous topic, no image that belongs to a mask, or a damaged recording.
    """
    name = "mask" if form in IMAGE_FORMATS else "points_labeled"
    topic = _result_topic(results, name, node)
    labels = _labels(results, topic)
    report = ExportReport()
    writer = (IMAGE_FORMATS | CLOUD_FORMATS)[form](out, labels, least)
    total = -(-results.topics()[topic].messages // every)
    source = _images(results, inputs, topic, image, every, report) if form in IMAGE_FORMATS else None
    for item in source or _sweeps(results, inputs, topic, frame, every, report):
        writer.add(item)
        progress(writer.items, total)
    if not writer.items:
        raise InputError(f"{results.path}: nothing to export from {topic}{_first(report)}")
    writer.close()
    report.items, report.instances = writer.items, writer.instances
    return report


def _first(report: ExportReport) -> str:
    if report.without_input:
        return f": {report.without_input} masks, and no image with the stamp of one; name the recording of the images (--recording)"
    return f": {report.rejected[0]}" if report.rejected else ""


def _result_topic(results: Recording, name: str, node: str | None) -> str:
    """The topic of one output of the node."""
    kind = CLOUD_TYPE if name == "points_labeled" else IMAGE_TYPE
    known = results.topics()
    found = [topic for topic, about in known.items() if topic.rpartition("/")[2] == name and about.type == kind and about.messages]
    if node is not None:
        found = [topic for topic in found if topic == f"/{node.strip('/')}/{name}"]
    if not found:
        raise InputError(f"{results.path}: no topic {'/' + node.strip('/') if node else '...'}/{name}, it has {', '.join(known) or 'none'}")
    if len(found) > 1:
        raise InputError(f"{results.path}: several nodes ({', '.join(found)}), name one with --node")
    return found[0]


def _labels(results: Recording, topic: str) -> LabelSpace:
    """The label names beside a result."""
    folder = topic.rpartition("/")[0]
    above = f"{folder.rpartition('/')[0]}/label_info"  # of a node with several sensors
    info = above if above in results.topics() else f"{folder}/label_info"
    about = results.topics().get(info)
    if about is None or about.type != _TEXT_TYPE or not about.messages:
        raise InputError(f"{results.path}: no {info}, which holds the names of the labels; record it as well")
    spaces = {str(results.decode(raw).data) for raw in results.messages([info])}
    if len({label_space(text, info) for text in spaces}) > 1:
        raise InputError(f"{results.path}: the labels of {info} change within the recording; export the parts one by one")
    return label_space(spaces.pop(), info)


def _images(
    results: Recording, inputs: Recording, topic: str, image: str | None, every: int, report: ExportReport
) -> Iterator[LabelledImage]:
    """Images with their masks. The masks are kept as PNG, some kilobytes each, while the images pass."""
    masks: dict[int, bytes] = {}
    for number, raw in enumerate(results.messages([topic])):
        message = results.decode(raw)
        if number % every or str(message.encoding) != "mono8":
            continue
        height, width = int(message.height), int(message.width)
        pixels = np.frombuffer(message.data, np.uint8)
        if not height or not width or len(pixels) != height * width:
            report.rejected.append(f"{topic} at {raw.stamp_ns} ns: {len(pixels)} bytes for {width} x {height} pixels")
            continue
        masks[stamp_ns(message.header)] = cv2.imencode(".png", pixels.reshape(height, width))[1].tobytes()
    own = topic.rpartition("/")[0]
    topics = inputs.topics()
    if image is not None:
        inputs.choose_topic((IMAGE_TYPE, COMPRESSED_TYPE), image, "image")
    else:
        wanted = (IMAGE_TYPE, COMPRESSED_TYPE)
        possible = [t for t, about in topics.items() if about.type in wanted and about.messages and t.rpartition("/")[0] != own]
        image = _fitting(inputs, possible, set(masks))
    kind = topics[image].type if image else ""
    for raw in inputs.messages([image] if image else []):
        message = inputs.decode(raw)
        stored = masks.pop(stamp_ns(message.header), None)
        if stored is None:
            continue
        mask = np.asarray(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
        try:
            rgb = image_from_compressed(message, raw.topic) if kind == COMPRESSED_TYPE else image_from_message(message, raw.topic)
            if rgb.shape[:2] != mask.shape:
                raise InputError(f"{raw.topic}: an image of {rgb.shape[1]} x {rgb.shape[0]} pixels has a mask of {mask.shape[::-1]}")
        except InputError as error:
            report.rejected.append(str(error))
            continue
        yield LabelledImage(rgb, mask, stamp_ns(message.header))
    report.without_input = len(masks)


def _fitting(inputs: Recording, topics: list[str], stamps: set[int]) -> str | None:
    """The only topic of images that have stamps of masks; None where no stamp fits."""
    found = []
    for topic in topics:
        if any(stamp_ns(inputs.decode(raw).header) in stamps for raw in inputs.messages([topic])):
            found.append(topic)
    if len(found) > 1:
        raise InputError(f"{inputs.path}: several image topics have the stamps of the masks ({', '.join(found)}), name one with --image")
    return found[0] if found else None


def _sweeps(
    results: Recording, inputs: Recording, topic: str, frame: str | None, every: int, report: ExportReport
) -> Iterator[LabelledSweep]:
    """Labelled clouds with their boxes, and the intensity of their input where it has the same points."""
    boxes_topic = f"{topic.rpartition('/')[0]}/objects"
    about = results.topics().get(boxes_topic)
    boxes: dict[int, Any] = {}
    if about is not None and about.type == _OBJECTS_TYPE:
        for raw in results.messages([boxes_topic]):
            message = results.decode(raw)
            boxes[stamp_ns(message.header)] = message
    intensities = _Intensities(inputs, topic)
    for number, raw in enumerate(results.messages([topic])):
        if number % every:
            continue
        message = results.decode(raw)
        try:
            cloud, label = labelled_cloud(message, topic)
            instance = point_field(message, "instance", _LABEL)
            stamp, name = stamp_ns(message.header), str(message.header.frame_id)
            found = objects(boxes[stamp], boxes_topic) if stamp in boxes else ()
            if stamp in boxes and str(boxes[stamp].header.frame_id) != name:
                where = f"boxes are in {boxes[stamp].header.frame_id}, the cloud is in {name}"
                raise InputError(f"{boxes_topic}: {where}; replay without target_frame")
        except InputError as error:
            report.rejected.append(str(error))
            continue
        used = frame or ("optical" if name.endswith(("_optical_frame", "_optical")) else "body")
        report.frame = used
        number_of = np.zeros(len(label), np.uint32) if instance is None else instance.astype(np.uint32)
        yield LabelledSweep(cloud.xyz, intensities.of(stamp, len(label)), label, number_of, found, used, stamp)


class _Intensities:
    """The field intensity of input clouds, by their stamp; read once, in the order of their time, and not kept."""

    def __init__(self, inputs: Recording, topic: str) -> None:
        own = topic.rpartition("/")[0]
        topics = [t for t, about in inputs.topics().items() if about.type == CLOUD_TYPE and about.messages and t.rpartition("/")[0] != own]
        self._inputs, self._messages = inputs, inputs.messages(topics) if topics else iter(())
        self._ahead: dict[int, Any] = {}
        self._newest = -1

    def of(self, stamp: int, count: int) -> NDArray[np.float32] | None:
        """float32 [count], or None where no cloud of this stamp and size has the field."""
        while self._newest < stamp and (raw := next(self._messages, None)) is not None:
            message = self._inputs.decode(raw)
            self._newest = stamp_ns(message.header)
            if len(self._ahead) > 16:  # clouds without a result
                self._ahead.pop(next(iter(self._ahead)))
            self._ahead[self._newest] = message
        message = self._ahead.pop(stamp, None)
        if message is None or int(message.height) * int(message.width) != count:
            return None
        found = point_field(message, "intensity", _FLOAT)
        return None if found is None else found.astype(np.float32)
