"""The processing of one message of a stream: decode, segment, place, track, filter, encode.

The live node runs it in its worker thread, ``geoseg replay`` in a loop over a recording. It uses neither DDS nor rclpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance, PartPoint
from geoseg_ros.runtime.label_map import LabelMap
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.parts import moved_parts
from geoseg_ros.runtime.placement import NoTransform, Placement
from geoseg_ros.runtime.rgbd import DepthFrame
from geoseg_ros.runtime.tracking import Tracker, TrackingConfig
from geoseg_ros.stopwatch import Stopwatch

CLOUD_OUTPUTS = ("points_labeled", "points_obstacles", "objects", "parts", "detections", "markers", "map_labeled")
IMAGE_OUTPUTS = ("mask", "overlay")


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
        topic: of the message.
        scene: Cloud, or image uint8 RGB [H, W, 3].
        result: of the pipeline; for clouds, after encoding, with tracks.
        pipeline: that gave the result.
        unplaced: there was no transform, so obstacles and objects are left out.
        clock: seconds per stage.
    """

    header: Any
    topic: str
    scene: Cloud | NDArray[np.uint8]
    result: CloudResult | ImageResult
    pipeline: Pipeline
    unplaced: bool = False
    clock: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class _NewestParts:
    """The parts of the newest cloud, which ``where`` looks in. Attributes: header of the points; matrix float64 [4, 4] from the frame of
    the cloud to theirs, or None; result, with tracks."""

    header: Any
    matrix: NDArray[np.float64] | None
    result: CloudResult


class StreamStep:
    """The work on the messages of one node. One thread calls ``segment`` and ``encode``; ``use`` must not run beside ``encode``.

    Args:
        types: message classes of what is encoded.
        tracking: settings of the tracker.
        place: returns the placement of the result of a message with this header; raises NoTransform. None: the sensor's frame.
        warn: called with a line about a defect of an input that is used in spite of it.
        label_map: fuses the labels of clouds where ``map_labeled`` is wanted.

    Attributes:
        pipeline: works on messages from now on; None: nothing is worked on.
        uncoloured: depth images so far that got no colour, though some was expected.
        color_age: seconds from the last depth image to the nearest colour, NaN while there is none.
    """

    def __init__(
        self,
        types: codec.MessageTypes,
        tracking: TrackingConfig,
        place: Callable[[Any], Placement] | None = None,
        warn: Callable[[str], None] = lambda line: None,
        label_map: LabelMap | None = None,
    ) -> None:
        self.label_map = label_map
        self.pipeline: Pipeline | None = None
        self.uncoloured, self.color_age = 0, float("nan")
        self._types, self._warn = types, warn
        self._place = place or (lambda header: Placement(header.frame_id))
        self._tracker = Tracker(tracking)
        self._palette = LabelSpace(()).palette()
        self._newest: _NewestParts | None = None  # of the newest cloud
        self._map_sent_ns = 0
        self._filled: dict[str, Any] = {}  # newest message of each output, to be filled again

    def use(self, pipeline: Pipeline | None) -> None:
        """Work with another pipeline, or with none; tracks and messages of the one before are forgotten."""
        self.pipeline = pipeline
        self._palette = (LabelSpace(()) if pipeline is None else pipeline.labels).palette()
        self._tracker.reset()
        self._filled.clear()
        self._newest = None
        if self.label_map is not None and pipeline is not None:
            self.label_map.rename(pipeline.labels.names)

    def segment(self, message: Any, type_name: str, topic: str, parameters: NodeParameters, wanted: Collection[str]) -> Segmented | None:
        """Decode a message and run the pipeline over it.

        Args:
            message: sensor_msgs/PointCloud2, Image or CompressedImage, or a DepthFrame.
            type_name: its ROS type; of the depth image for a DepthFrame.
            topic: for errors.
            parameters: limits, and how far colour may be from its depth image.
            wanted: names of outputs.

        Returns:
            The result. None without a pipeline, or where nothing is wanted; then the message is only decoded, to report bad input.

        Raises:
            InputError: the message cannot be used.
        """
        pipeline, clock = self.pipeline, Stopwatch()
        if pipeline is None:
            return None
        scene = self.decode(message, type_name, topic, parameters)
        if not wanted:
            return None
        clock.stop("decode")
        if hasattr(pipeline, "find_parts"):  # nothing is sent of the parts in images
            pipeline.find_parts = not {"parts", "markers"}.isdisjoint(wanted)
        result = pipeline.process_cloud(scene) if isinstance(scene, Cloud) else pipeline.process_image(scene)
        clock.stop("pipeline")
        return Segmented(message.header, topic, scene, result, pipeline, clock=clock)

    def decode(self, message: Any, type_name: str, topic: str, parameters: NodeParameters) -> Cloud | NDArray[np.uint8]:
        """The cloud or image uint8 RGB [H, W, 3] of a message; arguments and errors as of ``segment``."""
        if isinstance(message, DepthFrame):
            return self._depth_cloud(message, topic, parameters)
        if type_name == COMPRESSED_TYPE:
            return codec.image_from_compressed(message, topic, parameters.max_image_pixels, self._warn)
        if type_name == IMAGE_TYPE:
            return codec.image_from_message(message, topic, parameters.max_image_pixels, self._warn)
        return codec.cloud_from_message(message, topic, parameters.max_points, self._warn)

    def encode(self, found: Segmented, parameters: NodeParameters, wanted: Collection[str]) -> dict[str, Any]:
        """Track the objects, and make the output messages.

        Args:
            found: a result of the current pipeline.
            parameters: which labels are obstacles.
            wanted: names of outputs, of ``CLOUD_OUTPUTS`` or ``IMAGE_OUTPUTS``.

        Returns:
            Output name -> message, which is filled again by the next call.
        """
        if isinstance(found.result, CloudResult):
            return self._encode_cloud(found, found.result, parameters, wanted)
        header, image, mask = found.header, found.scene, found.result.mask
        if "mask" in wanted:
            self._filled["mask"] = codec.mask_message(self._types, header, mask, self._filled.get("mask"))
        if "overlay" in wanted:
            assert isinstance(image, np.ndarray)
            self._filled["overlay"] = codec.overlay_message(self._types, header, image, mask, self._palette, self._filled.get("overlay"))
        return {name: self._filled[name] for name in IMAGE_OUTPUTS if name in wanted}

    def _encode_cloud(self, found: Segmented, result: CloudResult, parameters: NodeParameters, wanted: Collection[str]) -> dict[str, Any]:
        cloud, types, filled = found.scene, self._types, self._filled
        assert isinstance(cloud, Cloud)
        try:
            placement = self._place(found.header)
        except NoTransform as error:
            self._warn(f"{found.topic}: {error}; obstacles and objects of this cloud are not sent")
            found.unplaced = True
            wanted = [name for name in wanted if name == "points_labeled"]
            placement = Placement("")
        else:
            if (pose := cloud.pose()) is not None:  # from where the points were moved, to where they came from
                placement = replace(placement, matrix=pose if placement.matrix is None else placement.matrix @ pose)
            found.result = result = self._track(found.header, result, placement)
        found.clock.stop("tracking")
        if "points_labeled" in wanted:
            filled["points_labeled"] = codec.labelled_cloud_message(
                types, found.header, cloud, result, self._palette, filled.get("points_labeled")
            )
        header, objects = found.header, result.objects
        if placement.matrix is not None:
            header = types["std_msgs/msg/Header"](stamp=header.stamp, frame_id=placement.frame)
        if "points_obstacles" in wanted:
            labels = _ids(parameters.wanted_labels, found.pipeline.labels)
            filled["points_obstacles"] = codec.obstacle_cloud_message(
                types, header, cloud, result.label, labels, placement.matrix, filled.get("points_obstacles")
            )
        if not {"objects", "detections", "markers"}.isdisjoint(wanted):
            poses = codec.object_poses(types, objects)
            if "objects" in wanted:
                filled["objects"] = codec.object_array(types, header, objects, poses)
            if "detections" in wanted:
                filled["detections"] = codec.detection_array(types, header, objects, poses)
            if "markers" in wanted:
                filled["markers"] = codec.marker_array(types, header, objects, poses, self._palette, filled.get("markers"))
                filled["markers"].markers.extend(codec.part_markers(types, header, result.parts, self._palette))
        if "parts" in wanted:
            filled["parts"] = codec.part_array(types, header, result.parts)
        if "map_labeled" in wanted and self.label_map is not None:
            filled.pop("map_labeled", None)
            if self._fuse(self.label_map, cloud, result, placement, codec.stamp_ns(header)):
                filled["map_labeled"] = self.map_message()
        self._newest = None if found.unplaced else _NewestParts(header, placement.matrix, result)
        return {name: filled[name] for name in CLOUD_OUTPUTS if name in wanted and name in filled}

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
        newest = self._newest
        if newest is None or newest.result.where is None:
            raise InputError("no cloud with a part pack yet; one is worked on while ~/parts or ~/markers has a subscriber")
        objects = {entry.instance: entry for entry in newest.result.objects}
        found = newest.result.where(target, part, point)
        found = found if newest.matrix is None else moved_parts(found, newest.matrix)
        found = [replace(entry, track=objects[entry.instance].track) for entry in found if entry.instance in objects]
        if track and track not in {entry.track for entry in found}:
            known = ", ".join(str(number) for number in sorted({entry.track for entry in found} - {0})) or "none"
            raise InputError(f"track_id {track}: not in the newest cloud, expected one of {known}")
        return newest.header, [entry for entry in found if track in (0, entry.track)]

    def _track(self, header: Any, result: CloudResult, placement: Placement) -> CloudResult:
        if placement.matrix is not None:
            result = replace(result, objects=moved(result.objects, placement.matrix), parts=moved_parts(result.parts, placement.matrix))
        resets = self._tracker.resets
        result = self._tracker.follow(1e-9 * codec.stamp_ns(header), result, placement.frame)
        if self._tracker.resets > resets:
            self._warn("time went backwards or the frame changed: tracks start anew")
        tracks = {entry.instance: entry.track for entry in result.objects}
        return replace(result, parts=[replace(part, track=tracks.get(part.instance, 0)) for part in result.parts])

    def _depth_cloud(self, frame: DepthFrame, topic: str, parameters: NodeParameters) -> Cloud:
        if frame.info is None:
            raise InputError(f"{topic}: no camera_info has come, expected one on {frame.info_topic}")
        color = frame.color(parameters.color_max_age)
        self.color_age = frame.color_age()
        missing = color is None and (frame.color_topic or not math.isnan(self.color_age))
        if color is not None and color.header.frame_id != frame.header.frame_id:
            frames = f"colour is in frame {color.header.frame_id!r}, depth in {frame.header.frame_id!r}"
            self._warn(f"{topic}: {frames}: not registered to each other, so the cloud gets no colour")
            color = None
        limits = parameters.max_points, parameters.max_image_pixels
        cloud = codec.cloud_from_depth(frame.image, frame.info, color, topic, *limits, self._warn)
        if missing:
            self.uncoloured += 1
            nearest = "none has come" if math.isnan(self.color_age) else f"the nearest is {self.color_age:.3f} s away"
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
