"""What the node publishes. Messages are filled again for every frame; nothing is made that nobody listens to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, String

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.ros import codec
from geoseg_ros.ros.qos import latched_qos, output_qos, overridable
from geoseg_ros.runtime.labels import LabelSpace
from geoseg_ros.runtime.results import CloudResult, ImageResult, ObjectInstance

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


class Outputs:
    """The publishers of both modalities. ``publish_labels`` comes before the first result."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._last: dict[str, Any] = {}
        self._palette = LabelSpace(()).palette()
        self.points_labeled = self._publisher(PointCloud2, "points_labeled")
        self.points_obstacles = self._publisher(PointCloud2, "points_obstacles")
        self.mask = self._publisher(Image, "mask")
        self.overlay = self._publisher(Image, "overlay")
        self.objects = self._publisher(geoseg_msgs.CosegObjectArray, "objects") if geoseg_msgs else None
        self.detections = self._publisher(vision_msgs.Detection3DArray, "detections") if vision_msgs else None
        self._label_info = node.create_publisher(String, "~/label_info", latched_qos())
        self._vision_info = node.create_publisher(vision_msgs.LabelInfo, "~/vision_info", latched_qos()) if vision_msgs else None

    def _publisher(self, kind: Any, name: str) -> Publisher:
        return self._node.create_publisher(kind, f"~/{name}", output_qos(), qos_overriding_options=overridable())

    def wants_cloud(self) -> bool:
        """Whether anybody listens to what comes out of a cloud."""
        return any(_heard(p) for p in (self.points_labeled, self.points_obstacles, self.objects, self.detections))

    def wants_image(self) -> bool:
        """Whether anybody listens to what comes out of an image."""
        return _heard(self.mask) or _heard(self.overlay)

    def publish_labels(self, labels: LabelSpace) -> None:
        """Keep the label space and publish it, for now and later."""
        self._palette = labels.palette()
        self._label_info.publish(String(data=codec.label_info(labels)))
        if self._vision_info is not None:
            message = vision_msgs.LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            names = ("none", *labels.names)
            message.class_map = [vision_msgs.VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)]
            self._vision_info.publish(message)

    def publish_cloud(self, header: Header, cloud: Cloud, result: CloudResult, wanted: Collection[int]) -> None:
        """Send what somebody listens to; ``wanted`` are the labels of the obstacle cloud."""
        if _heard(self.points_labeled):
            message = codec.labelled_cloud_message(header, cloud, result, self._palette, self._last.get("labelled"))
            self._send(self.points_labeled, "labelled", message)
        if _heard(self.points_obstacles):
            message = codec.obstacle_cloud_message(header, cloud, result.label, wanted, self._last.get("obstacles"))
            self._send(self.points_obstacles, "obstacles", message)
        if _heard(self.objects):
            self.objects.publish(geoseg_msgs.CosegObjectArray(header=header, objects=[_object(entry) for entry in result.objects]))
        if _heard(self.detections):
            self.detections.publish(_detections(header, result.objects))

    def publish_image(self, header: Header, image: NDArray[np.uint8], result: ImageResult) -> None:
        """Send what somebody listens to."""
        if _heard(self.mask):
            self._send(self.mask, "mask", codec.mask_message(header, result.mask, self._last.get("mask")))
        if _heard(self.overlay):
            self._send(self.overlay, "overlay", codec.overlay_message(header, image, result.mask, self._palette, self._last.get("overlay")))

    def _send(self, publisher: Publisher, name: str, message: Any) -> None:
        self._last[name] = message
        publisher.publish(message)  # serialises at once, so the message may be filled again


def _heard(publisher: Publisher | None) -> bool:
    return publisher is not None and publisher.get_subscription_count() > 0


def _pose(entry: ObjectInstance) -> Pose:
    x, y, z = (float(v) for v in entry.center)
    qx, qy, qz, qw = Rotation.from_matrix(entry.rotation).as_quat().tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _size(entry: ObjectInstance) -> Vector3:
    x, y, z = (float(v) for v in entry.size)
    return Vector3(x=x, y=y, z=z)


def _object(entry: ObjectInstance) -> Any:
    return geoseg_msgs.CosegObject(
        label=int(entry.label),
        name=entry.name,
        instance=int(entry.instance),
        confidence=float(entry.confidence),
        p_value=float(entry.p_value),
        center=_pose(entry),
        size=_size(entry),
        point_count=int(entry.count),
    )


def _detections(header: Header, objects: list[ObjectInstance]) -> Any:
    array = vision_msgs.Detection3DArray(header=header)
    for entry in objects:
        detection = vision_msgs.Detection3D(header=header, id=str(entry.instance))
        detection.bbox.center = _pose(entry)
        detection.bbox.size = _size(entry)
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = entry.name
        hypothesis.hypothesis.score = float(entry.confidence)
        hypothesis.pose.pose = detection.bbox.center
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array
