"""DDS of these tests stays on this machine and in a domain of its own; must be set before rclpy and the messages are imported."""

import os

_DOMAIN = os.environ.get("GEOSEG_TEST_DOMAIN_ID", str(10 + os.getpid() % 90))  # two runs at once must not hear each other
DDS_ENVIRONMENT = {
    "GEOSEG_TEST_DOMAIN_ID": _DOMAIN,  # for child processes that import this, too
    "ROS_DOMAIN_ID": _DOMAIN,
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_STATIC_PEERS": "127.0.0.1",
    "ROS_PYTHON_CHECK_FIELDS": os.environ.get("ROS_PYTHON_CHECK_FIELDS", "1"),  # older distributions check by default
    "RCUTILS_COLORIZED_OUTPUT": "0",
}
os.environ.update(DDS_ENVIRONMENT)
