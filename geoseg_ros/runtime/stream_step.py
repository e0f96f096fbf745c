"""The processing of one message of a stream: decode, segment, place, track, filter, encode.

The live node runs it in its worker thread, ``geoseg replay`` in a loop over a recording. It uses neither DDS nor rclpy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance, PartPoint
from geoseg_ros.runtime.label_map import LabelMap
from geoseg_ros.runtime.node_parameters import NodeParameters, Sensor
from geoseg_ros.runtime.parts import moved_parts
from geoseg_ros.runtime.placement import NoTransform, Placement
from geoseg_ros.runtime.rgbd import DepthFrame
from geoseg_ros.runtime.stream_state import StreamState
from geoseg_ros.runtime.tracking import Tracker, TrackingConfig
from geoseg_ros.stopwatch import Stopwatch

CLOUD_OUTPUTS = ("points_labeled", "points_obstacles", "objects", "parts", "detections", "markers", "map_labeled")
IMAGE_OUTPUTS = ("mask", "overlay")
_MERGED = ("points_obstacles", "objects", "parts", "detections", "markers")
_OF_THE_NODE = (*_MERGED, "map_labeled")  # made of all clouds together, where there are several


def output_names(kind: str, prefix: str, target_frame: str) -> list[str]:
    """The outputs that a message of a stream may lead to.

    Args:
        kind: ``cloud`` or ``image``.
        prefix: of the stream.
        target_frame: frame that clouds of several streams are merged in; empty: they are not.
    """
    if kind == "image" or not prefix:
        return [f"{prefix}{name}" for name in (IMAGE_OUTPUTS if kind == "image" else CLOUD_OUTPUTS)]
    return [*(f"{prefix}{name}" for name in CLOUD_OUTPUTS if name != "map_labeled"), *(_OF_THE_NODE if target_frame else ())]


def result_names(sensors: Collection[Sensor], target_frame: str) -> list[str]:
    """The outputs of a node with these inputs; of a kind without an input, those of a single one."""
    names: dict[str, None] = {}
    for kind in ("cloud", "image"):
        for prefix in [sensor.prefix for sensor in sensors if sensor.kind == kind] or [""]:
            names |= dict.fromkeys(output_names(kind, prefix, target_frame))
    return list(names)


class Pipeline(Protocol):
    """The interface of a pipeline that the step uses."""

    labels: LabelSpace

    def process_image(self, image: NDArray[np.uint8], /) -> ImageResult: ...

    def process_cloud(self, cloud: Cloud, /) -> CloudResult: ...


@dataclass
class Segmented:
    """A decoded message and the result of the pipeline.

    Attributes:
        header: std_msgs/Header of the message.
        stream: of the message.
        scene: Cloud, or image uint8 RGB [H, W, 3].
        result: of the pipeline; for clouds, after encoding, with tracks.
        pipeline: that gave the result.
        unplaced: there was no transform, so obstacles and objects are left out.
        clock: seconds per stage.
    """

    header: Any
    stream: StreamState
    scene: Cloud | NDArray[np.uint8]
    result: CloudResult | ImageResult
    pipeline: Pipeline
    unplaced: bool = False
    clock: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class _Placed:
    """What is known of the newest cloud of a stream. Attributes: header of objects and parts; matrix float64 [4, 4] from the frame of the
    cloud to theirs, or None; result, with tracks; obstacles float32 [n, 3], empty where they are not wanted."""

    header: Any
    matrix: NDArray[np.float64] | None
    result: CloudResult
    obstacles: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))


class StreamStep:
    """The work on the messages of one node. One thread calls ``segment`` and ``encode``; ``use`` must not run beside ``encode``.

    Args:
        types: message classes of what is encoded.
        tracking: settings of the tracker.
        place: returns the placement of the result of a message with this header; raises NoTransform. None: the sensor's frame.
        warn: called with a line about a defect of an input that is used in spite of it.
        label_map: fuses the labels of clouds where ``map_labeled`` is wanted.
        shared: results of all clouds are placed in one frame, so that they share their tracks.

    Attributes:
        pipeline: works on messages from now on; None: nothing is worked on.
    """

    def __init__(
        self,
        types: codec.MessageTypes,
        tracking: TrackingConfig,
        place: Callable[[Any], Placement] | None = None,
        warn: Callable[[str], None] = lambda line: None,
        label_map: LabelMap | None = None,
        shared: bool = False,
    ) -> None:
        self.label_map = label_map
        self.pipeline: Pipeline | None = None
        self._types, self._warn = types, warn
        self._place = place or (lambda header: Placement(header.frame_id))
        self._tracking, self._shared = tracking, shared
        self._trackers = defaultdict[str, Tracker](partial(Tracker, tracking))  # by stream, or one of the empty name
        self._palette = LabelSpace(()).palette()
        self._newest: dict[str, _Placed] = {}  # by stream; the newest cloud is the last
        self._map_sent_ns = 0
        self._filled: dict[str, Any] = {}  # newest message of each output, to be filled again

    def use(self, pipeline: Pipeline | None) -> None:
        """Work with another pipeline, or with none; tracks and messages of the one before are forgotten."""
        self.pipeline = pipeline
        self._palette = (LabelSpace(()) if pipeline is None else pipeline.labels).palette()
        for tracker in self._trackers.values():
            tracker.reset()
        self._filled.clear()
        self._newest.clear()
        if self.label_map is not None and pipeline is not None:
            self.label_map.rename(pipeline.labels.names)

    def segment(self, message: Any, stream: StreamState, parameters: NodeParameters, wanted: Collection[str]) -> Segmented | None:
        """Decode a message and run the pipeline over it.

        Args:
            message: sensor_msgs/PointCloud2, Image or CompressedImage, or a DepthFrame.
            stream: that it is of.
            parameters: limits, and how far colour may be from its depth image.
            wanted: names of outputs, out of ``output_names``.

        Returns:
            The result. None without a pipeline, or where nothing is wanted; then the message is only decoded, to report bad input.

        Raises:
            InputError: the message cannot be used.
        """
        pipeline, clock = self.pipeline, Stopwatch()
        if pipeline is None:
            return None
        scene = self.decode(message, stream, parameters)
        if not wanted:
            return None
        clock.stop("decode")
        if hasattr(pipeline, "find_parts"):  # nothing is sent of the parts in images
            pipeline.find_parts = any(name.endswith(("parts", "markers")) for name in wanted)
        result = pipeline.process_cloud(scene) if isinstance(scene, Cloud) else pipeline.process_image(scene)
        clock.stop("pipeline")
        return Segmented(message.header, stream, scene, result, pipeline, clock=clock)

    def decode(self, message: Any, stream: StreamState, parameters: NodeParameters) -> Cloud | NDArray[np.uint8]:
        """The cloud or image uint8 RGB [H, W, 3] of a message; arguments and errors as of ``segment``."""
        if isinstance(message, DepthFrame):
            return self._depth_cloud(message, stream, parameters)
        if stream.message_type == COMPRESSED_TYPE:
            return codec.image_from_compressed(message, stream.topic, parameters.max_image_pixels, self._warn)
        if stream.message_type == IMAGE_TYPE:
            return codec.image_from_message(message, stream.topic, parameters.max_image_pixels, self._warn)
        return codec.cloud_from_message(message, stream.topic, parameters.max_points, self._warn)

    def encode(self, found: Segmented, parameters: NodeParameters, wanted: Collection[str]) -> dict[str, Any]:
        """Track the objects, and make the output messages.

        Args:
            found: a result of the current pipeline.
            parameters: which labels are obstacles.
            wanted: names of outputs, out of ``output_names``.

        Returns:
            Output name -> message, which is filled again by the next call.
        """
        if isinstance(found.result, CloudResult):
            return self._encode_cloud(found, found.result, parameters, wanted)
        header, image, mask, filled = found.header, found.scene, found.result.mask, self._filled
        as_mask, overlay = (f"{found.stream.prefix}{name}" for name in IMAGE_OUTPUTS)
        if as_mask in wanted:
            filled[as_mask] = codec.mask_message(self._types, header, mask, filled.get(as_mask))
        if overlay in wanted:
            assert isinstance(image, np.ndarray)
            filled[overlay] = codec.overlay_message(self._types, header, image, mask, self._palette, filled.get(overlay))
        return {name: filled[name] for name in (as_mask, overlay) if name in wanted}

    def _encode_cloud(self, found: Segmented, result: CloudResult, parameters: NodeParameters, wanted: Collection[str]) -> dict[str, Any]:
        cloud, stream, filled = found.scene, found.stream, self._filled
        labelled = f"{stream.prefix}points_labeled"
        assert isinstance(cloud, Cloud)
        self._newest.pop(stream.name, None)
        try:
            placement = self._place(found.header)
        except NoTransform as error:
            self._warn(f"{stream.topic}: {error}; obstacles and objects of this cloud are not sent")
            found.unplaced = True
            wanted = [name for name in wanted if name == labelled]
            placement = Placement("")
        else:
            if (pose := cloud.pose()) is not None:  # from where the points were moved, to where they came from
                placement = replace(placement, matrix=pose if placement.matrix is None else placement.matrix @ pose)
            found.result = result = self._track(found, result, placement)
        found.clock.stop("tracking")
        if labelled in wanted:
            filled[labelled] = codec.labelled_cloud_message(self._types, found.header, cloud, result, self._palette, filled.get(labelled))
        made = [labelled]
        if not found.unplaced:
            header = found.header
            if placement.matrix is not None:
                header = self._types["std_msgs/msg/Header"](stamp=header.stamp, frame_id=placement.frame)
            placed = _Placed(header, placement.matrix, result)
            obstacles = f"{stream.prefix}points_obstacles"
            if not {"points_obstacles", obstacles}.isdisjoint(wanted):
                labels = _ids(parameters.wanted_labels, found.pipeline.labels)
                filled[obstacles] = codec.obstacle_cloud_message(
                    self._types, header, cloud, result.label, labels, placement.matrix, filled.get(obstacles)
                )
                if stream.prefix:  # a copy, for the message is filled again
                    placed = replace(placed, obstacles=np.frombuffer(filled[obstacles].data, np.float32).reshape(-1, 3).copy())
            self._newest[stream.name] = placed
            made += [obstacles, *self._encode_objects(stream.prefix, placed, wanted)]
            if stream.prefix and not set(_MERGED).isdisjoint(wanted):
                made += self._merge(wanted)
        if "map_labeled" in wanted and self.label_map is not None:
            filled.pop("map_labeled", None)
            if self._fuse(self.label_map, cloud, result, placement, codec.stamp_ns(found.header)):
                filled["map_labeled"] = self.map_message()
                made.append("map_labeled")
        return {name: filled[name] for name in made if name in wanted}

    def _encode_objects(self, prefix: str, placed: _Placed, wanted: Collection[str]) -> list[str]:
        """Make the outputs that list objects and parts; returns their names."""
        types, filled, header, objects = self._types, self._filled, placed.header, placed.result.objects
        names = {name: f"{prefix}{name}" for name in _MERGED if name != "points_obstacles" and f"{prefix}{name}" in wanted}
        poses = codec.object_poses(types, objects) if names.keys() - {"parts"} else []
        for name, full in names.items():
            if name == "objects":
                filled[full] = codec.object_array(types, header, objects, poses)
            elif name == "detections":
                filled[full] = codec.detection_array(types, header, objects, poses)
            elif name == "parts":
                filled[full] = codec.part_array(types, header, placed.result.parts)
            else:
                filled[full] = codec.marker_array(types, header, objects, poses, self._palette, filled.get(full))
                filled[full].markers.extend(codec.part_markers(types, header, placed.result.parts, self._palette))
        return list(names.values())

    def _near(self) -> list[_Placed]:
        """The newest cloud of each stream, the last one first, but for those farther from it than a track lives without its object."""
        found = list(reversed(self._newest.values()))
        stamps = [codec.stamp_ns(placed.header) for placed in found]
        return [p for p, stamp in zip(found, stamps, strict=True) if abs(stamp - stamps[0]) <= 1e9 * self._tracking.max_seconds]

    def _merge(self, wanted: Collection[str]) -> list[str]:
        """Make the outputs of the newest clouds of all streams together; returns their names.

        A track stands once, as the cloud with the most points of it sees it; without tracks every object of every cloud stands there.
        """
        near = self._near()
        seen = [(entry, placed) for placed in near for entry in placed.result.objects]
        if self._tracking.enabled:
            best = {entry.track: (entry, placed) for entry, placed in sorted(seen, key=lambda pair: pair[0].count) if entry.track}
            seen = [best[track] for track in sorted(best)]
        objects = [replace(entry, instance=number) for number, (entry, _) in enumerate(seen, 1)]
        parts = [
            replace(part, instance=number)
            for number, (entry, placed) in enumerate(seen, 1)
            for part in placed.result.parts
            if part.instance == entry.instance
        ]
        header = max((placed.header for placed in near), key=codec.stamp_ns)
        none = np.zeros(0, np.uint32)
        made = self._encode_objects(
            "", _Placed(header, None, CloudResult(none, none, none.astype(np.float32), objects, [], parts=parts)), wanted
        )
        if "points_obstacles" in wanted:
            xyz = np.concatenate([placed.obstacles for placed in near])
            self._filled["points_obstacles"] = codec.obstacle_cloud_message(
                self._types, header, Cloud(xyz), np.ones(len(xyz), np.uint32), [1], None, self._filled.get("points_obstacles")
            )
            made.append("points_obstacles")
        return made

    def _fuse(self, label_map: LabelMap, cloud: Cloud, result: CloudResult, placement: Placement, stamp_ns: int) -> bool:
        """Put a cloud into the map; returns whether the map is to be published."""
        matrix = np.eye(4) if placement.matrix is None else placement.matrix
        sensor = matrix[:3, 3] if (pose := cloud.pose()) is None else (matrix @ np.linalg.inv(pose))[:3, 3]
        label_map.update(cloud.xyz @ matrix[:3, :3].T + matrix[:3, 3], result.label, placement.frame, stamp_ns, sensor)
        due = abs(stamp_ns - self._map_sent_ns) >= 1e9 * label_map.config.period
        if due:
            self._map_sent_ns = stamp_ns
        return due

    def map_message(self) -> Any:
        """The map as sensor_msgs/PointCloud2 of its voxels' centres; ``confidence`` is the probability of the label."""
        found = self.label_map
        assert found is not None
        xyz, label, probability = found.labelled()
        time = self._types["builtin_interfaces/msg/Time"](sec=found.stamp_ns // 10**9, nanosec=found.stamp_ns % 10**9)
        header = self._types["std_msgs/msg/Header"](stamp=time, frame_id=found.frame)
        result = CloudResult(label, np.zeros(len(label), np.uint32), probability, [], [])
        return codec.labelled_cloud_message(self._types, header, Cloud(xyz), result, self._palette)

    def where(self, target: str, part: str, point: NDArray[np.floating], track: int = 0) -> tuple[Any, list[PartPoint]]:
        """Where a marked part, or a point of a template, is on the objects of the newest cloud. Must not run beside ``encode``.

        Args:
            target: name of the concept; empty: the only one with a part pack.
            part: name of the part; empty: ``point`` [3], in the frame of the template.
            track: the object; 0: all.

        Returns:
            Header of the points; one entry per object.

        Raises:
            InputError: no cloud yet, or no such target, part, point or track.
        """
        placed = [entry for entry in self._near() if entry.result.where is not None]
        if not placed:
            raise InputError("no cloud with a part pack yet; one is worked on while ~/parts or ~/markers has a subscriber")
        known: set[int] = set()
        found: list[PartPoint] = []
        for newest in placed:  # what one sensor does not see, another may
            objects = {entry.instance: entry for entry in newest.result.objects}
            assert newest.result.where is not None
            found = newest.result.where(target, part, point)
            found = found if newest.matrix is None else moved_parts(found, newest.matrix)
            found = [replace(entry, track=objects[entry.instance].track) for entry in found if entry.instance in objects]
            known |= {entry.track for entry in found}
            found = [entry for entry in found if track in (0, entry.track)]
            if any(entry.point is not None for entry in found):
                return newest.header, found
        if track and track not in known:
            listed = ", ".join(str(number) for number in sorted(known - {0})) or "none"
            raise InputError(f"track_id {track}: not in the newest cloud, expected one of {listed}")
        return placed[0].header, found

    def _track(self, found: Segmented, result: CloudResult, placement: Placement) -> CloudResult:
        if placement.matrix is not None:
            result = replace(result, objects=moved(result.objects, placement.matrix), parts=moved_parts(result.parts, placement.matrix))
        stream = found.stream.name
        tracker = self._trackers["" if self._shared else stream]
        resets = tracker.resets
        result = tracker.follow(1e-9 * codec.stamp_ns(found.header), result, placement.frame, stream)
        if tracker.resets > resets:
            self._warn("time went backwards or the frame changed: tracks start anew")
        tracks = {entry.instance: entry.track for entry in result.objects}
        return replace(result, parts=[replace(part, track=tracks.get(part.instance, 0)) for part in result.parts])

    def _depth_cloud(self, frame: DepthFrame, stream: StreamState, parameters: NodeParameters) -> Cloud:
        topic = stream.topic
        if frame.info is None:
            raise InputError(f"{topic}: no camera_info has come, expected one on {frame.info_topic}")
        color = frame.color(parameters.color_max_age)
        stream.color_age = age = frame.color_age()
        missing = color is None and (frame.color_topic or not math.isnan(age))
        if color is not None and color.header.frame_id != frame.header.frame_id:
            frames = f"colour is in frame {color.header.frame_id!r}, depth in {frame.header.frame_id!r}"
            self._warn(f"{topic}: {frames}: not registered to each other, so the cloud gets no colour")
            color = None
        limits = parameters.max_points, parameters.max_image_pixels
        cloud = codec.cloud_from_depth(frame.image, frame.info, color, topic, *limits, self._warn)
        if missing:
            stream.uncoloured += 1
            nearest = "none has come" if math.isnan(age) else f"the nearest is {age:.3f} s away"
            expected = f"expected one on {frame.color_topic or '~/color'} within color_max_age {parameters.color_max_age:g} s"
            self._warn(f"{topic}: no colour image for it, {expected}, {nearest}; the cloud gets no colour")
        return cloud


def moved(objects: Sequence[ObjectInstance], matrix: NDArray[np.float64]) -> list[ObjectInstance]:
    """The objects in another frame; ``matrix`` float64 [4, 4] takes points of their frame to it."""
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    return [replace(entry, center=turn @ entry.center + shift, rotation=turn @ entry.rotation) for entry in objects]


def unknown_labels(wanted: Collection[str], known: Collection[str]) -> str:
    """Error line for the parameter ``wanted_labels`` with packs of the ``known`` names, or an empty string."""
    unknown = [name for name in wanted if name not in known]
    return f"wanted_labels: no concept {', '.join(unknown)}, expected some of {', '.join(known) or 'none'}" if unknown else ""


def _ids(wanted: Collection[str], labels: LabelSpace) -> list[int]:
    """Label ids of the names; of all of them where there are none."""
    return [1 + labels.names.index(name) for name in wanted or labels.names if name in labels.names]
