"""The node's stream step over every message of a recording, without ROS. Equal input gives equal bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import CAMERA_INFO_TYPE, CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.io.recordings import RawMessage, Recording, RecordingWriter
from geoseg_ros.results import CloudResult
from geoseg_ros.runtime.label_map import open_map
from geoseg_ros.runtime.node_parameters import NodeParameters, Sensor
from geoseg_ros.runtime.placement import Placement
from geoseg_ros.runtime.rgbd import DepthFrame, RecentImages
from geoseg_ros.runtime.stream_state import StreamState
from geoseg_ros.runtime.stream_step import Pipeline, Segmented, StreamStep, output_names, unknown_labels
from geoseg_ros.runtime.transform_buffer import recorded_transforms

OUTPUTS = ("points_labeled", "points_obstacles", "objects", "parts", "map_labeled", "mask", "overlay")
"""Outputs that can be recorded; markers and detections would repeat the objects."""

NODE = "/coseg_node"
"""Full name of the node, before the names of its outputs."""

_WORKED_ON = ("points", "depth", "image")  # the inputs that have results
_MADE = (*OUTPUTS, "label_info", "markers", "detections", "status")
_MOST_LINES = 100  # of warnings that are kept


@dataclass(frozen=True)
class ReplayTopics:
    """Topics of the recording by the inputs of the node; None: chosen by :func:`choose_topics`."""

    points: str | None = None
    depth: str | None = None
    camera_info: str | None = None
    color: str | None = None
    image: str | None = None


@dataclass
class ReplayReport:
    """Counts and warnings of a replay.

    Attributes:
        clouds, images: results written.
        objects: instances in all clouds; those of clouds in ``unplaced`` are not counted, because they are not written.
        unplaced: clouds without a transform to ``target_frame``.
        rejected: one line per message that could not be read.
        warnings: distinct lines about other defects of the inputs.
        cloud_seconds, image_seconds: time of the pipeline for each result.
    """

    clouds: int = 0
    images: int = 0
    objects: int = 0
    unplaced: int = 0
    rejected: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cloud_seconds: list[float] = field(default_factory=list)
    image_seconds: list[float] = field(default_factory=list)

    def warn(self, line: str) -> None:
        """Keep a line."""
        if len(self.warnings) < _MOST_LINES and line not in self.warnings:
            self.warnings.append(line)

    def count(self, found: Segmented) -> None:
        """Count a result that was encoded."""
        self.unplaced += found.unplaced
        if isinstance(found.result, CloudResult):
            self.clouds += 1
            self.objects += 0 if found.unplaced else len(found.result.objects)
            self.cloud_seconds.append(found.clock.seconds["pipeline"])
        else:
            self.images += 1
            self.image_seconds.append(found.clock.seconds["pipeline"])


def replay(
    recording: Recording,
    pipeline: Pipeline,
    out: str | os.PathLike[str],
    parameters: NodeParameters | None = None,
    topics: ReplayTopics | None = None,
    outputs: Collection[str] | None = None,
    node: str = NODE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReplayReport:
    """Run every cloud and image of a recording through the node's stream step and record the results as the node would publish them.

    Results have the header of their input and the time at which the input was recorded. Transforms are looked up in the whole recording.

    Args:
        recording: of the node's inputs.
        pipeline: opened with the packs.
        out: as ``RecordingWriter``.
        parameters: of the node.
        topics: inputs.
        outputs: names out of ``OUTPUTS``, of each stream and merged; None: points_labeled, objects and mask,
            points_obstacles where labels are wanted, parts where a part pack is loaded, and map_labeled where the map is on.
        node: full name of the node, before the names of its outputs.
        progress: called with (messages done, messages in all).

    Raises:
        InputError: there is nothing to work on, a topic is wrong or ambiguous, a label is unknown, the recording is damaged.
    """
    parameters = parameters or NodeParameters()
    node = f"/{node.strip('/')}"
    sensors = choose_sensors(recording, parameters, topics or ReplayTopics(), node)
    if unknown := unknown_labels(parameters.wanted_labels, pipeline.labels.names):
        raise InputError(f"parameter {unknown}")
    if outputs is None:
        only_if = {"overlay": False, "points_obstacles": bool(parameters.wanted_labels), "parts": _finds_parts(pipeline)}
        only_if["map_labeled"] = parameters.map.enabled
        outputs = [name for name in OUTPUTS if only_if.get(name, True)]
    report, target = ReplayReport(), parameters.target_frame
    place = _placing(recording, parameters.target_frame) if parameters.target_frame else None
    inputs = _Inputs(recording, sensors)
    total = sum(recording.topics()[topic].messages for topic in inputs.topics)
    with RecordingWriter(out) as writer:
        label_map = open_map(parameters.map, report.warn)
        step = StreamStep(writer.types.types, parameters.tracking, place, report.warn, label_map, bool(target))
        step.use(pipeline)
        results = _Results(writer, node, codec.label_info(pipeline.labels))
        for done, raw in enumerate(recording.messages(inputs.topics), 1):
            try:
                for stream, item in inputs.read(raw):
                    names = output_names(stream.kind, stream.prefix, target)
                    wanted = [name for name in names if name.rpartition("/")[2] in outputs]
                    segmented = step.segment(item, stream, parameters, wanted)
                    if segmented is not None:
                        results.write(step.encode(segmented, parameters, wanted), raw.stamp_ns)
                        report.count(segmented)
            except InputError as error:
                report.rejected.append(str(error))
            progress(done, total)
    return report


def _finds_parts(pipeline: Pipeline) -> bool:
    """Whether a part pack is loaded."""
    return bool(getattr(pipeline, "part_names", ()))


class _Inputs:
    """Makes the inputs of the stream step from messages; keeps the calibrations and the recent colour images for depth images.

    Attributes:
        topics: of the recording that are needed.
    """

    def __init__(self, recording: Recording, sensors: Sequence[Sensor]) -> None:
        self._recording, known = recording, recording.topics()
        self._sensors = [(sensor, StreamState.of(sensor, sensor.topic, known[sensor.topic].type), RecentImages()) for sensor in sensors]
        self._info: dict[str, Any] = {}  # newest, by topic
        named = {topic: None for sensor in sensors for topic in (sensor.topic, sensor.camera_info, sensor.color)}
        self.topics = [topic for topic in named if topic in known]

    def read(self, raw: RawMessage) -> list[tuple[StreamState, Any]]:
        """(stream, input) for each input that the message is. Raises InputError where it cannot be decoded."""
        message = self._recording.decode(raw)
        if raw.type == CAMERA_INFO_TYPE:
            self._info[raw.topic] = message
        for sensor, _, colors in self._sensors:
            if raw.topic == sensor.color:
                colors.add(message)
        return [
            (stream, self._depth(message, sensor, colors) if sensor.camera_info else message)
            for sensor, stream, colors in self._sensors
            if raw.topic == sensor.topic
        ]

    def _depth(self, message: Any, sensor: Sensor, colors: RecentImages) -> DepthFrame:
        return DepthFrame(message, self._info.get(sensor.camera_info), colors, sensor.camera_info, sensor.color)


class _Results:
    """Writes results as the node would publish them, after one message with the label names."""

    def __init__(self, writer: RecordingWriter, node: str, labels: str) -> None:
        self._writer, self._node = writer, node
        self._labels = writer.types.types["std_msgs/msg/String"](data=labels)

    def write(self, messages: Mapping[str, Any], stamp_ns: int) -> None:
        """Write messages by the names of their outputs."""
        for name, message in messages.items():
            if not self._writer.counts:
                self._writer.write_message(f"{self._node}/label_info", stamp_ns, self._labels, latched=True)
            self._writer.write_message(f"{self._node}/{name}", stamp_ns, _recordable(message))


def choose_sensors(recording: Recording, parameters: NodeParameters, topics: ReplayTopics, node: str) -> list[Sensor]:
    """The node's inputs with their topics in the recording: those of its lists, and of a kind without a list as ``choose_topics`` finds it.

    Raises:
        InputError: as ``choose_topics``, also where one of the lists is not there.
    """
    inputs = choose_topics(recording, parameters, topics, node)
    chosen = {name: topic for topic, names in inputs.items() for name in names}
    found = []
    for sensor in parameters.sensors():
        own = (sensor.topic, sensor.camera_info, sensor.color)
        if sensor.prefix:
            names = [_absolute(topic, node) for topic in own]
            types = (CLOUD_TYPE,) if sensor.message_type == CLOUD_TYPE else (IMAGE_TYPE,)
            expected = (types if sensor.kind == "cloud" else (IMAGE_TYPE, COMPRESSED_TYPE), (CAMERA_INFO_TYPE,), (IMAGE_TYPE,))
            for topic, kinds, what in zip(names, expected, (f"{sensor.kind}s", "camera_info", "color"), strict=True):
                if topic:
                    recording.choose_topic(kinds, topic, what)
        else:
            main = ("points", "depth") if sensor.kind == "cloud" else ("image",)
            names = [next((chosen[name] for name in main if name in chosen), ""), chosen.get("camera_info", "camera_info")]
            names = [names[0], names[1] if sensor.camera_info else "", chosen.get("color", "") if sensor.camera_info else ""]
        if names[0]:
            found.append(replace(sensor, topic=names[0], camera_info=names[1], color=names[2]))
    return found


def _absolute(topic: str, node: str) -> str:
    """A topic as the node resolves it."""
    if not topic or topic.startswith("/"):
        return topic
    return f"{node}/{topic[2:]}" if topic.startswith("~/") else f"{node.rpartition('/')[0]}/{topic}"


def choose_topics(recording: Recording, parameters: NodeParameters, topics: ReplayTopics, node: str = NODE) -> dict[str, set[str]]:
    """Which topics of a recording are which inputs of the node, of the kinds that its lists do not name.

    A topic that is asked for is taken; else the one that the node itself listens to; else, for points and images, the only one of that
    type, and for a calibration the one beside the depth images or the only one. Colour is optional.

    Returns:
        Topic -> "points", "depth", "camera_info", "color", "image"; one topic may be several.

    Raises:
        InputError: there is nothing to work on, or a topic is missing, of another type or ambiguous.
    """
    choice = _Choice(recording, node)
    clouds, images = parameters.point_topics + parameters.depth_topics, parameters.image_topics
    if (clouds and (topics.points or topics.depth)) or (images and topics.image):
        raise InputError("a topic is given for an input that point_topics, depth_topics or image_topics list")
    if clouds:
        pass
    elif parameters.cloud_source == "points":
        choice.take("points", (CLOUD_TYPE,), topics.points, choice.free(CLOUD_TYPE))
    elif parameters.cloud_source == "depth":
        depth = choice.take("depth", (IMAGE_TYPE,), topics.depth)
        if depth is None:
            known = ", ".join(choice.known)
            raise InputError(f"{recording.path}: cloud_source is depth, name the topic of the depth images, it has {known}")
        beside, infos = f"{depth.rpartition('/')[0]}/camera_info", choice.free(CAMERA_INFO_TYPE)
        choice.take("camera_info", (CAMERA_INFO_TYPE,), topics.camera_info, [beside] if beside in infos else infos)
        choice.take("color", (IMAGE_TYPE,), topics.color)
    if parameters.image_transport != "none" and not images:
        raw = [] if parameters.image_transport == "compressed" else choice.free(IMAGE_TYPE)
        own = "image" if parameters.image_transport == "raw" and choice.has("image", (IMAGE_TYPE,)) else "image/compressed"
        types = (IMAGE_TYPE, COMPRESSED_TYPE) if parameters.image_transport == "raw" else (COMPRESSED_TYPE,)
        choice.take("image", types, topics.image, raw or choice.free(COMPRESSED_TYPE), own)
    if not (clouds or images or any(name in inputs for inputs in choice.inputs.values() for name in _WORKED_ON)):
        raise InputError(f"{recording.path}: no cloud and no image in it, it has {', '.join(choice.known) or 'no topics'}")
    return choice.inputs


class _Choice:
    """The topics chosen so far. Attributes: known: all topics; inputs: topic -> what it is taken for."""

    def __init__(self, recording: Recording, node: str) -> None:
        self._recording, self._node = recording, node
        self.known = recording.topics()
        # a recording of a node's outputs, such as a snapshot: they are no inputs
        made = [name.rpartition("/") for name in self.known]
        above = [folder for folder, _, name in made if name in _MADE]
        self._others = {folder for folder in above if above.count(folder) > 1}
        self.inputs: dict[str, set[str]] = {}

    def has(self, own: str, types: Collection[str]) -> bool:
        """Whether the node's own topic of this name has messages of these types."""
        about = self.known.get(f"{self._node}/{own}")
        return about is not None and about.type in types and about.messages > 0

    def free(self, kind: str) -> list[str]:
        """Topics with messages of this type that are neither of the node itself nor taken."""
        found = [name for name, about in self.known.items() if about.type == kind and about.messages]
        return [name for name in found if not self._made(name) and name not in self.inputs]

    def _made(self, name: str) -> bool:
        """Whether a topic is an output of a node like ours, or any topic of the node itself."""
        folder, _, last = name.rpartition("/")
        return name.startswith(f"{self._node}/") or (folder in self._others and last in _MADE)

    def take(
        self, name: str, types: Collection[str], wanted: str | None, possible: Collection[str] = (), own: str | None = None
    ) -> str | None:
        """Take a topic as an input: the wanted one, the node's own, or the only possible one. Returns it, or None."""
        if wanted is None and self.has(own or name, types):
            wanted = f"{self._node}/{own or name}"
        if wanted is None and len(possible) > 1:
            raise InputError(f"{self._recording.path}: several {name} topics ({', '.join(possible)}), name one")
        topic = next(iter(possible), None) if wanted is None else wanted
        if topic is not None:
            self._recording.choose_topic(types, topic, name)  # refuses what is not there, or of another type
            self.inputs.setdefault(topic, set()).add(name)
        return topic


def _placing(recording: Recording, target: str) -> Callable[[Any], Placement]:
    """Where results go in ``target``, by the transforms of the recording."""
    buffer = recorded_transforms(recording)

    def place(header: Any) -> Placement:
        if header.frame_id == target:
            return Placement(target)
        return Placement(target, buffer.lookup(target, header.frame_id, codec.stamp_ns(header)))

    return place


def _recordable(message: Any) -> Any:
    """The message with its bytes as the writer takes them; the codec leaves an array.array."""
    return replace(message, data=np.frombuffer(message.data, np.uint8)) if hasattr(message, "data") else message
