"""ROS messages to arrays and back.

Reading looks at attributes only, so any object with the fields of the message will do (rclpy, rosbags). Arrays that come out are
views of the message's buffer wherever its layout allows. Writing fills ``array.array``, the one type that every rclpy
generation takes without looking at each byte.
"""

from geoseg_ros.io.messages.buffers import MAX_PIXELS, MAX_POINTS, data_view, set_data
from geoseg_ros.io.messages.clouds import LABELLED_FIELDS, cloud_from_message, labelled_cloud_message, obstacle_cloud_message
from geoseg_ros.io.messages.compressed import image_from_compressed
from geoseg_ros.io.messages.depth import cloud_from_depth
from geoseg_ros.io.messages.images import image_from_message, mask_message, overlay_message
from geoseg_ros.io.messages.labels import label_info

__all__ = [
    "LABELLED_FIELDS",
    "MAX_PIXELS",
    "MAX_POINTS",
    "cloud_from_depth",
    "cloud_from_message",
    "data_view",
    "image_from_compressed",
    "image_from_message",
    "label_info",
    "labelled_cloud_message",
    "mask_message",
    "obstacle_cloud_message",
    "overlay_message",
    "set_data",
]
