"""Our readers and writers of messages beside cv_bridge and sensor_msgs_py, where these are installed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import CameraInfo, PointField
from std_msgs.msg import Header

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult, LabelSpace
from geoseg_ros.ros.message_types import InstalledTypes
from support.ros_cases import XYZ, cloud_message, image_message, picture, points

TYPES = InstalledTypes()
PALETTE = LabelSpace(("one", "two")).palette()


@pytest.fixture
def clouds():
    return pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")


@pytest.fixture
def bridge():
    return pytest.importorskip("cv_bridge", reason="cv_bridge is not installed").CvBridge()


@pytest.fixture
def compiled_bridge(bridge):
    """For encodings by name cv_bridge needs its compiled part."""
    pytest.importorskip("cv_bridge.boost.cv_bridge_boost", reason="the compiled part of cv_bridge is not installed")
    return bridge


# ---- clouds


@pytest.mark.parametrize(
    ("layout", "step", "options"),
    [
        (XYZ, 12, {}),
        (XYZ, 16, {"shape": (2, 3)}),
        ([("ring", "u2", 0), ("z", "f4", 4), ("x", "f4", 8), ("y", "f4", 16)], 22, {}),
        ([("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)], 24, {}),
        (XYZ, 16, {"big": True}),
    ],
)
def test_both_read_the_same_points(clouds, layout, step, options):
    message = cloud_message(points(), layout, step, **options)
    ours = codec.cloud_from_message(message).xyz.copy()  # they swap the bytes of a big endian message in its own memory
    theirs = clouds.read_points(message, field_names=["x", "y", "z"], reshape_organized_cloud=False)
    np.testing.assert_array_equal(ours, np.stack([theirs[name] for name in "xyz"], 1).astype(np.float32))


def test_we_read_what_they_write(clouds):
    rng = np.random.default_rng(0)
    rows = np.zeros(50, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("intensity", "<f4")])
    for name in ("x", "y", "z", "intensity"):
        rows[name] = rng.normal(size=50)
    rows["rgb"] = rng.integers(0, 2**24, 50)
    kinds = {"rgb": PointField.UINT32}
    fields = [PointField(name=n, offset=4 * i, datatype=kinds.get(n, PointField.FLOAT32), count=1) for i, n in enumerate(rows.dtype.names)]
    cloud = codec.cloud_from_message(clouds.create_cloud(Header(frame_id="lidar"), fields, rows))
    np.testing.assert_array_equal(cloud.xyz, np.stack([rows[name] for name in "xyz"], 1))
    np.testing.assert_array_equal(cloud.rgb, np.stack([rows["rgb"] >> shift & 255 for shift in (16, 8, 0)], 1))
    np.testing.assert_array_equal(codec.cloud_from_message(clouds.create_cloud_xyz32(Header(), cloud.xyz.tolist())).xyz, cloud.xyz)


def test_they_read_what_we_write(clouds):
    xyz = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    label = np.array([0, 1, 2, 0, 2, 1], np.uint32)
    cloud, result = Cloud(xyz, None, (2, 3)), CloudResult(label, 10 * label, label.astype(np.float32) / 4, [], [])
    message = codec.labelled_cloud_message(TYPES, Header(frame_id="lidar"), cloud, result, PALETTE)
    theirs = clouds.read_points(message, reshape_organized_cloud=False)
    assert theirs.dtype.names == ("x", "y", "z", "rgb", "label", "instance", "confidence")
    np.testing.assert_array_equal(np.stack([theirs[name] for name in "xyz"], 1), xyz)
    for name, values in (("label", label), ("instance", 10 * label), ("confidence", result.confidence)):
        np.testing.assert_array_equal(theirs[name], values)
    colours = theirs["rgb"].copy().view(np.uint32)
    np.testing.assert_array_equal(np.stack([colours >> shift & 255 for shift in (16, 8, 0)], 1), PALETTE[label])
    message = codec.obstacle_cloud_message(TYPES, Header(frame_id="lidar"), cloud, label, [2])
    np.testing.assert_array_equal(clouds.read_points_numpy(message), xyz[[2, 4]])


# ---- images


def test_we_read_images_that_they_write(bridge):
    image = picture()
    bgr, grey = np.ascontiguousarray(image[..., ::-1]), np.ascontiguousarray(image[..., 1])
    alpha = np.dstack([bgr, np.full(grey.shape, 9, np.uint8)])
    grey_rgb = np.repeat(grey[..., None], 3, axis=2)
    for pixels, encoding, expected in (
        (bgr, "8UC3", image),
        (alpha, "8UC4", image),
        (grey, "8UC1", grey_rgb),
        (grey.astype(np.uint16) * 256 + 77, "16UC1", grey_rgb),
    ):
        message = bridge.cv2_to_imgmsg(pixels)
        assert message.encoding == encoding
        np.testing.assert_array_equal(codec.image_from_message(message), expected)


def test_we_read_depth_that_they_write(bridge):
    info = CameraInfo(width=4, height=2)
    info.k = np.array([2.0, 0, 1.5, 0, 2.0, 0.5, 0, 0, 1.0])
    metres = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 1.5, 2.5, 3.5]], np.float32)
    for pixels, encoding in ((metres, "32FC1"), ((metres * 1000).astype(np.uint16), "16UC1")):
        message = bridge.cv2_to_imgmsg(pixels)
        assert message.encoding == encoding
        np.testing.assert_allclose(codec.cloud_from_depth(message, info).xyz[:, 2], metres.ravel(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_both_read_the_same_compressed_images(bridge, kind):
    message = bridge.cv2_to_compressed_imgmsg(picture()[..., ::-1], kind)
    theirs = cv2.cvtColor(bridge.compressed_imgmsg_to_cv2(message), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(codec.image_from_compressed(message), theirs)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_gbrg8", "yuv422", "yuv422_yuy2"])
def test_both_read_the_same_images(compiled_bridge, encoding):
    rng = np.random.default_rng(2)
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 2 if encoding.startswith("yuv") else 1)
    pixels = rng.integers(0, 256, (24, 32, channels) if channels > 1 else (24, 32)).astype(np.uint8)
    message = image_message(pixels, encoding)
    np.testing.assert_array_equal(codec.image_from_message(message), compiled_bridge.imgmsg_to_cv2(message, "rgb8"))


def test_they_read_images_that_we_write(compiled_bridge):
    image = picture()
    mask = (image[..., 0] > image[..., 1]).astype(np.uint8)
    np.testing.assert_array_equal(compiled_bridge.imgmsg_to_cv2(codec.mask_message(TYPES, Header(), mask)), mask)
    overlay = codec.overlay_message(TYPES, Header(), image, mask, PALETTE)
    np.testing.assert_array_equal(compiled_bridge.imgmsg_to_cv2(overlay, "rgb8"), codec.image_from_message(overlay))
