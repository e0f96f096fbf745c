"""Good and bad messages, for the codec and for a live node."""

import array
import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField

from geoseg_ros.errors import InputError

XYZ = [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8)]
_DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def byte_array(values) -> array.array:
    data = array.array("B")
    data.frombytes(bytes(values))
    return data


def cloud_message(columns, layout=XYZ, step=16, shape=None, row_padding=0, big=False, frame="lidar", stamp=(7, 8), **changes):
    """Points written with struct, independent of numpy's layouts. ``layout``: (name, numpy kind, offset)."""
    count = len(next(iter(columns.values())))
    height, width = shape or (1, count)
    row = width * step + row_padding
    data = bytearray(b"\xa5" * (row * height))
    formats = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
    for name, kind, offset in layout:
        for i, value in enumerate(columns.get(name, [0] * count)):
            at = (i // width) * row + (i % width) * step + offset
            data[at : at + int(kind[1])] = struct.pack((">" if big else "<") + formats[kind], value)
    message = PointCloud2(height=height, width=width, is_bigendian=big, point_step=step, row_step=row, data=byte_array(data))
    message.fields = [PointField(name=name, offset=offset, datatype=_DATATYPES[kind], count=1) for name, kind, offset in layout]
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def points(count=6) -> dict[str, list[float]]:
    """Every other point is above 1 m."""
    return {"x": [0.25 * i for i in range(count)], "y": [-0.5 * i for i in range(count)], "z": [0.5 + (i % 2) for i in range(count)]}


def large_cloud_message(xyz: np.ndarray, rgb: np.ndarray | None = None, **header) -> PointCloud2:
    """float32 [N, 3] in 16-byte points, packed colour in the last four."""
    rows = np.zeros((len(xyz), 4), np.float32)
    rows[:, :3] = xyz
    if rgb is not None:
        rows.view(np.uint32)[:, 3] = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    layout = [*XYZ, ("rgb", "f4", 12)]
    message = cloud_message({"x": []}, layout, **header)
    message.width, message.row_step, message.data = len(xyz), 16 * len(xyz), byte_array(rows.tobytes())
    return message


def image_message(pixels: np.ndarray, encoding: str, padding=0, big=False, stamp=(7, 8), frame="camera", **changes) -> Image:
    """Pixels [H, W(, C)] of the type that the encoding has."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big), step=rows.shape[1])
    message.data = byte_array(rows.tobytes())
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def picture(height=24, width=32) -> np.ndarray:
    """uint8 RGB: left half pure red, right half a grey ramp."""
    image = np.repeat(np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width, 1), 3, axis=2)
    image[:, : width // 2] = (255, 0, 0)
    return image


def compressed_message(image: np.ndarray, suffix=".jpg", format="jpeg", stamp=(7, 8)) -> CompressedImage:
    data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    message = CompressedImage(format=format, data=byte_array(data))
    message.header.frame_id = "camera"
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    return message


def _renamed(name: str) -> PointCloud2:
    return cloud_message(points(), [("other" if field == name else field, kind, offset) for field, kind, offset in XYZ])


def bad_clouds() -> dict[str, tuple[PointCloud2, str]]:
    """name -> (message, what the error line must say)."""
    good = cloud_message(points())
    count_three = cloud_message(points())
    count_three.fields[0].count = 3
    datatype = cloud_message(points())
    datatype.fields[2].datatype = 99
    return {
        "no x": (_renamed("x"), "no field x,"),
        "no y": (_renamed("y"), "no field y,"),
        "no z": (_renamed("z"), "no field z,"),
        "no fields": (cloud_message(points(), fields=[]), "no field x, y, z"),
        "integer x": (cloud_message({"x": [1, 2]}, [("x", "i4", 0), *XYZ[1:]]), "field x is 1 x i4"),
        "count 3": (count_three, "field x is 3 x f4"),
        "unknown datatype": (datatype, "field z is 1 x datatype 99"),
        "field outside": (cloud_message(points(), point_step=8, row_step=48, data=good.data[:48]), "field z ends at byte 12"),
        "point_step small": (cloud_message(points(), point_step=12), "row_step 96, expected width 6 x point_step 12"),
        "point_step large": (cloud_message(points(), point_step=32), "row_step 96, expected width 6 x point_step 32"),
        "point_step zero": (cloud_message(points(), point_step=0), "row_step 96, expected width 6 x point_step 0"),
        "row_step small": (
            cloud_message(points(), shape=(2, 3), row_step=40, data=good.data[:80]),
            "row_step 40, expected width 3 x point_step 16",
        ),
        "width large": (cloud_message(points(), width=7, row_step=112), "96 bytes of data, expected row_step 112"),
        "height large": (cloud_message(points(), shape=(2, 3), height=3), "96 bytes of data, expected row_step 48 x height 3"),
        "truncated": (cloud_message(points(), data=good.data[:-1]), "95 bytes of data, expected row_step 96"),
        "no data": (cloud_message(points(), data=byte_array(b"")), "0 bytes of data, expected row_step 96"),
        "data without points": (cloud_message(points(), width=0, height=0), "width 0 x height 0 with 96 bytes"),
        "declares 16 G points": (cloud_message(points(), width=2**31, height=8), "points, expected at most"),
    }


def bad_images() -> dict[str, tuple[Image, str]]:
    """name -> (message, what the error line must say)."""
    image = picture()
    good = image_message(image, "rgb8")
    return {
        "unknown encoding": (image_message(image, "plaid8"), "encoding 'plaid8', expected one of rgb8"),
        "no encoding": (image_message(image, ""), "encoding '', expected one of rgb8"),
        "step small": (image_message(image, "rgb8", step=95, data=good.data[: 95 * 24]), "step 95, expected at least 96"),
        "step zero": (image_message(image, "rgb8", step=0, data=good.data[:-1]), "step 0, expected at least 96"),
        "step large": (image_message(image, "rgb8", step=97, data=good.data[:-2]), "2302 bytes of data, expected step 97 x height 24"),
        "truncated": (image_message(image, "rgb8", data=good.data[:-1]), "2303 bytes of data, expected step 96"),
        "no data": (image_message(image, "rgb8", data=byte_array(b"")), "0 bytes of data, expected step 96"),
        "zero width": (image_message(image, "rgb8", width=0, step=0), "0 x 24 pixels"),
        "zero size": (Image(encoding="rgb8"), "0 x 0 pixels"),
        "100 MP": (image_message(image, "mono8", height=10_000, width=10_000, step=10_000), "10000 x 10000 pixels, expected 1 to"),
        "odd yuv": (image_message(image[:, :31, :2], "yuv422"), "31 x 24 is no size for encoding yuv422"),
        "one-pixel bayer": (image_message(image[:1, :1, 0], "bayer_rggb8"), "1 x 1 is no size for encoding bayer_rggb8"),
    }


def bad_compressed() -> dict[str, tuple[CompressedImage, str]]:
    """name -> (message, what the error line must say)."""
    jpeg, png = compressed_message(picture()), compressed_message(picture(), ".png", "png")

    def with_data(message: CompressedImage, data: bytes) -> CompressedImage:
        return CompressedImage(header=message.header, format=message.format, data=byte_array(data))

    huge = bytearray(bytes(png.data))
    huge[16:24] = struct.pack(">II", 10_000, 10_000)
    start_of_frame = bytes(jpeg.data).index(b"\xff\xc0")
    huge_jpeg = bytearray(bytes(jpeg.data))
    huge_jpeg[start_of_frame + 5 : start_of_frame + 9] = struct.pack(">HH", 60_000, 60_000)
    broken = bytearray(bytes(png.data))
    broken[45:60] = b"\0" * 15
    return {
        "garbage": (with_data(jpeg, bytes(range(256)) * 4), "1024 bytes of 'jpeg', expected JPEG or PNG"),
        "nothing": (with_data(jpeg, b""), "0 bytes of 'jpeg', expected JPEG or PNG"),
        "jpeg cut": (with_data(jpeg, bytes(jpeg.data)[:-200]), "truncated JPEG"),
        "png cut": (with_data(png, bytes(png.data)[:-30]), "truncated PNG"),
        "png 100 MP": (with_data(png, bytes(huge)), "10000 x 10000 pixels"),
        "jpeg 3600 MP": (with_data(jpeg, bytes(huge_jpeg)), "60000 x 60000 pixels"),
        "jpeg without frame": (with_data(jpeg, b"\xff\xd8\xff\xda\xff\xd9"), "JPEG of 6 bytes without a frame header"),
        "png damaged": (with_data(png, bytes(broken)), "cannot be decoded"),
    }


def labels_of(message):
    """Labels of the points of a labelled cloud message."""
    offset = next(f.offset for f in message.fields if f.name == "label")
    rows = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
    return rows[:, offset : offset + 4].copy().view(np.uint32)[:, 0].tolist()


def positions(columns):
    """Float32 [n, 3] of the columns x, y, z."""
    return np.array([columns["x"], columns["y"], columns["z"]], np.float32).T


def check_refused(read, message, line, topic):
    """``read`` refuses a message with one line that names the topic and has ``line`` in it."""
    with pytest.raises(InputError) as caught:
        read(message, topic)
    assert str(caught.value).startswith(f"{topic}: ") and line in str(caught.value) and "\n" not in str(caught.value)
