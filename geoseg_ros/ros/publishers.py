"""What the node publishes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from geoseg_ros.io import messages as codec
from geoseg_ros.results import LabelSpace
from geoseg_ros.ros.message_types import geoseg_msgs, vision_msgs
from geoseg_ros.ros.qos import latched_qos, output_qos, overridable


class Outputs:
    """The publishers of results and of the label space.

    Args:
        node: publishes.
        names: of the results, behind ``~/``; those whose message package is not installed are left out.

    Attributes:
        lock: held while a result is encoded and published; whoever changes the labels, or looks at ``last``, must hold it.
        last: topic -> newest message on it; filled again by the next one.
    """

    def __init__(self, node: Node, names: Iterable[str]) -> None:
        self._node = node
        self.lock = threading.RLock()
        self._always: set[str] = set()
        self.last: dict[str, Any] = {}
        self._publishers: dict[str, Publisher] = {}
        self._names = list(names)
        self._publisher(PointCloud2, "points_labeled")
        self._publisher(PointCloud2, "points_obstacles")
        self._publisher(Image, "mask")
        self._publisher(Image, "overlay")
        self._publisher(MarkerArray, "markers")
        if geoseg_msgs is not None:
            self._publisher(geoseg_msgs.CosegObjectArray, "objects")
        if hasattr(geoseg_msgs, "PartArray"):
            self._publisher(geoseg_msgs.PartArray, "parts")
        if vision_msgs is not None:
            self._publisher(vision_msgs.Detection3DArray, "detections")
        self._label_info = node.create_publisher(String, "~/label_info", latched_qos())
        self._vision_info = node.create_publisher(vision_msgs.LabelInfo, "~/vision_info", latched_qos()) if vision_msgs else None

    def add_map(self) -> None:
        """Publish ``~/map_labeled``: latched, and made whether somebody listens or not, for the map needs every cloud."""
        self._publishers["map_labeled"] = self._node.create_publisher(PointCloud2, "~/map_labeled", latched_qos())
        self._always.add("map_labeled")

    def _publisher(self, kind: Any, name: str) -> None:
        """Publish results of this name, of every stream that has some."""
        for full in self._names:
            if full.rpartition("/")[2] == name:
                self._publishers[full] = self._node.create_publisher(kind, f"~/{full}", output_qos(), qos_overriding_options=overridable())

    def wanted(self, names: Collection[str]) -> list[str]:
        """Those of these outputs that somebody listens to; nothing else is made."""
        known = [name for name in names if name in self._publishers]
        return [name for name in known if name in self._always or self._publishers[name].get_subscription_count() > 0]

    def publish(self, messages: Mapping[str, Any]) -> None:
        """Send messages by the names of their outputs; the lock is held."""
        for name, message in messages.items():
            publisher = self._publishers[name]
            self.last[publisher.topic_name] = message
            publisher.publish(message)  # serialises at once, so the message may be filled again

    def publish_labels(self, labels: LabelSpace) -> None:
        """Publish the label space to who listens and who comes later."""
        self._label_info.publish(String(data=codec.label_info(labels)))
        if self._vision_info is not None:
            message = vision_msgs.LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            names = ("none", *labels.names)
            message.class_map = [vision_msgs.VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)]
            self._vision_info.publish(message)
