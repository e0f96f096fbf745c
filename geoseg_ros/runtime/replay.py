"""The node's work on a recording: every message, one after the other, no ROS needed, equal bytes for equal input."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.message_definitions import CAMERA_INFO_TYPE, CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, TRANSFORMS_TYPE
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.results import CloudResult
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.placement import Placement
from geoseg_ros.runtime.rgbd import DepthFrame, RecentImages
from geoseg_ros.runtime.stream_step import IMAGE_OUTPUTS, Pipeline, Segmented, StreamStep, unknown_labels
from geoseg_ros.runtime.transform_buffer import TransformBuffer

OUTPUTS = ("points_labeled", "points_obstacles", "objects", "mask", "overlay")
"""What can be recorded. Markers and detections say the same as objects."""

_WORKED_ON = ("points", "depth", "image")  # the inputs that have results
_MADE = (*OUTPUTS, "label_info", "markers", "detections", "status")
_MOST_LINES = 100  # of warnings that are kept


@dataclass(frozen=True)
class ReplayTopics:
    """Topics of the recording by the inputs of the node; None: chosen as :func:`choose_topics` says."""

    points: str | None = None
    depth: str | None = None
    camera_info: str | None = None
    color: str | None = None
    image: str | None = None


@dataclass
class ReplayReport:
    """What was done.

    Attributes:
        clouds, images: results written.
        objects: instances found in all clouds.
        unplaced: clouds without a transform to ``target_frame``.
        rejected: one line per message that could not be read.
        warnings: distinct lines about what is wrong with the inputs otherwise.
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
            self.objects += len(found.result.objects)
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
    node: str = "/coseg_node",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReplayReport:
    """Run every cloud and image of a recording through the node's stream step and record what the node would have published.

    Results have the header of their input and the time at which the input was recorded. Transforms are looked up in the whole recording.

    Args:
        recording: of the node's inputs.
        pipeline: opened with the packs.
        out: as ``RecordingWriter``.
        parameters: of the node.
        topics: inputs.
        outputs: names out of ``OUTPUTS``; None: points_labeled, objects and mask, and points_obstacles where labels are wanted.
        node: full name of the node, before the names of its outputs.
        progress: called with (messages done, messages in all).

    Raises:
        InputError: there is nothing to work on, a topic is wrong or ambiguous, a label is unknown, the recording is damaged.
    """
    parameters = parameters or NodeParameters()
    node = f"/{node.strip('/')}"
    chosen = choose_topics(recording, parameters, topics or ReplayTopics(), node)
    if unknown := unknown_labels(parameters.wanted_labels, pipeline.labels.names):
        raise InputError(f"parameter {unknown}")
    if outputs is None:
        outputs = [name for name in OUTPUTS if name != "overlay" and (name != "points_obstacles" or parameters.wanted_labels)]
    total = sum(recording.topics()[topic].messages for topic in chosen)
    report = ReplayReport()
    place = _placing(recording, parameters.target_frame) if parameters.target_frame else None
    with RecordingWriter(out) as writer:
        types = writer.types.types
        step = StreamStep(types, parameters.tracking, place, report.warn)
        step.use(pipeline)
        info, colors = None, RecentImages()
        color = next((topic for topic, inputs in chosen.items() if "color" in inputs), "")
        labels = types["std_msgs/msg/String"](data=codec.label_info(pipeline.labels))
        for done, raw in enumerate(recording.messages(list(chosen)), 1):
            try:
                message, inputs = recording.decode(raw), chosen[raw.topic]
                if "camera_info" in inputs:
                    info = message
                if "color" in inputs:
                    colors.add(message)
                for kind in (name for name in _WORKED_ON if name in inputs):
                    item = DepthFrame(message, info, colors, _named(chosen, "camera_info"), color) if kind == "depth" else message
                    wanted = [name for name in outputs if (name in IMAGE_OUTPUTS) == (kind == "image")]
                    found = step.segment(item, raw.type, raw.topic, parameters, wanted)
                    if found is None:
                        continue
                    for name, encoded in step.encode(found, parameters, wanted).items():
                        if not writer.counts:
                            writer.write_message(f"{node}/label_info", raw.stamp_ns, labels, latched=True)
                        writer.write_message(f"{node}/{name}", raw.stamp_ns, _recordable(encoded))
                    report.count(found)
            except InputError as error:
                report.rejected.append(str(error))
            progress(done, total)
    return report


def choose_topics(recording: Recording, parameters: NodeParameters, topics: ReplayTopics, node: str) -> dict[str, set[str]]:
    """Which topics of a recording are which inputs of the node.

    A topic that is asked for is taken; else the one that the node itself listens to; else, for points and images, the only one of that
    type, and for a calibration the one beside the depth images or the only one. Colour is optional.

    Returns:
        Topic -> "points", "depth", "camera_info", "color", "image"; one topic may be several.

    Raises:
        InputError: there is nothing to work on, or a topic is missing, of another type or ambiguous.
    """
    choice = _Choice(recording, node)
    if parameters.cloud_source == "points":
        choice.take("points", (CLOUD_TYPE,), topics.points, choice.free(CLOUD_TYPE))
    elif parameters.cloud_source == "depth":
        depth = choice.take("depth", (IMAGE_TYPE,), topics.depth)
        if depth is None:
            known = ", ".join(choice.known)
            raise InputError(f"{recording.path}: cloud_source is depth, name the topic of the depth images, it has {known}")
        beside, infos = f"{depth.rpartition('/')[0]}/camera_info", choice.free(CAMERA_INFO_TYPE)
        choice.take("camera_info", (CAMERA_INFO_TYPE,), topics.camera_info, [beside] if beside in infos else infos)
        choice.take("color", (IMAGE_TYPE,), topics.color)
    if parameters.image_transport != "none":
        raw = [] if parameters.image_transport == "compressed" else choice.free(IMAGE_TYPE)
        own = "image" if parameters.image_transport == "raw" and choice.has("image", (IMAGE_TYPE,)) else "image/compressed"
        types = (IMAGE_TYPE, COMPRESSED_TYPE) if parameters.image_transport == "raw" else (COMPRESSED_TYPE,)
        choice.take("image", types, topics.image, raw or choice.free(COMPRESSED_TYPE), own)
    if not any(name in inputs for inputs in choice.inputs.values() for name in _WORKED_ON):
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


def _named(chosen: dict[str, set[str]], name: str) -> str:
    return next((topic for topic, inputs in chosen.items() if name in inputs), name)


def _placing(recording: Recording, target: str) -> Callable[[Any], Placement]:
    """Where results go in ``target``, by the transforms of the recording."""
    buffer = TransformBuffer()
    topics = [name for name, about in recording.topics().items() if about.type == TRANSFORMS_TYPE]
    for raw in recording.messages(topics) if topics else ():
        for entry in recording.decode(raw).transforms:
            shift, turn = entry.transform.translation, entry.transform.rotation
            buffer.add(
                entry.header.frame_id,
                entry.child_frame_id,
                codec.stamp_ns(entry.header),
                (shift.x, shift.y, shift.z),
                (turn.x, turn.y, turn.z, turn.w),
                raw.topic.endswith("tf_static"),
            )

    def place(header: Any) -> Placement:
        if header.frame_id == target:
            return Placement(target)
        return Placement(target, buffer.lookup(target, header.frame_id, codec.stamp_ns(header)))

    return place


def _recordable(message: Any) -> Any:
    """The message with its bytes as the writer takes them; the codec leaves an array.array."""
    return replace(message, data=np.frombuffer(message.data, np.uint8)) if hasattr(message, "data") else message
