"""PointCloud2 and depth images to clouds, without a node."""

import struct

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from support.ros_cases import (
    XYZ,
    bad_clouds,
    check_refused,
    cloud_message,
    image_message,
    large_cloud_message,
    picture,
    points,
    positions,
)

# ---- clouds in


@pytest.mark.parametrize(
    ("layout", "step", "options"),
    [
        (XYZ, 12, {}),
        (XYZ, 16, {}),
        ([("intensity", "f4", 0), ("x", "f4", 4), ("y", "f4", 8), ("z", "f4", 12)], 16, {}),
        ([("z", "f4", 0), ("ring", "u2", 4), ("y", "f4", 8), ("x", "f4", 16)], 22, {}),
        (XYZ, 13, {}),
        ([("x", "f4", 1), ("y", "f4", 5), ("z", "f4", 9)], 16, {}),
        ([("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)], 24, {}),
        ([("x", "f8", 0), ("y", "f4", 8), ("z", "f8", 12)], 20, {}),
        (XYZ, 16, {"big": True}),
        ([("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)], 32, {"big": True}),
        (XYZ, 16, {"shape": (2, 3)}),
        (XYZ, 16, {"shape": (2, 3), "row_padding": 20}),
        (XYZ, 16, {"shape": (3, 2), "row_padding": 7, "big": True}),
        (XYZ, 16, {"shape": (6, 1)}),
        (XYZ, 16, {"row_step": 0}),
    ],
)
def test_cloud_layouts(layout, step, options):
    columns = points()
    cloud = codec.cloud_from_message(cloud_message(columns, layout, step, **options))
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_array_equal(cloud.xyz, positions(columns))
    assert cloud.shape == options.get("shape")
    assert cloud.rgb is None


# name -> (fields, point_step, rows of the cloud) as the drivers' ROS 2 nodes publish them
LIDARS = {
    "velodyne_pointcloud": ([*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("time", "f4", 18)], 22, 1),
    "velodyne_pointcloud, organised": ([*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("time", "f4", 18)], 22, 2),
    "ouster_ros": (
        [
            *XYZ, ("intensity", "f4", 16), ("t", "u4", 20), ("reflectivity", "u2", 24), ("ring", "u2", 26), ("ambient", "u2", 28),
            ("range", "u4", 32),
        ],
        48,
        3,
    ),
    "livox_ros_driver2": ([*XYZ, ("intensity", "f4", 12), ("tag", "u1", 16), ("line", "u1", 17), ("timestamp", "f8", 18)], 26, 1),
    "hesai_ros_driver": ([*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("timestamp", "f8", 18)], 26, 1),
    "robosense rslidar_sdk": ([*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("timestamp", "f8", 18)], 26, 2),
    "pcl PointXYZI": ([*XYZ, ("intensity", "f4", 16)], 32, 1),
    "realsense2_camera": ([*XYZ, ("rgb", "f4", 16)], 20, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIDARS)
def test_layouts_of_drivers(name):
    layout, step, rows = LIDARS[name]
    columns = points()
    columns["x"][1] = columns["y"][1] = columns["z"][1] = float("nan")  # no return (REP 117)
    others = {field: [7] * 6 for field, _, _ in layout[3:]}
    message = cloud_message({**columns, **others}, layout, step, shape=(rows, 6 // rows) if rows > 1 else None)
    cloud = codec.cloud_from_message(message)
    np.testing.assert_array_equal(cloud.xyz, positions(columns))
    assert cloud.shape == ((rows, 6 // rows) if rows > 1 else None)
    assert (cloud.rgb is not None) == ("rgb" in others)


@pytest.mark.parametrize("step", [12, 16, 32])
def test_cloud_is_a_view_of_the_message(step):
    message = cloud_message(points(), XYZ, step)
    cloud = codec.cloud_from_message(message)
    np.frombuffer(message.data, np.float32)[0] = 42.0
    assert cloud.xyz[0, 0] == 42.0


@pytest.mark.parametrize("name", ["rgb", "rgba"])
@pytest.mark.parametrize("kind", ["f4", "u4"])
@pytest.mark.parametrize("big", [False, True])
def test_packed_colour(name, kind, big):
    packed = [0xFF102030, 0x00FF8001]
    values = packed if kind == "u4" else [struct.unpack("<f", struct.pack("<I", v))[0] for v in (0x00102030, 0x00FF8001)]
    columns = {"x": [1.0, 2.0], "y": [3.0, 4.0], "z": [5.0, 6.0], name: values}
    cloud = codec.cloud_from_message(cloud_message(columns, [*XYZ, (name, kind, 16)], 20, big=big))
    np.testing.assert_array_equal(cloud.rgb, [[0x10, 0x20, 0x30], [0xFF, 0x80, 0x01]])


def test_empty_and_invalid_clouds():
    assert len(codec.cloud_from_message(PointCloud2())) == 0
    assert len(codec.cloud_from_message(cloud_message({"x": [], "y": [], "z": []}))) == 0
    columns = {"x": [float("nan")] * 4, "y": [float("inf")] * 4, "z": [1.0] * 4}
    cloud = codec.cloud_from_message(cloud_message(columns))
    assert len(cloud) == 4 and not cloud.valid().any()


def test_float64_beyond_float32_is_invalid():
    columns = {"x": [1e300, 1.0], "y": [0.0, 0.0], "z": [0.0, 0.0]}
    cloud = codec.cloud_from_message(cloud_message(columns, [("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)], 24))
    assert cloud.valid().tolist() == [False, True]


def test_bytes_and_read_only_buffers():
    message = cloud_message(points())

    class Plain:  # as other readers make them
        height, width, point_step, row_step, is_bigendian = 1, 6, 16, 96, False
        fields, data = message.fields, np.frombuffer(bytes(message.data), np.uint8)

    np.testing.assert_array_equal(codec.cloud_from_message(Plain()).xyz, positions(points()))


@pytest.mark.parametrize("name", bad_clouds())
def test_bad_clouds(name):
    check_refused(codec.cloud_from_message, *bad_clouds()[name], "/lidar")


def test_five_million_points():
    xyz = np.zeros((5_000_000, 3), np.float32)
    xyz[-1] = (1, 2, 3)
    message = large_cloud_message(xyz)
    cloud = codec.cloud_from_message(message)
    assert len(cloud) == 5_000_000 and cloud.xyz[-1].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="5000000 points, expected at most 4999999"):
        codec.cloud_from_message(message, max_points=4_999_999)


# ---- depth


def camera_info(width=4, height=2, fx=2.0, fy=4.0, cx=1.5, cy=0.5, p=True):
    info = CameraInfo(width=width, height=height)
    info.k = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0])
    if p:
        info.p = np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0])
    return info


@pytest.mark.parametrize("p", [True, False])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", ["16UC1", "32FC1"])
def test_depth_is_back_projected(kind, big, p):
    metres = np.array([[1.0, 2.0, 0.0, 4.0], [0.5, 1.5, 2.5, 3.5]], np.float32)
    pixels = (metres * 1000).astype(np.uint16) if kind == "16UC1" else metres
    color = picture(2, 4)
    cloud = codec.cloud_from_depth(image_message(pixels, kind, big=big, padding=6), camera_info(p=p), image_message(color, "rgb8"))
    assert cloud.shape == (2, 4)
    v, u = np.mgrid[0:2, 0:4]
    truth = np.stack([(u - 1.5) / 2.0 * metres, (v - 0.5) / 4.0 * metres, metres], -1).reshape(-1, 3)
    truth[2] = np.nan
    np.testing.assert_allclose(cloud.xyz, truth, rtol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, color.reshape(-1, 3))


@pytest.mark.parametrize(
    ("depth", "info", "color", "line"),
    [
        (np.ones((2, 4), np.uint8), camera_info(), None, "encoding 'mono8', expected one of 16UC1"),
        (np.ones((2, 4), np.uint16), camera_info(width=8), None, "4 x 2, expected the 8 x 2"),
        (np.ones((2, 4), np.uint16), camera_info(fx=0.0), None, "positive focal lengths"),
        (np.ones((2, 4), np.uint16), camera_info(fx=float("nan")), None, "positive focal lengths"),
        (np.ones((2, 4), np.uint16), CameraInfo(width=4, height=2), None, "positive focal lengths"),
        (np.ones((2, 4), np.uint16), camera_info(), picture(4, 4), "colour image is 4 x 4, expected 4 x 2"),
        (np.ones((0, 4), np.uint16), camera_info(), None, "4 x 0 pixels"),
    ],
)
def test_bad_depth(depth, info, color, line):
    message = image_message(depth, "mono8" if depth.dtype == np.uint8 else "16UC1") if len(depth) else Image(encoding="16UC1", width=4)
    with pytest.raises(InputError, match=line):
        codec.cloud_from_depth(message, info, None if color is None else image_message(color, "rgb8"))


# ---- what drivers do


@pytest.mark.parametrize("row_step", [0, 3, 96, 40])
def test_rows_without_padding_whatever_row_step_says(row_step):
    read = codec.cloud_from_message(cloud_message(points(), shape=(2, 3), row_step=row_step))
    np.testing.assert_array_equal(read.xyz, codec.cloud_from_message(cloud_message(points(), shape=(2, 3))).xyz)


COLOURS = np.array([[255, 0, 10], [0, 128, 20], [7, 8, 9], [1, 2, 3], [4, 5, 6], [90, 91, 92]])


def coloured_message(fields, columns):
    """A cloud with further fields (name, kind, count) and their columns."""
    offset, layout = 12, list(XYZ)
    for name, kind, count in fields:
        layout.append((name, kind, offset))
        offset += count * int(kind[1])
    message = cloud_message(points(), layout, offset)
    rows = np.frombuffer(message.data, np.uint8).reshape(6, offset)
    for (name, kind, count), column in zip(fields, columns, strict=True):
        at = next(entry[2] for entry in layout if entry[0] == name)
        values = np.ascontiguousarray(column.reshape(6, count), f"<{kind}")
        rows[:, at : at + values.itemsize * count] = values.view(np.uint8).reshape(6, -1)
        next(field for field in message.fields if field.name == name).count = count
    return message


@pytest.mark.parametrize("names", ["r g b", "red green blue"])
@pytest.mark.parametrize(("kind", "scale"), [("u1", 1), ("f4", 1 / 255), ("f4", 1), ("u2", 257), ("i4", 1), ("f8", 1 / 255)])
def test_colour_in_three_fields(names, kind, scale):
    values = COLOURS * scale
    values[0, 0] = 255 * scale
    message = coloured_message([(name, kind, 1) for name in names.split()], values.T)
    np.testing.assert_allclose(codec.cloud_from_message(message, warn=pytest.fail).rgb, COLOURS, atol=1)


@pytest.mark.parametrize(("name", "count"), [("rgba", 4), ("rgb", 3), ("rgb", 4)])
def test_colour_in_single_bytes_is_blue_first(name, count):
    values = np.c_[COLOURS[:, ::-1], np.full(6, 255)][:, :count]
    np.testing.assert_array_equal(codec.cloud_from_message(coloured_message([(name, "u1", count)], [values])).rgb, COLOURS)


@pytest.mark.parametrize(("kind", "count"), [("u1", 1), ("u1", 2), ("f8", 1), ("f4", 3), ("u2", 4)])
def test_colour_of_unknown_layout_costs_the_colour(kind, count):
    lines = []
    message = coloured_message([("rgb", kind, count)], [np.zeros((6, count)) if count > 1 else np.zeros(6)])
    read = codec.cloud_from_message(message, "/lidar", warn=lines.append)
    assert read.rgb is None and len(read) == 6
    assert len(lines) == 1 and lines[0].startswith("/lidar: field rgb is") and "no colour" in lines[0]
