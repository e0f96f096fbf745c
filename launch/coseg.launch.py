"""Start coseg_node, and RViz on demand. The parameters that are no launch arguments are in config/coseg.yaml (params_file:=...).

  ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack points:=/lidar/points image:=/camera/image_raw
  ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack,drill.pack depth:=/camera/depth/image_raw image:=none
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def _config(name: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare("geoseg_ros"), "config", name])


def generate_launch_description() -> LaunchDescription:
    """The arguments are the few that differ from robot to robot."""
    return LaunchDescription(
        [
            _argument("packs", "", "concept packs, separated by commas: paths, or names of packs that ship; empty: those of params_file"),
            _argument("points", "/points", "PointCloud2 topic; none: no clouds"),
            _argument("depth", "", "depth Image topic, taken instead of points when given; needs camera_info"),
            _argument("camera_info", "", "CameraInfo topic of depth; empty: camera_info beside the depth topic"),
            _argument("color", "", "Image topic that colours the depth (registered to it); empty: no colour"),
            _argument("image", "/image", "Image topic; one that ends in /compressed is a CompressedImage; none: no images"),
            _argument("device", "", "where the networks run: auto, cpu or cuda; empty: that of params_file"),
            _argument("namespace", "", "namespace of the node: its topics become <namespace>/coseg_node/..."),
            _argument("params_file", _config("coseg.yaml"), "YAML file with the parameters of the node"),
            _argument("fastdds_shm", "false", "large messages over shared memory (Fast DDS); start the drivers with the same profile"),
            _argument("rviz", "false", "show clouds and overlay in RViz"),
            _argument("fixed_frame", "lidar", "frame of RViz: that of the clouds, or any that TF joins to it"),
            SetEnvironmentVariable(
                "FASTDDS_DEFAULT_PROFILES_FILE",
                _config("fastdds_shm.xml"),
                condition=IfCondition(LaunchConfiguration("fastdds_shm")),
            ),
            OpaqueFunction(function=_coseg_node),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),  # the topics in coseg.rviz are relative to it
                arguments=["-d", _config("coseg.rviz"), "-f", LaunchConfiguration("fixed_frame")],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )


def _argument(name: str, default: object, description: str) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description)


def _coseg_node(context: LaunchContext) -> list[Node]:
    """Which inputs there are follows from the topics that are given."""

    def value(name: str) -> str:
        text = LaunchConfiguration(name).perform(context).strip()
        return "" if text == "none" else text  # ros2 launch refuses an empty value

    points, depth, image = value("points"), value("depth"), value("image")
    compressed = image.endswith("/compressed")
    topics = {
        "~/points": points,
        "~/depth": depth,
        "~/camera_info": value("camera_info") or (f"{depth.rpartition('/')[0]}/camera_info" if depth else ""),
        "~/color": value("color"),
        "~/image/compressed" if compressed else "~/image": image,
    }
    parameters: dict[str, object] = {
        "cloud_source": "depth" if depth else "points" if points else "none",
        "image_transport": "none" if not image else "compressed" if compressed else "raw",
    }
    if value("device"):
        parameters["device"] = value("device")
    packs = [pack.strip() for pack in value("packs").split(",") if pack.strip()]
    if packs:
        parameters["packs"] = packs
    return [
        Node(
            package="geoseg_ros",
            executable="coseg_node",
            name="coseg_node",
            namespace=value("namespace"),
            parameters=[value("params_file"), parameters],
            remappings=[(name, topic) for name, topic in topics.items() if topic],
            output="screen",
        )
    ]
