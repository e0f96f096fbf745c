"""The world for Gazebo: world, bridge and launch file fit one another. Nothing here runs Gazebo."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from support.paths import ROOT

WORLD = ElementTree.parse(ROOT / "config" / "gazebo_world.sdf").getroot().find("world")
BRIDGE = yaml.safe_load((ROOT / "config" / "gazebo_bridge.yaml").read_text())
SENSORS = {sensor.get("name"): sensor for sensor in WORLD.iter("sensor")}
# what Gazebo publishes below the topic of a sensor -> its message, and that of ROS
MADE = {
    "gpu_lidar": {"points": ("gz.msgs.PointCloudPacked", "sensor_msgs/msg/PointCloud2")},
    "rgbd_camera": {
        "image": ("gz.msgs.Image", "sensor_msgs/msg/Image"),
        "depth_image": ("gz.msgs.Image", "sensor_msgs/msg/Image"),
        "camera_info": ("gz.msgs.CameraInfo", "sensor_msgs/msg/CameraInfo"),
    },
}


def test_the_world_has_what_the_demo_looks_for() -> None:
    names = [model.get("name") for model in WORLD.iter("model")]
    assert len(names) == len(set(names)) and {"stool_1", "lamp_1", "table", "robot"} <= set(names)
    for model in WORLD.iter("model"):
        for link in model.iter("link"):
            parts = [part.get("name") for part in link if part.tag in ("visual", "collision", "sensor")]
            assert parts and len(parts) == len(set(parts)), model.get("name")
            for part in link.findall("visual"):
                assert f"{part.get('name').removesuffix('visual')}collision" in parts
    systems = {plugin.get("name").rpartition(":")[2] for plugin in WORLD.iter("plugin")}
    assert systems == {"Physics", "UserCommands", "SceneBroadcaster", "Sensors", "DiffDrive"}
    robot = next(model for model in WORLD.iter("model") if model.get("name") == "robot")
    assert {joint.find("child").text for joint in robot.iter("joint")} <= {link.get("name") for link in robot.iter("link")}


def test_the_bridge_carries_what_the_sensors_make() -> None:
    carried = {row["gz_topic_name"]: (row["gz_type_name"], row["ros_type_name"]) for row in BRIDGE if row["direction"] == "GZ_TO_ROS"}
    made = {
        f"/{sensor.find('topic').text}/{name}": types for sensor in SENSORS.values() for name, types in MADE[sensor.get("type")].items()
    }
    others = {"/clock": ("gz.msgs.Clock", "rosgraph_msgs/msg/Clock"), "/tf": ("gz.msgs.Pose_V", "tf2_msgs/msg/TFMessage")}
    assert carried == made | others
    assert [row["gz_topic_name"] for row in BRIDGE if row["direction"] == "ROS_TO_GZ"] == ["/cmd_vel"]
    assert all(row["ros_topic_name"] == row["gz_topic_name"] for row in BRIDGE)


@pytest.fixture
def launched() -> Any:
    pytest.importorskip("launch", reason="ROS 2 launch is not in this environment")
    pytest.importorskip("launch_ros", reason="ROS 2 launch_ros is not in this environment")
    spec = importlib.util.spec_from_file_location("gazebo_launch", ROOT / "launch" / "gazebo.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("sensor", ["lidar", "depth"])
def test_the_launch_file_starts_the_node_on_these_topics(sensor: str, launched: Any) -> None:
    from launch import LaunchContext
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

    context = LaunchContext()
    for argument in launched.generate_launch_description().get_launch_arguments():
        if argument.name != "world":
            context.launch_configurations[argument.name] = perform_substitutions(context, argument.default_value)
    context.launch_configurations.update({"sensor": sensor, "world": "room.sdf"})
    gazebo, bridge, lidar, camera, node = launched._start(context)
    text = dict(gazebo.launch_arguments)["gz_args"]
    assert perform_substitutions(context, normalize_to_list_of_substitutions(text)) == "-r room.sdf"
    given = {k: perform_substitutions(context, normalize_to_list_of_substitutions(v)) for k, v in node.launch_arguments}
    known = (ROOT / "launch" / "coseg.launch.py").read_text()
    assert all(f'"{name}"' in known for name in given) and given["packs"] == "stool,lamp"
    topics = {given[name] for name in ("points", "depth", "camera_info", "color", "image") if name in given}
    assert topics <= {row["ros_topic_name"] for row in BRIDGE} and ("points" in given) == (sensor == "lidar")
    assert (bridge.node_package, lidar.node_package, camera.node_package) == ("ros_gz_bridge", "tf2_ros", "tf2_ros")


def test_the_frames_of_the_sensors_are_where_they_stand(launched: Any) -> None:
    optical = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # of REP 103
    assert {sensor.find("gz_frame_id").text for sensor in SENSORS.values()} == set(launched.PLACES)
    for name, turn in (("lidar", Rotation.identity()), ("camera", optical)):
        sensor = SENSORS[name]
        place = np.array(launched.PLACES[sensor.find("gz_frame_id").text].split(), float)
        pose = np.array(sensor.find("pose").text.split(), float)
        np.testing.assert_allclose(place[:3], pose[:3])
        wanted = Rotation.from_euler("ZYX", pose[:2:-1]) * turn
        assert (Rotation.from_euler("ZYX", place[3:]).inv() * wanted).magnitude() < 1e-3
