"""A robot with a LiDAR and an RGB-D camera in a simulated room (Gazebo Harmonic); coseg_node looks for stools and lamps in what it sees.

ros2 launch geoseg_ros gazebo.launch.py
ros2 launch geoseg_ros gazebo.launch.py sensor:=depth packs:=mug.pack world:=kitchen.sdf
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

INPUTS = {
    "lidar": {"points": "/lidar/points"},
    "depth": {"depth": "/camera/depth_image", "camera_info": "/camera/camera_info", "color": "/camera/image"},
}
# x y z yaw pitch roll of the sensors in base_link, as in the world file
PLACES = {"lidar": "0 0 0.95 0 0 0", "camera_optical_frame": "0.1 0 0.8 -1.5708 0 -1.7208"}


def _share(*path: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare("geoseg_ros"), *path])


def _pairs(place: str) -> list[str]:
    return [word for pair in zip(("--x", "--y", "--z", "--yaw", "--pitch", "--roll"), place.split(), strict=True) for word in pair]


def generate_launch_description() -> LaunchDescription:
    """Gazebo with its bridge, the frames of the sensors, and the node; the robot listens to /cmd_vel."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("world", default_value=_share("config", "gazebo_world.sdf"), description="world file with such a robot"),
            DeclareLaunchArgument("sensor", default_value="lidar", choices=list(INPUTS), description="where the clouds come from"),
            DeclareLaunchArgument("packs", default_value="stool,lamp", description="concept packs, separated by commas"),
            DeclareLaunchArgument("gz_args", default_value="-r", description="of gz sim; -r -s --headless-rendering: without a window"),
            DeclareLaunchArgument("rviz", default_value="true", description="true: show the results in RViz, where it is installed"),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    world, gz_args = (LaunchConfiguration(name) for name in ("world", "gz_args"))
    gazebo = PathJoinSubstitution([FindPackageShare("ros_gz_sim"), "launch", "gz_sim.launch.py"])
    arguments = {"packs": LaunchConfiguration("packs"), "image": "/camera/image", "use_sim_time": "true", "target_frame": "odom"}
    arguments |= {"rviz": LaunchConfiguration("rviz"), "fixed_frame": "odom", **INPUTS[LaunchConfiguration("sensor").perform(context)]}
    time = {"use_sim_time": True}
    frames = [
        Node(
            package="tf2_ros",
            executable="static_transform_publisher",
            name=f"{frame}_place",
            parameters=[time],
            arguments=[*_pairs(place), "--frame-id", "base_link", "--child-frame-id", frame],
        )
        for frame, place in PLACES.items()
    ]
    bridge = {"config_file": _share("config", "gazebo_bridge.yaml"), **time}
    return [
        IncludeLaunchDescription(gazebo, launch_arguments={"gz_args": [gz_args, " ", world], "on_exit_shutdown": "true"}.items()),
        Node(package="ros_gz_bridge", executable="parameter_bridge", parameters=[bridge], output="screen"),
        *frames,
        IncludeLaunchDescription(_share("launch", "coseg.launch.py"), launch_arguments=arguments.items()),
    ]
