"""Start coseg_node, and on demand RViz and a recording. What is no launch argument is in config/coseg.yaml (params_file:=...).

ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack points:=/lidar/points image:=/camera/image_raw
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack,drill.pack depth:=/camera/depth/image_raw image:=none
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack bag:=recording points:=/lidar/points image:=/camera/image_raw rviz:=true
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack build_only:=true
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare


def _config(name: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare("geoseg_ros"), "config", name])


def generate_launch_description() -> LaunchDescription:
    """The arguments are the few that differ from robot to robot."""
    return LaunchDescription(
        [
            _argument("packs", "", "concept packs, separated by commas: names of packs that ship, or paths; empty: those of params_file"),
            _argument("points", "/points", "PointCloud2 topic; none: no clouds"),
            _argument("depth", "", "depth Image topic, taken instead of points when given; needs camera_info"),
            _argument("camera_info", "", "CameraInfo topic of depth; empty: camera_info beside the depth topic"),
            _argument("color", "", "Image topic that colours the depth (registered to it); empty: no colour"),
            _argument("image", "/image", "Image topic; one that ends in /compressed is a CompressedImage; none: no images"),
            _argument("device", "", "where the networks run: auto, cpu or cuda; empty: that of params_file"),
            _argument("backend", "", "runs the networks: auto, tensorrt, tensorrt_rtx, onnxruntime or torch; empty: that of params_file"),
            _argument("build_only", "false", "true: build the engine that the packs need, and end; a later start finds it"),
            _argument("namespace", "", "namespace of the node: its topics become <namespace>/coseg_node/..."),
            _argument("target_frame", "", "frame of obstacles and objects, such as odom (needs TF); empty: that of params_file"),
            _argument("autostart", "", "true: come up active; false: wait for a life cycle manager; empty: that of params_file"),
            _argument("params_file", _config("coseg.yaml"), "YAML file with the parameters of the node"),
            _argument("fastdds_shm", "false", "true: large messages in shared memory (Fast DDS); start the drivers with the same profile"),
            _argument("bag", "", "recording (rosbag2 or ROS 1) to play into the node once it listens"),
            _argument("rviz", "false", "true: show clouds, boxes and overlay in RViz"),
            _argument("fixed_frame", "lidar", "frame of RViz: that of the clouds, or any that TF joins to it"),
            SetEnvironmentVariable(
                "FASTDDS_DEFAULT_PROFILES_FILE",
                _config("fastdds_shm.xml"),
                condition=IfCondition(LaunchConfiguration("fastdds_shm")),
            ),
            OpaqueFunction(function=_coseg_node),
            OpaqueFunction(function=_player),
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


def _value(context: LaunchContext, name: str) -> str:
    text = LaunchConfiguration(name).perform(context).strip()
    return "" if text == "none" else text  # ros2 launch refuses an empty value


def _builds(context: LaunchContext) -> bool:
    return _value(context, "build_only").lower() in ("true", "1")


def _inputs(context: LaunchContext) -> dict[str, str]:
    """The node's name of each input -> topic that is given for it."""
    points, depth, image, color = (_value(context, name) for name in ("points", "depth", "image", "color"))
    clouds = {"~/points": points}
    if depth:
        info = _value(context, "camera_info") or f"{depth.rpartition('/')[0]}/camera_info"
        clouds = {"~/depth": depth, "~/camera_info": info, "~/color": color}
    inputs = clouds | {"~/image/compressed" if image.endswith("/compressed") else "~/image": image}
    return {name: topic for name, topic in inputs.items() if topic}


def _coseg_node(context: LaunchContext) -> list[Node]:
    """Which inputs there are follows from the topics that are given."""

    def value(name: str) -> str:
        return _value(context, name)

    topics = _inputs(context)
    parameters: dict[str, object] = {
        "cloud_source": next((source for source in ("depth", "points") if f"~/{source}" in topics), "none"),
        "image_transport": "compressed" if "~/image/compressed" in topics else "raw" if "~/image" in topics else "none",
    }
    if value("autostart"):
        parameters["autostart"] = value("autostart").lower() in ("true", "1")
    parameters |= {name: value(name) for name in ("device", "backend", "target_frame") if value(name)}
    if _builds(context):
        parameters["build_only"] = True
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
            remappings=list(topics.items()),
            output="screen",
        )
    ]


def _player(context: LaunchContext) -> list[ExecuteProcess]:
    """Plays what the node subscribes to, and waits until it does."""
    if not _value(context, "bag") or _builds(context):
        return []
    geoseg = PathJoinSubstitution([FindPackagePrefix("geoseg_ros"), "lib", "geoseg_ros", "geoseg"])
    topics = [*_inputs(context).values(), *(["/tf", "/tf_static"] if _value(context, "target_frame") else [])]
    return [ExecuteProcess(cmd=[geoseg, "play", _value(context, "bag"), "--topics", *topics, "--wait", "1"], output="screen")]
