"""Sets the DDS environment before any test module here imports rclpy or a message."""

from support import dds_environment  # noqa: F401
