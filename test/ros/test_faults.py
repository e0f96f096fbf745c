"""What goes wrong around a node: publishers that die, streams of very different rates, stamps that jump. It recovers within a second."""

import time

import pytest

pytest.importorskip("rclpy")

from fake_pipeline import FakePipeline
from live_node import RELIABLE
from rclpy.serialization import serialize_message
from ros_cases import cloud_message, image_message, picture, points
from sensor_msgs.msg import PointCloud2


def test_a_publisher_that_dies_is_missed_and_welcomed_back(live):
    node = live(input_timeout=0.3, status_period=0.1, image_transport="none")
    node.send_and_wait("points", cloud_message(points()), "cloud")
    node.client.destroy_publisher(node.publisher("points"))
    node.wait(lambda: any("no publisher of sensor_msgs/msg/PointCloud2" in line for line in node.lines))
    assert node.lines[-1].startswith("/coseg_node/points: no input for")
    again = node.client.create_publisher(PointCloud2, "/coseg_node/points", RELIABLE)
    node.wait(lambda: again.get_subscription_count() > 0)
    node.received["points_labeled"].clear()
    begin = time.monotonic()
    again.publish(cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])
    assert time.monotonic() - begin < 1.0
    node.wait(lambda: not node.node.inputs.streams["cloud"].silent)


def test_a_fast_camera_does_not_keep_a_slow_lidar_waiting(live):
    node = live(FakePipeline(delay=0.02))
    image, delays = image_message(picture(), "rgb8"), []
    for _ in range(4):
        before, begin = len(node.received["points_labeled"]), time.monotonic()
        node.send("points", cloud_message(points()))
        while time.monotonic() < begin + 0.4:
            node.send("image", image)
            time.sleep(0.005)
            if len(node.received["points_labeled"]) > before and len(delays) <= before:
                delays.append(time.monotonic() - begin)
    assert len(delays) == 4 and max(delays) < 0.4
    assert node.counts("image").dropped > node.counts("cloud").dropped == 0


def test_bytes_that_are_no_message_do_not_reach_the_node(live):
    node = live()
    cloud, image = serialize_message(cloud_message(points())), serialize_message(image_message(picture(), "rgb8"))
    for data in (b"", b"\0\1\0\0junk", cloud[:30], cloud[: len(cloud) // 2], cloud[:-1]):
        node.publisher("points").publish(data)
    node.publisher("image").publish(image[: len(image) // 2])
    node.send_and_wait("points", cloud_message(points()), "cloud")
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    node.wait(lambda: node.received["points_labeled"] and node.received["mask"])
    assert node.counts("cloud").received == node.counts("image").received == 1


def test_stamps_that_jump_and_repeat_are_answered(live):
    node = live()
    for i, seconds in enumerate((100, 100, 2_000_000_000, 50, 0, 51)):  # the same again, the far future, back, none at all
        node.send("points", cloud_message(points(), stamp=(seconds, 0)))
        node.wait(lambda i=i: len(node.received["points_labeled"]) == i + 1)
        assert node.received["points_labeled"][i].header.stamp.sec == seconds
    assert node.counts("cloud").rejected == 0
    assert all("tracks start anew" in line for line in node.lines)
