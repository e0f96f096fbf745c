"""DDS of these tests stays on this machine and in a domain of its own; must be set before rclpy and the messages are imported."""

import os

DDS_ENVIRONMENT = {
    "ROS_DOMAIN_ID": os.environ.get("GEOSEG_TEST_DOMAIN_ID", "41"),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_STATIC_PEERS": "127.0.0.1",
    "ROS_PYTHON_CHECK_FIELDS": os.environ.get("ROS_PYTHON_CHECK_FIELDS", "1"),  # older distributions check by default
    "RCUTILS_COLORIZED_OUTPUT": "0",
}
os.environ.update(DDS_ENVIRONMENT)
