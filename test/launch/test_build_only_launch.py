"""coseg.launch.py with build_only: the node opens its packs, builds what they need, and ends well."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_testing", reason="ROS 2 launch_testing is not in this environment")
pytest.importorskip("launch_ros", reason="ROS 2 launch_ros is not in this environment")
pytest.importorskip("rclpy", reason="needs ROS 2")

import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
import launch_testing.util  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

from support.ament_prefix import ROOT, make_prefix  # noqa: E402

pytestmark = pytest.mark.dds


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    folder = Path(tempfile.mkdtemp(prefix="geoseg_launch_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_prefix(folder / "prefix")
    arguments = {"build_only": "true", "backend": "torch", "bag": "not/played", "params_file": str(ROOT / "config" / "coseg.yaml")}
    file = PythonLaunchDescriptionSource(str(ROOT / "launch" / "coseg.launch.py"))
    include = IncludeLaunchDescription(file, launch_arguments=list(arguments.items()))
    # the tests need a launch that lives longer than the node
    return LaunchDescription([include, launch_testing.util.KeepAliveProc(), launch_testing.actions.ReadyToTest()])


class TestBuilding(unittest.TestCase):
    def test_it_ends_by_itself(self, proc_info: Any, proc_output: Any) -> None:
        proc_output.assertWaitFor("ready: 1 red, 2 high; backbone none on fake", timeout=30)
        proc_info.assertWaitForShutdown(process="coseg_node", timeout=30)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_with_code_0_and_alone(self, proc_info: Any) -> None:
        self.assertEqual(len(proc_info.processes()), 2, "nothing is played")
        launch_testing.asserts.assertExitCodes(proc_info, process="coseg_node")
