"""A simulated robot walks through two rooms; coseg_node looks for a stool and a lamp in what it sees; RViz shows it. Nothing to download.

ros2 launch geoseg_ros demo.launch.py
ros2 launch geoseg_ros demo.launch.py rviz:=false seconds:=10
"""

from __future__ import annotations

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

_CONCEPTS = ("stool", "lamp")


def generate_launch_description() -> LaunchDescription:
    """The recording is written first, then played into the node."""
    default = os.path.join(os.environ.get("ROS_HOME") or os.path.join(os.path.expanduser("~"), ".ros"), "geoseg_demo")
    return LaunchDescription(
        [
            DeclareLaunchArgument("out", default_value=default, description="folder that the recording is written to"),
            DeclareLaunchArgument("seconds", default_value="20", description="length of the recording, seconds"),
            DeclareLaunchArgument(
                "packs",
                default_value=",".join(_CONCEPTS),
                description="concept packs, separated by commas",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="true", description="true: show clouds, boxes and overlay in RViz, where it is installed"
            ),
            DeclareLaunchArgument("loop", default_value="false", description="true: play the recording again and again"),
            OpaqueFunction(function=_record),
        ]
    )


def _record(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    geoseg = PathJoinSubstitution([FindPackagePrefix("geoseg_ros"), "lib", "geoseg_ros", "geoseg"])
    out, seconds = LaunchConfiguration("out"), LaunchConfiguration("seconds")
    command = [geoseg, "record-demo", "--out", out, "--seconds", seconds, "--sensor", "depth", "--concepts", *_CONCEPTS]
    record = ExecuteProcess(cmd=command, output="screen")

    def play(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode:
            return [LogInfo(msg="demo: the recording could not be written")]
        arguments = {
            "packs": LaunchConfiguration("packs"),
            "points": "/lidar/points",
            "image": "/camera/image_raw",
            "bag": PathJoinSubstitution([out, "recording"]),
            "rviz": LaunchConfiguration("rviz"),
            "fixed_frame": "depth_optical_frame",
            "loop": LaunchConfiguration("loop"),
        }
        file = PathJoinSubstitution([FindPackageShare("geoseg_ros"), "launch", "coseg.launch.py"])
        return [IncludeLaunchDescription(file, launch_arguments=arguments.items())]

    return [LogInfo(msg="demo: writing a recording"), RegisterEventHandler(OnProcessExit(target_action=record, on_exit=play)), record]
