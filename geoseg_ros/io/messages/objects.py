"""Objects and label names as messages: of this package, of vision_msgs, and as markers for RViz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.io.messages.buffers import MessageTypes
from geoseg_ros.results import LabelSpace, ObjectInstance


def label_info(labels: LabelSpace) -> str:
    """JSON of ~/label_info: a list of {"id", "name", "color": [r, g, b]}; id 0 is "none"."""
    palette = labels.palette().tolist()
    return json.dumps([{"id": i, "name": name, "color": palette[i]} for i, name in enumerate(("none", *labels.names))])


def object_poses(types: MessageTypes, objects: Sequence[ObjectInstance]) -> list[Any]:
    """A geometry_msgs/Pose per object, made once for all messages about them.

    All rotations are converted at once, because most of the cost of a conversion is its checks.
    """
    if not objects:
        return []
    pose, point, quaternion = (types[f"geometry_msgs/msg/{name}"] for name in ("Pose", "Point", "Quaternion"))
    turns = Rotation.from_matrix([entry.rotation for entry in objects]).as_quat().tolist()
    poses = []
    for entry, (qx, qy, qz, qw) in zip(objects, turns, strict=True):
        x, y, z = (float(v) for v in entry.center)
        poses.append(pose(position=point(x=x, y=y, z=z), orientation=quaternion(x=qx, y=qy, z=qz, w=qw)))
    return poses


def object_array(types: MessageTypes, header: Any, objects: Sequence[ObjectInstance], poses: Sequence[Any]) -> Any:
    """Make a geoseg_ros/CosegObjectArray.

    Args:
        types: message classes.
        header: std_msgs/Header in the frame of the objects.
        objects: in any number.
        poses: theirs, from :func:`object_poses`.
    """
    kind = types["geoseg_ros/msg/CosegObject"]
    entries = [
        kind(
            label=int(entry.label),
            name=entry.name,
            instance=int(entry.instance),
            confidence=float(entry.confidence),
            p_value=float(entry.p_value),
            center=pose,
            size=_size(types, entry),
            point_count=int(entry.count),
            track_id=int(entry.track),
        )
        for entry, pose in zip(objects, poses, strict=True)
    ]
    return types["geoseg_ros/msg/CosegObjectArray"](header=header, objects=entries)


def detection_array(types: MessageTypes, header: Any, objects: Sequence[ObjectInstance], poses: Sequence[Any]) -> Any:
    """Make a vision_msgs/Detection3DArray; ``id`` is the track id where there is one. The arguments are those of :func:`object_array`."""
    array = types["vision_msgs/msg/Detection3DArray"](header=header)
    for entry, pose in zip(objects, poses, strict=True):
        detection = types["vision_msgs/msg/Detection3D"](header=header, id=str(entry.track or entry.instance))
        detection.bbox.center = pose
        detection.bbox.size = _size(types, entry)
        hypothesis = types["vision_msgs/msg/ObjectHypothesisWithPose"]()
        hypothesis.hypothesis.class_id = entry.name
        hypothesis.hypothesis.score = float(entry.confidence)
        hypothesis.pose.pose = detection.bbox.center
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array


def marker_array(
    types: MessageTypes,
    header: Any,
    objects: Sequence[ObjectInstance],
    poses: Sequence[Any],
    palette: NDArray[np.uint8],
    message: Any = None,
) -> Any:
    """Make a visualization_msgs/MarkerArray: a box and a line of text per object, in the colour of its label, instead of those before.

    Args:
        types, header, objects, poses: as for :func:`object_array`.
        palette: uint8 [labels + 1, 3] RGB.
        message: one from an earlier call, to be filled again, for making a marker is most of its cost.
    """
    marker, point, color = (types[name] for name in ("visualization_msgs/msg/Marker", "geometry_msgs/msg/Point", "std_msgs/msg/ColorRGBA"))
    array = message or types["visualization_msgs/msg/MarkerArray"](markers=[marker(action=marker.DELETEALL)])
    markers = array.markers
    while len(markers) < 1 + 2 * len(objects):
        markers += [marker(ns="boxes", type=marker.CUBE), marker(ns="names", type=marker.TEXT_VIEW_FACING)]
    del markers[1 + 2 * len(objects) :]
    markers[0].header = header
    for entry, pose, box, text in zip(objects, poses, markers[1::2], markers[2::2], strict=True):
        red, green, blue = (float(v) / 255 for v in palette[entry.label])
        box.header = text.header = header
        box.id = text.id = entry.instance
        box.pose, box.scale = pose, _size(types, entry)
        box.color = color(r=red, g=green, b=blue, a=0.4)
        text.text = f"{entry.name} {entry.track}" if entry.track else entry.name
        height = 0.5 * float(np.abs(entry.rotation[2] * entry.size).sum())  # of the box above its centre
        text.pose.position = point(x=pose.position.x, y=pose.position.y, z=pose.position.z + height + 0.08)
        text.scale.z = 0.1
        text.color = color(r=red, g=green, b=blue, a=1.0)
    return array


def _size(types: MessageTypes, entry: ObjectInstance) -> Any:
    x, y, z = (float(v) for v in entry.size)
    return types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z)
