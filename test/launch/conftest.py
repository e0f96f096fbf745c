"""Sets the DDS environment before any test module here imports rclpy or a message."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ros"))
import dds_environment  # noqa: E402, F401
