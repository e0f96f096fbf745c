"""coseg.launch.py with three nodes: one that comes up by itself, one in a namespace that waits for its manager and is fed from a recording,
one with several sensors.

The nodes run a quick pipeline: label 1 ``red``, red pixels; label 2 ``high``, points above z = 1.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("launch_testing", reason="ROS 2 launch_testing is not in this environment")
pytest.importorskip("launch_ros", reason="ROS 2 launch_ros is not in this environment")
pytest.importorskip("rclpy", reason="needs ROS 2")

import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
import rclpy  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import Image, PointCloud2  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from geoseg_ros.geometry.cloud import Cloud  # noqa: E402
from geoseg_ros.io.recordings import RecordingWriter  # noqa: E402
from support.ament_prefix import ROOT, make_prefix  # noqa: E402
from support.ros_cases import cloud_message, image_message, picture, points  # noqa: E402

pytestmark = pytest.mark.dds

RELIABLE = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
HIGH = [0, 3, 1, 4, 2]  # points above 1 m in each cloud of the recording


def write_recording(path: Path) -> None:
    with RecordingWriter(path) as writer:
        for i, high in enumerate(HIGH):
            xyz = np.zeros((6, 3), np.float32)
            xyz[:high, 2] = 2.0
            writer.write_cloud("/lidar", 10**18 + i * 3 * 10**8, "lidar", Cloud(xyz))


def coseg(**arguments: str) -> IncludeLaunchDescription:
    file = PythonLaunchDescriptionSource(str(ROOT / "launch" / "coseg.launch.py"))
    return IncludeLaunchDescription(file, launch_arguments=[("params_file", str(ROOT / "config" / "coseg.yaml")), *arguments.items()])


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    folder = Path(tempfile.mkdtemp(prefix="geoseg_launch_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["ROS_HOME"] = str(folder / "ros_home")  # snapshots go there
    make_prefix(folder / "prefix")
    write_recording(folder / "bag")
    parameters = folder / "robot.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    wanted_labels: [high]\n")
    return LaunchDescription(
        [
            coseg(points="/front/points", image="camera/image"),
            coseg(namespace="many", points="/a/points,/b/points", image="[/c/image]"),
            coseg(
                namespace="robot", points="/lidar", image="none", autostart="false", bag=str(folder / "bag"), params_file=str(parameters)
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        rclpy.init()
        cls.client = rclpy.create_node("client")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.destroy_node()
        rclpy.shutdown()

    def wait(self, condition: Any, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "nothing came in time")
            rclpy.spin_once(self.client, timeout_sec=0.05)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(kind, name)
        self.wait(client.service_is_ready)
        future = client.call_async(request)
        self.wait(future.done)
        return future.result()

    def listen(self, kind: Any, topic: str) -> list[Any]:
        messages: list[Any] = []
        self.client.create_subscription(kind, topic, messages.append, RELIABLE)
        return messages

    def test_1_it_comes_up_and_answers_and_survives_bad_input(self, proc_output: Any) -> None:
        clouds, masks = self.listen(PointCloud2, "/coseg_node/points_labeled"), self.listen(Image, "/coseg_node/mask")
        send_cloud = self.client.create_publisher(PointCloud2, "/front/points", RELIABLE)
        send_image = self.client.create_publisher(Image, "/camera/image", RELIABLE)
        self.wait(lambda: send_cloud.get_subscription_count() and send_image.get_subscription_count())
        self.assertEqual(self.call(GetState, "/coseg_node/get_state", GetState.Request()).current_state.label, "active")
        for _ in range(3):
            send_cloud.publish(cloud_message(points(), point_step=7))
            send_image.publish(image_message(picture(), "plaid8"))
        proc_output.assertWaitFor("cloud rejected: /front/points: row_step 96", timeout=20)
        proc_output.assertWaitFor("image rejected: /camera/image: encoding 'plaid8'", timeout=20)

        def answered() -> bool:
            send_cloud.publish(cloud_message(points(), frame="front"))
            send_image.publish(image_message(picture(), "rgb8", frame="camera"))
            rclpy.spin_once(self.client, timeout_sec=0.2)
            return bool(clouds and masks)

        self.wait(answered)
        self.assertEqual((clouds[0].header.frame_id, masks[0].header.frame_id), ("front", "camera"))
        rows = np.frombuffer(clouds[0].data, np.uint32).reshape(-1, 7)
        self.assertEqual(rows[:, 4].tolist(), [0, 2, 0, 2, 0, 2])

    def test_2_services_answer(self) -> None:
        self.assertEqual(self.call(SetBool, "/coseg_node/pause", SetBool.Request(data=True)).message, "paused")
        self.assertTrue(self.call(SetBool, "/coseg_node/pause", SetBool.Request(data=False)).success)
        self.wait(lambda: "/robot/coseg_node/snapshot" in dict(self.client.get_service_names_and_types()))
        answer = self.call(Trigger, "/robot/coseg_node/snapshot", Trigger.Request())
        self.assertTrue(answer.success)
        self.assertEqual(sorted(p.name for p in Path(answer.message).iterdir()), ["messages.mcap", "parameters.yaml", "report.json"])

    def test_3_several_sensors(self) -> None:
        names = ("a_points", "b_points")
        found = [self.listen(PointCloud2, f"/many/coseg_node/{name}/points_labeled") for name in names]
        masks = self.listen(Image, "/many/coseg_node/c_image/mask")
        senders = [self.client.create_publisher(PointCloud2, f"/{name.replace('_', '/')}", RELIABLE) for name in names]
        send_image = self.client.create_publisher(Image, "/c/image", RELIABLE)

        def answered() -> bool:
            for sender, name in zip(senders, names, strict=True):
                sender.publish(cloud_message(points(), frame=name))
            send_image.publish(image_message(picture(), "rgb8", frame="c"))
            rclpy.spin_once(self.client, timeout_sec=0.2)
            return all([*found, masks])

        self.wait(answered)
        self.assertEqual([messages[0].header.frame_id for messages in (*found, masks)], ["a_points", "b_points", "c"])

    def test_4_a_manager_starts_the_node_in_the_namespace_and_the_recording_plays(self) -> None:
        def change(label: str) -> bool:
            request = ChangeState.Request(transition=Transition(label=label))
            return self.call(ChangeState, "/robot/coseg_node/change_state", request).success

        def state() -> str:
            return self.call(GetState, "/robot/coseg_node/get_state", GetState.Request()).current_state.label

        self.assertEqual(state(), "unconfigured")
        obstacles = self.listen(PointCloud2, "/robot/coseg_node/points_obstacles")
        self.wait(lambda: self.client.count_publishers("/robot/coseg_node/points_obstacles"))
        self.assertTrue(change("configure"))
        self.assertEqual(self.client.count_subscribers("/lidar"), 0)
        self.assertTrue(change("activate"))
        self.wait(lambda: bool(obstacles) and obstacles[-1].width == HIGH[-1])
        rest = iter(HIGH)
        widths = [message.width for message in obstacles]
        self.assertTrue(len(widths) > 1 and all(width in rest for width in widths), f"{widths}, expected {HIGH}; a busy node may skip some")
        self.assertTrue(change("deactivate"))
        self.assertEqual(state(), "inactive")
        self.assertTrue(change("cleanup"))
        self.assertEqual(state(), "unconfigured")


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_cleanly(self, proc_info: Any, proc_output: Any) -> None:
        self.assertEqual(len(proc_info.processes()), 4)
        launch_testing.asserts.assertExitCodes(proc_info)
        for process in proc_info.process_names():
            text = "".join(line.text.decode() for line in proc_output[process])
            self.assertNotIn("Traceback", text)
