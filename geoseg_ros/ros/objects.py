"""Objects as messages: of this package, of vision_msgs, and as markers for RViz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from geoseg_ros.results import ObjectInstance

try:
    import geoseg_ros.msg as geoseg_msgs
except ImportError:  # the package was installed without its messages
    geoseg_msgs = None
try:
    import vision_msgs.msg as vision_msgs
except ImportError:
    vision_msgs = None


def missing_interfaces() -> str:
    """What is not published because a message package is not installed: one line, or an empty string."""
    lines = []
    if geoseg_msgs is None:
        lines.append("geoseg_ros was installed without its messages: no ~/objects and ~/status")
    if vision_msgs is None:
        lines.append("vision_msgs is not installed: no ~/detections and ~/vision_info")
    return "; ".join(lines)


def moved(objects: Sequence[ObjectInstance], matrix: NDArray[np.float64]) -> list[ObjectInstance]:
    """The objects in another frame; ``matrix`` [4, 4] takes points of their frame to it."""
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    return [replace(entry, center=turn @ entry.center + shift, rotation=turn @ entry.rotation) for entry in objects]


def poses_of(objects: Sequence[ObjectInstance]) -> list[Pose]:
    """Of all at once, because most of the cost of a conversion is its checks; and once for all messages about them."""
    if not objects:
        return []
    turns = Rotation.from_matrix([entry.rotation for entry in objects]).as_quat().tolist()
    poses = []
    for entry, (qx, qy, qz, qw) in zip(objects, turns, strict=True):
        x, y, z = (float(v) for v in entry.center)
        poses.append(Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw)))
    return poses


def object_array(header: Header, objects: Sequence[ObjectInstance], poses: Sequence[Pose]) -> Any:
    """geoseg_ros/CosegObjectArray."""
    objects_out = [_object(entry, pose) for entry, pose in zip(objects, poses, strict=True)]
    return geoseg_msgs.CosegObjectArray(header=header, objects=objects_out)


def detection_array(header: Header, objects: Sequence[ObjectInstance], poses: Sequence[Pose]) -> Any:
    """vision_msgs/Detection3DArray; ``id`` is the track id where there is one."""
    array = vision_msgs.Detection3DArray(header=header)
    for entry, pose in zip(objects, poses, strict=True):
        detection = vision_msgs.Detection3D(header=header, id=str(entry.track or entry.instance))
        detection.bbox.center = pose
        detection.bbox.size = _size(entry)
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = entry.name
        hypothesis.hypothesis.score = float(entry.confidence)
        hypothesis.pose.pose = detection.bbox.center
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array


def marker_array(
    header: Header, objects: Sequence[ObjectInstance], poses: Sequence[Pose], palette: NDArray[np.uint8], message: MarkerArray | None = None
) -> MarkerArray:
    """A box and a line of text per object, in the colour of its label; what was shown before goes away.

    ``message``: one from an earlier call, to be filled again, for making a marker is most of its cost.
    """
    array = message or MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
    markers = array.markers
    while len(markers) < 1 + 2 * len(objects):
        markers += [Marker(ns="boxes", type=Marker.CUBE), Marker(ns="names", type=Marker.TEXT_VIEW_FACING)]
    del markers[1 + 2 * len(objects) :]
    markers[0].header = header
    for entry, pose, box, text in zip(objects, poses, markers[1::2], markers[2::2], strict=True):
        red, green, blue = (float(v) / 255 for v in palette[entry.label])
        box.header = text.header = header
        box.id = text.id = entry.instance
        box.pose, box.scale = pose, _size(entry)
        box.color = ColorRGBA(r=red, g=green, b=blue, a=0.4)
        text.text = f"{entry.name} {entry.track}" if entry.track else entry.name
        height = 0.5 * float(np.abs(entry.rotation[2] * entry.size).sum())  # of the box above its centre
        text.pose.position = Point(x=pose.position.x, y=pose.position.y, z=pose.position.z + height + 0.08)
        text.scale.z = 0.1
        text.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return array


def _size(entry: ObjectInstance) -> Vector3:
    x, y, z = (float(v) for v in entry.size)
    return Vector3(x=x, y=y, z=z)


def _object(entry: ObjectInstance, pose: Pose) -> Any:
    return geoseg_msgs.CosegObject(
        label=int(entry.label),
        name=entry.name,
        instance=int(entry.instance),
        confidence=float(entry.confidence),
        p_value=float(entry.p_value),
        center=pose,
        size=_size(entry),
        point_count=int(entry.count),
        track_id=int(entry.track),
    )
