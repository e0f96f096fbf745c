"""What the node publishes. Messages are filled again for every frame; nothing is made that nobody listens to."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace
from geoseg_ros.ros.objects import detection_array, geoseg_msgs, marker_array, object_array, poses_of, vision_msgs
from geoseg_ros.ros.qos import latched_qos, output_qos, overridable
from geoseg_ros.ros.transforms import Placement


class Outputs:
    """The publishers of both modalities. ``publish_labels`` comes before the first result.

    Attributes:
        lock: held while a result is published; whoever changes the labels, or looks at ``last``, must hold it.
        last: topic -> newest message on it; filled again by the next one.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._palette = LabelSpace(()).palette()
        self.lock = threading.RLock()
        self.last: dict[str, Any] = {}
        self.points_labeled = self._publisher(PointCloud2, "points_labeled")
        self.points_obstacles = self._publisher(PointCloud2, "points_obstacles")
        self.mask = self._publisher(Image, "mask")
        self.overlay = self._publisher(Image, "overlay")
        self.markers = self._publisher(MarkerArray, "markers")
        self.objects = self._publisher(geoseg_msgs.CosegObjectArray, "objects") if geoseg_msgs else None
        self.detections = self._publisher(vision_msgs.Detection3DArray, "detections") if vision_msgs else None
        self._label_info = node.create_publisher(String, "~/label_info", latched_qos())
        self._vision_info = node.create_publisher(vision_msgs.LabelInfo, "~/vision_info", latched_qos()) if vision_msgs else None

    def _publisher(self, kind: Any, name: str) -> Publisher:
        return self._node.create_publisher(kind, f"~/{name}", output_qos(), qos_overriding_options=overridable())

    def wants_cloud(self) -> bool:
        """Whether anybody listens to what comes out of a cloud."""
        return any(_heard(p) for p in (self.points_labeled, self.points_obstacles, self.objects, self.detections, self.markers))

    def wants_image(self) -> bool:
        """Whether anybody listens to what comes out of an image."""
        return _heard(self.mask) or _heard(self.overlay)

    def publish_labels(self, labels: LabelSpace) -> None:
        """Keep the label space, and publish it to who listens and who comes later."""
        self._palette = labels.palette()
        self._label_info.publish(String(data=codec.label_info(labels)))
        if self._vision_info is not None:
            message = vision_msgs.LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            names = ("none", *labels.names)
            message.class_map = [vision_msgs.VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)]
            self._vision_info.publish(message)

    def publish_cloud(
        self, header: Header, cloud: Cloud, result: CloudResult, wanted: Collection[int], placement: Placement | None
    ) -> None:
        """Send what somebody listens to.

        Args:
            wanted: labels of the obstacle cloud.
            placement: of obstacles and objects; the objects are in its frame already. None: there is no transform, so they are left out.
        """
        if _heard(self.points_labeled):
            message = codec.labelled_cloud_message(header, cloud, result, self._palette, self._old(self.points_labeled))
            self._send(self.points_labeled, message)
        if placement is None:
            return
        if _heard(self.points_obstacles):
            old = self._old(self.points_obstacles)
            message = codec.obstacle_cloud_message(placement.header, cloud, result.label, wanted, old, placement.matrix)
            self._send(self.points_obstacles, message)
        header, objects, poses = placement.header, result.objects, poses_of(result.objects)
        if _heard(self.objects):
            self._send(self.objects, object_array(header, objects, poses))
        if _heard(self.detections):
            self._send(self.detections, detection_array(header, objects, poses))
        if _heard(self.markers):
            self._send(self.markers, marker_array(header, objects, poses, self._palette, self._old(self.markers)))

    def publish_image(self, header: Header, image: NDArray[np.uint8], result: ImageResult) -> None:
        """Send what somebody listens to."""
        if _heard(self.mask):
            self._send(self.mask, codec.mask_message(header, result.mask, self._old(self.mask)))
        if _heard(self.overlay):
            self._send(self.overlay, codec.overlay_message(header, image, result.mask, self._palette, self._old(self.overlay)))

    def _old(self, publisher: Publisher) -> Any:
        return self.last.get(publisher.topic_name)

    def _send(self, publisher: Any, message: Any) -> None:
        self.last[publisher.topic_name] = message
        publisher.publish(message)  # serialises at once, so the message may be filled again


def _heard(publisher: Publisher | None) -> bool:
    return publisher is not None and publisher.get_subscription_count() > 0
