"""What goes wrong around a node: publishers that die, streams of very different rates, stamps that jump. It recovers within a second."""

import time

import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, PointCloud2

from geoseg_ros.ros import transforms as frames
from support import fake_tf
from support.fake_pipeline import FakePipeline
from support.live_node import RELIABLE
from support.ros_cases import cloud_message, image_message, picture, points

pytestmark = pytest.mark.dds

RECOVERY = 1.0  # seconds


def answered_again(node, stamp, output="points_labeled"):
    """Send a good cloud; it must be answered in time."""
    node.received[output].clear()
    node.send("points", cloud_message(points(), stamp=stamp))
    node.wait(lambda: node.received[output], RECOVERY)
    assert node.received[output][0].header.stamp.sec == stamp[0]


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


def test_a_camera_at_200_hz_does_not_keep_a_lidar_at_1_hz_waiting(live):
    node = live(FakePipeline(delay=0.02))  # a fourth of what the camera sends can be worked off
    image, seconds, sent, delays = image_message(picture(), "rgb8"), 4, 0, []
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < seconds:
        clouds = len(delays)
        if now >= clouds and len(node.received["points_labeled"]) == clouds:
            node.send("points", cloud_message(points()))
            asked = time.monotonic()
            delays.append(None)
        if delays[-1] is None and len(node.received["points_labeled"]) == len(delays):
            delays[-1] = time.monotonic() - asked
        if sent <= now * 200:
            node.send("image", image)
            sent += 1
        time.sleep(0.001)
    assert sent > 0.9 * 200 * seconds
    assert len(delays) == seconds and max(delays) < 0.5, "no cloud waits for more than an image or two"
    assert node.counts("image").dropped > 0.3 * sent and node.counts("cloud").dropped == 0
    assert node.counts("image").received > 0.9 * sent, "the callbacks keep up"


def test_64_subscribers_are_served_and_their_end_is_survived(live):
    node = live(listen=("points_labeled",))
    masks = [[] for _ in range(64)]
    subscriptions = [node.client.create_subscription(Image, "/coseg_node/mask", each.append, RELIABLE) for each in masks]
    mask = next(p for p in node.node.publishers if p.topic_name == "/coseg_node/mask")
    node.wait(lambda: mask.get_subscription_count() == 64)
    for i in range(5):
        node.send("image", image_message(picture(), "rgb8", stamp=(i, 0)))
        node.wait(lambda i=i: all(each and each[-1].header.stamp.sec == i for each in masks), RECOVERY)
    assert all([message.header.stamp.sec for message in each] == [0, 1, 2, 3, 4] for each in masks)
    for subscription in subscriptions:
        node.client.destroy_subscription(subscription)
    node.wait(lambda: mask.get_subscription_count() == 0)
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")
    assert node.node.inputs.streams["image"].unheard == 1
    answered_again(node, (9, 0))


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


def test_simulated_time_that_jumps_back_or_stands_still(live):
    """A recording that loops, with /clock."""
    node = live(status_period=0.1, input_timeout=0.5, use_sim_time=True)
    clock = node.client.create_publisher(Clock, "/clock", RELIABLE)
    node.wait(lambda: clock.get_subscription_count() > 0)

    def tell(seconds):
        message = Clock()
        message.clock.sec = seconds
        clock.publish(message)
        node.wait(lambda: node.node.get_clock().now().nanoseconds == seconds * 10**9)

    tell(1000)
    answered_again(node, (1000, 0))
    tell(5)
    answered_again(node, (5, 0))
    node.wait(lambda: any("tracks start anew" in line for line in node.lines))
    said = len(node.diagnostics)
    node.wait(lambda: len(node.diagnostics) >= said + 3)  # though time stands still
    node.wait(lambda: any("no input for" in line for line in node.lines))
    answered_again(node, (5, 100))
    node.wait(lambda: not node.node.inputs.streams["cloud"].silent)


@pytest.fixture(params=["fake", "installed"])
def placed(live, monkeypatch, request):
    """A node with a target frame, and what gives it the transform of a time."""
    if request.param == "fake":
        monkeypatch.setattr(frames, "tf2_ros", fake_tf)
    else:
        pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    node = live(listen=("points_labeled", "points_obstacles"), target_frame="odom")
    buffer = node.node.worker.frames._buffer
    return node, lambda seconds: buffer.set_transform(fake_tf.transform(seconds), "test")


def missing(node, stamp):
    """Send a cloud of a time without transform: labelled points come, obstacles do not."""
    node.received["points_obstacles"].clear()
    unplaced = node.node.inputs.streams["cloud"].unplaced
    answered_again(node, stamp)
    node.wait(lambda: node.node.inputs.streams["cloud"].unplaced == unplaced + 1, RECOVERY)
    assert node.received["points_obstacles"] == []


def test_missing_transforms_and_stamps_in_the_future(placed):
    node, hear = placed
    missing(node, (100, 0))  # nobody sends transforms
    hear(100.0)
    answered_again(node, (100, 0), "points_obstacles")
    missing(node, (160, 0))  # the sensor's clock is a minute ahead
    missing(node, (2_000_000_000, 0))
    missing(node, (-5, 0))
    for seconds in (101.0, 102.0):
        hear(seconds)
    answered_again(node, (102, 0), "points_obstacles")
    assert node.counts("cloud").rejected == 0 and node.counts("cloud").processed == 6
    node.wait(lambda: any("no transform from 'lidar' to 'odom'" in line for line in node.lines))


def test_a_recording_that_loops_gets_its_transforms_back(placed):
    node, hear = placed
    for seconds in range(100, 131):
        hear(float(seconds))
    answered_again(node, (130, 0), "points_obstacles")
    hear(100.0)  # older than what the buffer keeps, so it is refused
    missing(node, (100, 0))  # the node sees here that time went back
    for seconds in (100.1, 100.3):
        hear(seconds)
    answered_again(node, (100, 200_000_000), "points_obstacles")
