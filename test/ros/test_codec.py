"""Messages to arrays and back, without a node."""

import array
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult, LabelSpace
from geoseg_ros.ros.message_types import InstalledTypes
from support.ros_cases import (
    XYZ,
    bad_clouds,
    bad_compressed,
    bad_images,
    byte_array,
    cloud_message,
    compressed_message,
    image_message,
    large_cloud_message,
    picture,
    points,
)

TYPES = InstalledTypes()
PALETTE = LabelSpace(("red", "high")).palette()


def expected(columns):
    return np.array([columns["x"], columns["y"], columns["z"]], np.float32).T


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
    np.testing.assert_array_equal(cloud.xyz, expected(columns))
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
    np.testing.assert_array_equal(cloud.xyz, expected(columns))
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

    np.testing.assert_array_equal(codec.cloud_from_message(Plain()).xyz, expected(points()))


@pytest.mark.parametrize("name", bad_clouds())
def test_bad_clouds(name):
    message, line = bad_clouds()[name]
    with pytest.raises(InputError) as caught:
        codec.cloud_from_message(message, "/lidar")
    assert str(caught.value).startswith("/lidar: ") and line in str(caught.value) and "\n" not in str(caught.value)


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
        (np.ones((2, 4), np.uint8), camera_info(), None, "encoding 'mono8', expected 16UC1"),
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


# ---- images in


def test_image_encodings():
    image = picture()
    grey = image[..., 1]
    grey_rgb = np.repeat(grey[..., None], 3, axis=2)
    alpha = np.full((*grey.shape, 1), 9, np.uint8)
    cases = {
        "rgb8": (image, image),
        "bgr8": (image[..., ::-1], image),
        "8UC3": (image[..., ::-1], image),
        "rgba8": (np.concatenate([image, alpha], -1), image),
        "bgra8": (np.concatenate([image[..., ::-1], alpha], -1), image),
        "8UC4": (np.concatenate([image[..., ::-1], alpha], -1), image),
        "mono8": (grey, grey_rgb),
        "8UC1": (grey, grey_rgb),
        "mono16": (grey.astype(np.uint16) * 256 + 77, grey_rgb),
        "16UC1": (grey.astype(np.uint16) * 256 + 77, grey_rgb),
        "rgb16": (image.astype(np.uint16) * 256 + 77, image),
        "bgr16": (image[..., ::-1].astype(np.uint16) * 256 + 77, image),
    }
    for encoding, (pixels, truth) in cases.items():
        for options in ({}, {"padding": 5}, {"padding": 2, "big": True}):
            read = codec.image_from_message(image_message(pixels, encoding, **options))
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, truth, err_msg=f"{encoding} {options}")


def test_rgb8_is_a_view_of_the_message():
    message = image_message(picture(), "rgb8", padding=4)
    image = codec.image_from_message(message)
    np.frombuffer(message.data, np.uint8)[1] = 17
    assert image[0, 0, 1] == 17


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv(encoding):
    image = np.empty((8, 8, 2), np.uint8)
    luma, chroma = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
    image[..., luma] = 81  # BT.601 red: Y 81, U 90, V 240
    image[:, 0::2, chroma], image[:, 1::2, chroma] = 90, 240
    np.testing.assert_allclose(codec.image_from_message(image_message(image, encoding)).reshape(-1, 3) - [255.0, 0, 0], 0, atol=3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(pattern, bits):
    color = {"r": 200, "g": 100, "b": 30}
    tile = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]], np.uint16)
    mosaic = np.tile(tile, (6, 6)) * (256 if bits == 16 else 1)
    read = codec.image_from_message(image_message(mosaic.astype(f"u{bits // 8}"), f"bayer_{pattern}{bits}"))
    np.testing.assert_array_equal(read[2:-2, 2:-2].reshape(-1, 3), np.tile([200, 100, 30], (64, 1)))


def test_one_pixel_image():
    np.testing.assert_array_equal(codec.image_from_message(image_message(np.full((1, 1, 3), 9, np.uint8), "bgr8")), [[[9, 9, 9]]])


@pytest.mark.parametrize("name", bad_images())
def test_bad_images(name):
    message, line = bad_images()[name]
    with pytest.raises(InputError) as caught:
        codec.image_from_message(message, "/camera")
    assert str(caught.value).startswith("/camera: ") and line in str(caught.value) and "\n" not in str(caught.value)


def test_compressed_images():
    image = picture()
    np.testing.assert_array_equal(codec.image_from_compressed(compressed_message(image, ".png", "png")), image)
    read = codec.image_from_compressed(compressed_message(image, ".jpg", "rgb8; jpeg compressed bgr8"))
    assert read.shape == image.shape and np.abs(read[:, 4:12].astype(int) - [255, 0, 0]).max() < 30
    grey = cv2.imencode(".png", image[..., 1].astype(np.uint16) * 256)[1].tobytes()
    message = compressed_message(image)
    message.data = byte_array(grey)
    np.testing.assert_array_equal(codec.image_from_compressed(message)[..., 2], image[..., 1])


def test_exif_orientation_is_not_applied():
    message = compressed_message(picture(24, 32))
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    data = bytes(message.data)
    message.data = byte_array(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert codec.image_from_compressed(message).shape == (24, 32, 3)


@pytest.mark.parametrize("name", bad_compressed())
def test_bad_compressed(name):
    message, line = bad_compressed()[name]
    with pytest.raises(InputError) as caught:
        codec.image_from_compressed(message, "/camera")
    assert str(caught.value).startswith("/camera: ") and line in str(caught.value) and "\n" not in str(caught.value)


# ---- messages out


def labelled(cloud, label):
    label = np.asarray(label, np.uint32)
    return CloudResult(label, label * 10, label.astype(np.float32) / 4, [], [])


def decode_labelled(message):
    """Read with struct, as the field list says."""
    formats = {6: "I", 7: "f"}
    rows = []
    for i in range(message.width * message.height):
        at = i * message.point_step
        rows.append({f.name: struct.unpack_from("<" + formats[f.datatype], message.data, at + f.offset)[0] for f in message.fields})
    return rows


def test_labelled_cloud():
    header = Header(frame_id="lidar")
    header.stamp.sec, header.stamp.nanosec = 11, 12
    xyz = expected(points())
    xyz[2, 1] = np.nan
    cloud = Cloud(xyz, None, (2, 3))
    message = codec.labelled_cloud_message(TYPES, header, cloud, labelled(cloud, [0, 1, 2, 0, 2, 1]), PALETTE)
    assert isinstance(message, PointCloud2) and isinstance(message.data, array.array)
    assert message.header == header
    assert (message.height, message.width, message.point_step, message.row_step, message.is_dense) == (2, 3, 28, 84, False)
    assert len(message.data) == 6 * 28
    rows = decode_labelled(message)
    assert [f.name for f in message.fields] == ["x", "y", "z", "rgb", "label", "instance", "confidence"]
    np.testing.assert_array_equal(np.array([[r["x"], r["y"], r["z"]] for r in rows], np.float32), xyz)
    assert [r["label"] for r in rows] == [0, 1, 0, 0, 2, 1]
    assert [r["instance"] for r in rows] == [0, 10, 0, 0, 20, 10]
    assert [r["confidence"] for r in rows] == [0, 0.25, 0, 0, 0.5, 0.25]
    colours = codec.cloud_from_message(message).rgb
    np.testing.assert_array_equal(colours, PALETTE[[0, 1, 0, 0, 2, 1]])


def test_buffers_are_reused_and_never_mixed():
    header = Header(frame_id="a")
    first = Cloud(expected(points(6)))
    message = codec.labelled_cloud_message(TYPES, header, first, labelled(first, [2] * 6), PALETTE)
    buffer = message.data
    second = Cloud(expected(points(6)) + 1)
    again = codec.labelled_cloud_message(TYPES, Header(frame_id="b"), second, labelled(second, [1] * 6), PALETTE, message)
    assert again is message and again.data is buffer and again.header.frame_id == "b"
    assert {r["label"] for r in decode_labelled(again)} == {1}
    third = Cloud(expected(points(4)))
    last = codec.labelled_cloud_message(TYPES, header, third, labelled(third, [0] * 4), PALETTE, message)
    assert last.width == 4 and len(last.data) == 4 * 28 and last.is_dense
    np.testing.assert_array_equal(codec.cloud_from_message(last).xyz, third.xyz)


def test_obstacle_cloud():
    xyz = expected(points())
    xyz[4, 0] = np.inf
    cloud, label = Cloud(xyz, None, (2, 3)), np.array([0, 1, 2, 0, 2, 1], np.uint32)
    for wanted, rows in (([1], [1, 5]), ([2], [2]), ([1, 2], [1, 2, 5]), ([], [])):
        message = codec.obstacle_cloud_message(TYPES, Header(frame_id="lidar"), cloud, label, wanted)
        assert [f.name for f in message.fields] == ["x", "y", "z"] and message.height == 1 and message.is_dense
        np.testing.assert_array_equal(codec.cloud_from_message(message).xyz, xyz[rows])


def test_empty_cloud_out():
    cloud = Cloud(np.zeros((0, 3), np.float32))
    message = codec.labelled_cloud_message(TYPES, Header(), cloud, labelled(cloud, []), PALETTE)
    assert (message.width, message.row_step, len(message.data), message.is_dense) == (0, 0, 0, True)
    assert codec.obstacle_cloud_message(TYPES, Header(), cloud, np.zeros(0, np.uint32), [1]).width == 0


def test_mask_and_overlay():
    image = picture()
    mask = (image[..., 0] > image[..., 1]).astype(np.uint8)
    message = codec.mask_message(TYPES, Header(frame_id="camera"), mask)
    assert (message.encoding, message.height, message.width, message.step) == ("mono8", 24, 32, 32)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(24, 32), mask)
    overlay = codec.overlay_message(TYPES, Header(), image, mask, PALETTE)
    assert (overlay.encoding, overlay.step, len(overlay.data)) == ("rgb8", 96, 24 * 96)
    pixels = codec.image_from_message(overlay)
    np.testing.assert_array_equal(pixels[mask == 0], image[mask == 0])
    assert (pixels[mask == 1] != image[mask == 1]).any()


def test_set_data_takes_any_layout():
    message = Image()
    codec.set_data(message, np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2])
    assert isinstance(message.data, array.array)
    assert np.frombuffer(message.data, np.uint16).tolist() == [0, 2, 4, 6, 8, 10]
    codec.set_data(message, np.zeros((0, 3), np.float32))
    assert len(message.data) == 0


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


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "rgb16", "bgr16"])
def test_cameras_write_fewer_bits_into_16(encoding, bits):
    grey = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (4, 1))
    lines = []
    pixels = np.dstack([grey] * 3) if encoding.endswith("b16") or encoding.endswith("r16") else grey
    read = codec.image_from_message(image_message(pixels, encoding), "/camera", warn=lines.append)
    assert np.abs(read[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1
    assert len(lines) == (bits < 16)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("form", ["bayer_{}8; jpeg compressed ", "bayer_{}8; png compressed", "bayer_{}16; png compressed "])
def test_compressed_bayer(pattern, suffix, form):
    color = {"r": 200, "g": 100, "b": 30}
    tile = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]], np.uint8)
    data = cv2.imencode(suffix, np.tile(tile, (16, 16)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    message = compressed_message(picture())
    message.format, message.data = form.format(pattern), byte_array(data)
    read = codec.image_from_compressed(message)
    assert np.abs(read[4:-4, 4:-4].astype(int) - [200, 100, 30]).max() <= (0 if suffix == ".png" else 12)
    message.data = byte_array(cv2.imencode(suffix, np.full((8, 8, 3), (30, 100, 200), np.uint8))[1].tobytes())
    assert np.abs(codec.image_from_compressed(message)[4, 4].astype(int) - [200, 100, 30]).max() <= 3  # demosaiced by the camera


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_compressed_16_bits(bits):
    grey = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (4, 1))
    message = compressed_message(picture())
    message.format, message.data = "mono16; png compressed ", byte_array(cv2.imencode(".png", grey)[1].tobytes())
    read = codec.image_from_compressed(message, warn=lambda line: None)
    assert np.abs(read[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1


def test_float64_far_from_the_origin_keeps_its_millimetres_and_goes_back():
    far = np.array([691234.123, 5334567.456, 512.789]) + np.c_[np.arange(6) * 0.001, np.zeros(6), np.zeros(6)]
    table = np.zeros(6, [("x", "<f8"), ("y", "<f8"), ("z", "<f8")])
    for axis, name in enumerate("xyz"):
        table[name] = far[:, axis]
    fields = [("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)]
    message = cloud_message(points(), fields, 24, data=byte_array(table.tobytes()))
    cloud = codec.cloud_from_message(message)
    np.testing.assert_allclose(np.diff(cloud.xyz[:, 0]), 0.001, atol=1e-6)
    np.testing.assert_allclose(cloud.original(), far, atol=1e-4)
    out = codec.labelled_cloud_message(TYPES, message.header, cloud, labelled(cloud, [1] * 6), LabelSpace(("a",)).palette())
    np.testing.assert_allclose([[row[axis] for axis in "xyz"] for row in decode_labelled(out)], far, rtol=1e-7)
