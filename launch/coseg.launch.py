"""Start coseg_node, and on demand RViz and a recording. What is no launch argument is in config/coseg.yaml (params_file:=...).

ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack points:=/lidar/points image:=/camera/image_raw
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack,drill.pack depth:=/camera/depth/image_raw image:=none
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack bag:=recording points:=/lidar/points image:=/camera/image_raw rviz:=true
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack points:=/front/points,/rear/points image:=none target_frame:=odom
ros2 launch geoseg_ros coseg.launch.py packs:=mug.pack build_only:=true
"""

from __future__ import annotations

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

# what a preset sets, and the topics that such a sensor has by convention; every argument that is given beats it
PRESETS: dict[str, dict[str, str]] = {
    "lidar": {"points": "/lidar/points", "image": "/camera/image_raw"},
    "depth_camera": {
        "depth": "/camera/depth/image_rect",
        "camera_info": "/camera/depth/camera_info",
        "color": "/camera/color/image_raw",
        "image": "/camera/color/image_raw",
    },
    "tabletop": {"points": "/camera/depth/color/points", "image": "none"},
}
_LISTS = {"points": "point_topics", "depth": "depth_topics", "camera_info": "camera_info_topics", "color": "color_topics"}
_SHARED_MEMORY = 64 << 20  # bytes of a segment of config/fastdds_shm.xml; every process has one


class BadArgument(RuntimeError):
    """A launch argument that cannot be used."""


def _config(name: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare("geoseg_ros"), "config", name])


def generate_launch_description() -> LaunchDescription:
    """The arguments are the few that differ from robot to robot."""
    return LaunchDescription(
        [
            _argument("packs", "", "concept packs, separated by commas: names of packs that ship, or paths; empty: those of params_file"),
            _argument("preset", "", "topics of a usual robot: lidar, depth_camera, tabletop; other arguments beat it"),
            _argument("points", "", "PointCloud2 topic (/points where nothing says otherwise), or several: /a,/b; none: no clouds"),
            _argument("depth", "", "depth Image topic, taken instead of points when given, or several, beside them; needs camera_info"),
            _argument("camera_info", "", "CameraInfo topic of depth; empty: camera_info beside the depth topic"),
            _argument("color", "", "Image topic that colours the depth (registered to it), one for each depth or none; empty: no colour"),
            _argument(
                "image",
                "",
                "Image topic (/image where nothing is said), or several; those ending in /compressed are compressed; none: no images",
            ),
            _argument("device", "", "where the networks run: auto, cpu or cuda; empty: that of params_file"),
            _argument("backend", "", "runs the networks: auto, tensorrt, tensorrt_rtx, onnxruntime or torch; empty: that of params_file"),
            _argument("build_only", "false", "true: build the engine that the packs need, and end; a later start finds it"),
            _argument("namespace", "", "namespace of the node: its topics become <namespace>/coseg_node/..."),
            _argument("target_frame", "", "frame of obstacles and objects, such as odom (needs TF); empty: that of params_file"),
            _argument("map", "", "file of a map of labels: read at start where it exists, written by ~/save_map; needs target_frame"),
            _argument("autostart", "", "true: come up active; false: wait for a life cycle manager; empty: that of params_file"),
            _argument("params_file", _config("coseg.yaml"), "YAML file with the parameters of the node"),
            _argument("fastdds_shm", "true", "large messages in shared memory (Fast DDS); start the drivers with the same profile"),
            _argument("use_sim_time", "", "true: the time of /clock; empty: that of params_file, or true with clock:=true"),
            _argument("log_level", "info", "of the node: debug, info, warn, error"),
            _argument("respawn", "false", "true: start the node again when it ends with an error"),
            _argument("bag", "", "recording (rosbag2 or ROS 1) to play into the node once it listens"),
            _argument("rate", "1.0", "speed of playing it"),
            _argument("loop", "false", "true: play it again and again"),
            _argument("clock", "false", "true: publish its time on /clock"),
            _argument("rviz", "false", "true: show clouds, boxes and overlay in RViz"),
            _argument("fixed_frame", "lidar", "frame of RViz: that of the clouds, or any that TF joins to it"),
            OpaqueFunction(function=_shared_memory),
            OpaqueFunction(function=_coseg_node),
            OpaqueFunction(function=_player),
            OpaqueFunction(function=_rviz),
        ]
    )


def _argument(name: str, default: object, description: str) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description)


def _value(context: LaunchContext, name: str) -> str:
    """What was given for an argument, else what the preset says."""
    text = LaunchConfiguration(name).perform(context).strip()
    preset = LaunchConfiguration("preset").perform(context).strip()
    if preset and preset not in PRESETS:
        raise BadArgument(f"preset: expected one of {', '.join(PRESETS)}, got {preset}")
    return text or PRESETS.get(preset, {}).get(name, "")


def _given(context: LaunchContext, name: str) -> str:
    """The same, where none stands for nothing: ros2 launch refuses an empty value."""
    text = _value(context, name)
    return "" if text == "none" else text


def _true(context: LaunchContext, name: str) -> bool:
    return _given(context, name).lower() in ("true", "1", "yes", "on")


def _shared_memory(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Without it, Fast DDS loses most large messages that are sent with best effort."""
    if not _true(context, "fastdds_shm") or os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE"):
        return []  # the user has a profile
    try:
        about = os.statvfs("/dev/shm")
        free = about.f_bavail * about.f_frsize
    except OSError:
        free = 0
    if free < 3 * _SHARED_MEMORY:
        text = f"coseg.launch.py: only {free >> 20} MiB free in /dev/shm, so large messages go another way and may be lost"
        return [LogInfo(msg=f"{text}; in Docker, give --shm-size 1g")]
    return [SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", _config("fastdds_shm.xml"))]


def _is_list(text: str) -> bool:
    return "," in text or text.startswith("[")


def _listed(text: str) -> list[str]:
    """Separated by commas, also in the brackets of a YAML list."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [item for item in (item.strip().strip("'\"") for item in text.split(",")) if item]


def _lists(context: LaunchContext) -> dict[str, list[str]]:
    """The parameters of several sensors; where there are several clouds of one kind, those of the other are listed too."""
    lists = {}
    if any(_is_list(_given(context, name)) for name in ("points", "depth")):
        lists = {parameter: _listed(_given(context, name)) for name, parameter in _LISTS.items()}
    if _is_list(image := _given(context, "image")):
        lists["image_topics"] = _listed(image)
    return {parameter: topics for parameter, topics in lists.items() if topics}


def _inputs(context: LaunchContext) -> dict[str, str]:
    """The node's name of each input that is the only one of its kind -> topic that is given for it; for what is not given, the file
    decides."""
    depth, image = _given(context, "depth"), _value(context, "image")
    own, lists = _own_file(context), _lists(context)
    inputs = {}
    if "point_topics" in lists or "depth_topics" in lists:
        pass
    elif depth:
        info = _given(context, "camera_info") or f"{depth.rpartition('/')[0]}/camera_info"
        inputs = {"~/depth": depth, "~/camera_info": info, "~/color": _given(context, "color")}
    else:
        inputs["~/points"] = _value(context, "points") or ("" if own else "/points")
    image = "" if "image_topics" in lists else image or ("" if own else "/image")
    inputs["~/image/compressed" if image.endswith("/compressed") else "~/image"] = image
    return {name: topic for name, topic in inputs.items() if topic and topic != "none"}


def _own_file(context: LaunchContext) -> bool:
    """Whether the user has given a params_file."""
    given = Path(LaunchConfiguration("params_file").perform(context)).expanduser()
    return given.resolve() != Path(__file__).resolve().parent.parent / "config" / "coseg.yaml"


def _packs(context: LaunchContext) -> list[str]:
    """~ is the user's home."""
    packs = [os.path.expanduser(pack) for pack in _listed(_given(context, "packs"))]
    for pack in packs:
        if os.path.isdir(pack):
            raise BadArgument(f"packs: {pack} is a folder, name a pack in it, or several separated by commas")
    return packs


def _parameters(context: LaunchContext) -> dict[str, object]:
    """The parameters that arguments give; what they do not give is left to the file."""
    topics, lists = _inputs(context), _lists(context)
    parameters: dict[str, object] = dict(lists)
    own = _own_file(context)
    if "point_topics" in lists or "depth_topics" in lists:
        parameters["cloud_source"] = "points"  # that of the file may be none
    elif not own or _value(context, "points") or _given(context, "depth"):
        parameters["cloud_source"] = next((source for source in ("depth", "points") if f"~/{source}" in topics), "none")
    if "image_topics" in lists:
        parameters["image_transport"] = "raw"
    elif not own or _value(context, "image"):
        raw, compressed = "~/image" in topics, "~/image/compressed" in topics
        parameters["image_transport"] = "compressed" if compressed else "raw" if raw else "none"
    if _given(context, "autostart"):
        parameters["autostart"] = _true(context, "autostart")
    parameters |= {name: _given(context, name) for name in ("device", "backend", "target_frame") if _given(context, name)}
    if labels := _given(context, "map"):
        parameters |= {"map.enabled": True, "map.file": labels}
    if _true(context, "build_only"):
        parameters["build_only"] = True
    if _given(context, "use_sim_time") or _true(context, "clock"):
        parameters["use_sim_time"] = _true(context, "use_sim_time") or (_true(context, "clock") and not _given(context, "use_sim_time"))
    if packs := _packs(context):
        parameters["packs"] = packs
    return parameters


def _coseg_node(context: LaunchContext) -> list[Node]:
    """Which inputs there are follows from the topics that are given."""
    file = os.path.expanduser(LaunchConfiguration("params_file").perform(context))
    if not os.path.isfile(file):
        raise BadArgument(f"params_file: {file} does not exist")
    return [
        Node(
            package="geoseg_ros",
            executable="coseg_node",
            name="coseg_node",
            namespace=_given(context, "namespace"),
            parameters=[file, _parameters(context)],
            remappings=list(_inputs(context).items()),
            arguments=["--ros-args", "--log-level", _given(context, "log_level") or "info"],
            respawn=_true(context, "respawn"),
            respawn_delay=2.0,
            output="screen",
        )
    ]


def _player(context: LaunchContext) -> list[ExecuteProcess]:
    """Plays what the node subscribes to, and waits until it does."""
    bag = os.path.expanduser(_given(context, "bag"))
    if not bag or _true(context, "build_only"):
        return []
    if not os.path.exists(bag):
        raise BadArgument(f"bag: {bag} does not exist")
    geoseg = PathJoinSubstitution([FindPackagePrefix("geoseg_ros"), "lib", "geoseg_ros", "geoseg"])
    lists = _lists(context)
    if "depth_topics" in lists:
        lists.setdefault("camera_info_topics", [f"{depth.rpartition('/')[0]}/camera_info" for depth in lists["depth_topics"]])
    topics = [*_inputs(context).values(), *(topic for listed in lists.values() for topic in listed if topic != "none")]
    topics += ["/tf", "/tf_static"] if _given(context, "target_frame") else []
    options = [f"--{name}" for name in ("loop", "clock") if _true(context, name)]
    command = [geoseg, "play", bag, "--wait", "1", "--rate", _given(context, "rate") or "1.0", *options]
    return [ExecuteProcess(cmd=[*command, *(["--topics", *topics] if topics else [])], output="screen")]


def _rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, where it is installed; the node runs without it."""
    if not _true(context, "rviz"):
        return []
    try:
        FindPackagePrefix("rviz2").perform(context)
    except Exception as error:  # launch wraps what ament raises, each distribution in its own way
        return [LogInfo(msg=f"coseg.launch.py: RViz is not started, package rviz2 is not installed ({type(error).__name__})")]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=_given(context, "namespace"),  # the topics in coseg.rviz are relative to it
            arguments=["-d", _config("coseg.rviz"), "-f", LaunchConfiguration("fixed_frame")],
        )
    ]
