"""ROS messages to arrays and back.

Readers use attributes only, so they accept any object with the fields of the message (rclpy, rosbags). The arrays that they return are
views of the message's buffer where its layout allows. Writers get the message classes and fill ``array.array``, the one type that every
rclpy generation accepts without checking each byte.
"""

from geoseg_ros.io.messages.buffers import MAX_PIXELS, MAX_POINTS, MessageTypes, data_view, set_data, stamp_ns
from geoseg_ros.io.messages.clouds import (
    LABELLED_FIELDS,
    cloud_from_depth,
    cloud_from_message,
    labelled_cloud_message,
    obstacle_cloud_message,
)
from geoseg_ros.io.messages.images import image_from_compressed, image_from_message, mask_message, overlay_message
from geoseg_ros.io.messages.objects import detection_array, label_info, marker_array, object_array, object_poses
from geoseg_ros.io.messages.parts import part_array, part_entries, part_markers

CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TRANSFORMS_TYPE = "tf2_msgs/msg/TFMessage"

__all__ = [
    "CAMERA_INFO_TYPE",
    "CLOUD_TYPE",
    "COMPRESSED_TYPE",
    "IMAGE_TYPE",
    "TRANSFORMS_TYPE",
    "LABELLED_FIELDS",
    "MAX_PIXELS",
    "MAX_POINTS",
    "MessageTypes",
    "cloud_from_depth",
    "cloud_from_message",
    "data_view",
    "detection_array",
    "image_from_compressed",
    "image_from_message",
    "label_info",
    "labelled_cloud_message",
    "marker_array",
    "mask_message",
    "object_array",
    "object_poses",
    "obstacle_cloud_message",
    "overlay_message",
    "part_array",
    "part_entries",
    "part_markers",
    "set_data",
    "stamp_ns",
]
