"""ROS messages to arrays and back.

Reading looks at attributes only, so any object with the fields of the message will do (rclpy, rosbags). Arrays that come out are
views of the message's buffer wherever its layout allows. Writing fills ``array.array``, the one type that every rclpy
generation takes without looking at each byte.
"""

from __future__ import annotations

import array
import json
from collections.abc import Collection
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.data.folders import draw_overlay
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.fields import pack_rgb
from geoseg_ros.runtime.labels import LabelSpace
from geoseg_ros.runtime.results import CloudResult

MAX_POINTS = 5_000_000
MAX_PIXELS = 50_000_000

_BLOCK = 65536  # points at a time: intermediate arrays stay in the cache, which halves the time of a million points

# sensor_msgs/PointField datatype -> numpy
_FIELD_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_UINT32, _FLOAT32 = 6, 7
LABELLED_FIELDS = (
    ("x", _FLOAT32), ("y", _FLOAT32), ("z", _FLOAT32), ("rgb", _FLOAT32),
    ("label", _UINT32), ("instance", _UINT32), ("confidence", _FLOAT32),
)  # fmt: skip

# encoding -> (bytes per channel, channels, conversion to RGB). 8UC3 and 8UC4 are blue first, as OpenCV writes them. OpenCV names a
# Bayer pattern by its second row and column, ROS by the first.
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (1, 3, None),
    "rgba8": (1, 4, cv2.COLOR_RGBA2RGB),
    "rgb16": (2, 3, None),
    "bgr8": (1, 3, cv2.COLOR_BGR2RGB),
    "bgra8": (1, 4, cv2.COLOR_BGRA2RGB),
    "bgr16": (2, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (1, 3, cv2.COLOR_BGR2RGB),
    "8UC4": (1, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (2, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (2, 1, cv2.COLOR_GRAY2RGB),
    "yuv422": (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (1, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (1, 2, cv2.COLOR_YUV2RGB_YUY2),
}
for _pattern, _code in (
    ("rggb", cv2.COLOR_BayerBG2RGB), ("bggr", cv2.COLOR_BayerRG2RGB), ("gbrg", cv2.COLOR_BayerGR2RGB), ("grbg", cv2.COLOR_BayerGB2RGB),
):  # fmt: skip
    _ENCODINGS[f"bayer_{_pattern}8"] = (1, 1, _code)
    _ENCODINGS[f"bayer_{_pattern}16"] = (2, 1, _code)
_DEPTH_ENCODINGS: dict[str, tuple[str, float]] = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}  # REP 118


def _shown(text: Any) -> str:
    """A string of a message as part of an error line: quoted, on one line, and no longer than 80 characters."""
    quoted = repr(str(text))
    return quoted if len(quoted) <= 80 else f"{quoted[:76]}...'"


# ---- clouds in


def cloud_from_message(message: Any, topic: str = "points", max_points: int = MAX_POINTS) -> Cloud:
    """Read a sensor_msgs/PointCloud2.

    ``xyz`` is a view of the message (strided, not writable where the message is not) if x, y, z are consecutive float32 of the
    machine's byte order on 4-byte boundaries; else a copy. float64 is rounded to float32: coordinates in a frame far from
    its origin (UTM) lose their millimetres. ``rgb`` comes from a packed field ``rgb`` or ``rgba``.

    Args:
        message: any field order, padding between fields, points and rows, and byte order. height > 1 means organised.
        topic: for errors.
        max_points: larger clouds are refused.

    Raises:
        InputError: missing or mistyped x, y, z; sizes that contradict each other; too many points.
    """
    height, width, step, row = int(message.height), int(message.width), int(message.point_step), int(message.row_step)
    count, data = height * width, np.frombuffer(message.data, np.uint8)
    if count > max_points:
        raise InputError(f"{topic}: {count} points, expected at most {max_points} (max_points)")
    if count == 0:
        if len(data):
            raise InputError(f"{topic}: width {width} x height {height} with {len(data)} bytes of data, expected none")
        return Cloud(np.zeros((0, 3), np.float32))
    if height == 1 and row == 0:
        row = width * step  # says nothing for a single row, and some drivers leave it unset
    if row < width * step or (height == 1 and row != width * step):
        raise InputError(f"{topic}: row_step {row}, expected width {width} x point_step {step} = {width * step}")
    if len(data) != row * height:
        raise InputError(f"{topic}: {len(data)} bytes of data, expected row_step {row} x height {height} = {row * height}")

    order = ">" if message.is_bigendian else "<"
    fields = {field.name: field for field in message.fields}

    def column(name: str, types: Collection[str]) -> NDArray:
        """A view [height, width] of one field."""
        kind = _FIELD_TYPES.get(fields[name].datatype, f"datatype {fields[name].datatype}")
        if kind not in types or fields[name].count not in (0, 1):
            raise InputError(f"{topic}: field {name} is {fields[name].count} x {kind}, expected 1 x {' or '.join(types)}")
        offset, dtype = int(fields[name].offset), np.dtype(order + kind)
        if offset + dtype.itemsize > step:
            raise InputError(f"{topic}: field {name} ends at byte {offset + dtype.itemsize}, expected within point_step {step}")
        return np.ndarray((height, width), dtype, data, offset, (row, step))

    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise InputError(f"{topic}: no field {', '.join(missing)}, expected x, y, z, found {_shown(', '.join(fields))}")
    columns = [column(name, ("f4", "f8")) for name in "xyz"]
    colour = next((name for name in ("rgb", "rgba") if name in fields), None)
    rgb = None
    if colour is not None:
        packed = np.ascontiguousarray(column(colour, ("f4", "u4", "i4")).view(order + "u4"), "<u4")  # 0xAARRGGBB
        rgb = cv2.cvtColor(packed.view(np.uint8).reshape(height, width, 4), cv2.COLOR_BGRA2RGB).reshape(count, 3)
    return Cloud(_join(columns, count), rgb, (height, width) if height > 1 else None)


def _join(columns: list[NDArray], count: int) -> NDArray[np.float32]:
    """Three columns [height, width] to float32 [count, 3], without a copy where they lie side by side."""
    x, y, z = columns
    start = x.ctypes.data
    if (
        all(c.dtype == np.float32 and c.dtype.isnative for c in columns)
        and (y.ctypes.data, z.ctypes.data) == (start + 4, start + 8)
        and not any(v % 4 for v in (start, *x.strides))
    ):
        return np.lib.stride_tricks.as_strided(x, (*x.shape, 3), (*x.strides, 4)).reshape(count, 3)
    xyz = np.empty((*x.shape, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes infinite, that is invalid
        for i, values in enumerate(columns):
            xyz[..., i] = values
    return xyz.reshape(count, 3)


def cloud_from_depth(
    depth: Any, info: Any, color: Any = None, topic: str = "depth", max_points: int = MAX_POINTS, max_pixels: int = MAX_PIXELS
) -> Cloud:
    """Back-project a rectified depth image: x = (u - cx) z / fx, y = (v - cy) z / fy, in the optical frame (REP 103).

    Args:
        depth: sensor_msgs/Image, 16UC1 (millimetres, 0 = nothing measured) or 32FC1 (metres) (REP 118).
        info: its sensor_msgs/CameraInfo. The pinhole is that of P (the rectified camera), or of K where P is zero.
        color: sensor_msgs/Image registered to the depth image, or None.

    Returns:
        An organised cloud of the size of the depth image; pixels without depth are NaN.

    Raises:
        InputError: another encoding, sizes that differ, no focal length, too many points.
    """
    if depth.encoding not in _DEPTH_ENCODINGS:
        raise InputError(f"{topic}: encoding {_shown(depth.encoding)}, expected {', '.join(_DEPTH_ENCODINGS)}")
    kind, scale = _DEPTH_ENCODINGS[depth.encoding]
    with np.errstate(invalid="ignore"):  # signalling NaN
        z = _plane(depth, kind, 1, topic, min(max_points, max_pixels)).astype(np.float32) * np.float32(scale)
    height, width = z.shape
    if (info.height, info.width) != (height, width):
        raise InputError(f"{topic}: {width} x {height}, expected the {info.width} x {info.height} of its camera_info")
    fx, _, cx, _, _, fy, cy, *_ = info.p
    if fx == 0:
        fx, _, cx, _, fy, cy, *_ = info.k
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise InputError(f"{topic}: camera_info has fx {fx}, fy {fy}, cx {cx}, cy {cy}, expected positive focal lengths")
    z[~(np.isfinite(z) & (z > 0))] = np.nan
    xyz = np.empty((height, width, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes infinite or NaN, that is invalid
        xyz[..., 0] = z * ((np.arange(width) - cx) / fx).astype(np.float32)
        xyz[..., 1] = z * ((np.arange(height) - cy) / fy).astype(np.float32)[:, None]
    xyz[..., 2] = z
    rgb = None
    if color is not None:
        rgb = image_from_message(color, topic, max_pixels)
        if rgb.shape[:2] != (height, width):
            raise InputError(f"{topic}: colour image is {rgb.shape[1]} x {rgb.shape[0]}, expected {width} x {height} as the depth image")
        rgb = rgb.reshape(-1, 3)
    return Cloud(xyz.reshape(-1, 3), rgb, (height, width))


# ---- images in


def image_from_message(message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a sensor_msgs/Image as uint8 RGB [H, W, 3]; a view for rgb8. Of 16-bit values the upper eight bits are kept.

    Raises:
        InputError: unknown encoding; zero or excessive size; sizes that contradict each other.
    """
    if message.encoding not in _ENCODINGS:
        raise InputError(f"{topic}: encoding {_shown(message.encoding)}, expected one of {', '.join(_ENCODINGS)}")
    depth, channels, code = _ENCODINGS[message.encoding]
    plane = _plane(message, f"u{depth}", channels, topic, max_pixels)
    if depth == 2:
        plane = (plane >> 8).astype(np.uint8)
    if code is None:
        return plane
    refusal = InputError(f"{topic}: {message.width} x {message.height} is no size for encoding {message.encoding}")
    if message.encoding.startswith("bayer") and min(plane.shape) < 3:  # OpenCV would answer black
        raise refusal
    try:
        return cv2.cvtColor(plane, code)
    except cv2.error:
        raise refusal from None


def _plane(message: Any, kind: str, channels: int, topic: str, max_pixels: int) -> NDArray:
    """The pixels of a sensor_msgs/Image as a view [height, width] or [height, width, channels]."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if not 0 < height * width <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    if step < width * channels * dtype.itemsize:
        raise InputError(f"{topic}: step {step}, expected at least {width * channels * dtype.itemsize} for {width} x {message.encoding}")
    data = np.frombuffer(message.data, np.uint8)
    if len(data) != step * height:
        raise InputError(f"{topic}: {len(data)} bytes of data, expected step {step} x height {height} = {step * height}")
    if channels == 1:
        return np.ndarray((height, width), dtype, data, 0, (step, dtype.itemsize))
    return np.ndarray((height, width, channels), dtype, data, 0, (step, channels * dtype.itemsize, dtype.itemsize))


def image_from_compressed(message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG or PNG) to uint8 RGB [H, W, 3]. The declared size is checked before anything is decoded.

    Raises:
        InputError: neither JPEG nor PNG; truncated; too large; cannot be decoded.
    """
    data = bytes(message.data)
    width, height = _declared_size(data, topic, _shown(message.format))
    if not 0 < width * height <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    try:
        # a mask must fit the image as it was sent, so an EXIF orientation is not applied
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{topic}: {len(data)} bytes of {_shown(message.format)} cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _declared_size(data: bytes, topic: str, name: str) -> tuple[int, int]:
    """(width, height) from the header of a JPEG (ITU T.81 B.1) or PNG file, which must also have its end."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        at, chunk = 8, b""
        while at + 12 <= len(data) and chunk != b"IEND":  # OpenCV takes as much memory for a chunk, up to 4 GiB, as its length says
            chunk = data[at + 4 : at + 8]
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        if chunk != b"IEND" or at > len(data) or data[12:16] != b"IHDR":
            raise InputError(f"{topic}: truncated PNG of {len(data)} bytes, expected whole chunks from IHDR to IEND")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(b"\xff\xd8"):
        raise InputError(f"{topic}: {len(data)} bytes of {name}, expected JPEG or PNG")
    # OpenCV fills the missing part of a cut file with grey and says nothing. The scan data holds no end marker of its own.
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise InputError(f"{topic}: truncated JPEG of {len(data)} bytes, expected an end marker")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xDA:
            break  # has no length, or starts the scan. libjpeg reads on behind it, and may find another frame there than a jump would
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # 0xFF: fill byte
    raise InputError(f"{topic}: JPEG of {len(data)} bytes without a frame header")


# ---- messages out


def data_view(message: Any, size: int) -> NDArray[np.uint8]:
    """A writable view of ``message.data``, made ``size`` bytes long; its memory is kept. Drop the view before the next call."""
    if not isinstance(message.data, array.array):
        message.data = array.array("B")
    buffer = message.data  # read back, for the setter may have copied it
    if len(buffer) < size:
        buffer.frombytes(bytes(size - len(buffer)))
    else:
        del buffer[size:]
    return np.frombuffer(buffer, np.uint8)


def set_data(message: Any, values: NDArray) -> None:
    """Copy ``values``, any shape and type, into ``message.data``."""
    data_view(message, values.nbytes)[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def fill_labelled(rows: NDArray[np.float32], cloud: Cloud, result: CloudResult, palette: NDArray[np.uint8]) -> bool:
    """Write the points of ``LABELLED_FIELDS`` into float32 ``rows`` [N, 7]; integers go in by their bits.

    Points with a coordinate that is not finite get label 0, instance 0, confidence 0. Returns whether there were none of them.
    """
    colours = pack_rgb(palette)
    dense = True
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        values, bits = rows[part], rows[part].view(np.uint32)
        x, y, z = (cloud.xyz[part, i] for i in range(3))
        valid = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
        values[:, 0], values[:, 1], values[:, 2] = x, y, z  # by column: three times as fast as [:, :3]
        bits[:, 3] = colours[result.label[part]]
        bits[:, 4], bits[:, 5], values[:, 6] = result.label[part], result.instance[part], result.confidence[part]
        if not valid.all():
            dense = False
            bits[~valid, 3] = colours[0]
            bits[~valid, 4:] = 0
    return dense


def labelled_cloud_message(header: Any, cloud: Cloud, result: CloudResult, palette: NDArray[np.uint8], message: Any = None) -> Any:
    """sensor_msgs/PointCloud2 with ``LABELLED_FIELDS``: the points of ``cloud`` in their order, ``rgb`` the colour of the label.

    Args:
        header: that of the input message.
        palette: uint8 [labels + 1, 3], row 0 for points without a label.
        message: a message from an earlier call, to be filled again in the same memory.
    """
    message = _cloud_message(header, cloud.shape or (1, len(cloud)), LABELLED_FIELDS, message)
    rows = data_view(message, len(cloud) * 4 * len(LABELLED_FIELDS)).view(np.float32).reshape(-1, len(LABELLED_FIELDS))
    message.is_dense = fill_labelled(rows, cloud, result, palette)
    return message


def obstacle_cloud_message(
    header: Any,
    cloud: Cloud,
    label: NDArray[np.uint32],
    wanted: Collection[int],
    message: Any = None,
    matrix: NDArray[np.float64] | None = None,
) -> Any:
    """sensor_msgs/PointCloud2 with x, y, z float32 of the valid points whose label is one of ``wanted``, unorganised, in order.

    Args:
        header: its frame is where ``matrix`` [4, 4] takes the points of the cloud.
        message: a message from an earlier call, to be filled again in the same memory.
    """
    chosen = np.zeros(256, bool)  # label ids fit a mono8 mask
    chosen[list(wanted)] = True
    points = cloud.xyz[np.flatnonzero(chosen.take(label))]
    finite = np.isfinite(points)
    if not finite.all():
        points = points[finite.all(axis=1)]
    if matrix is not None:
        points = (points @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    message = _cloud_message(header, (1, len(points)), LABELLED_FIELDS[:3], message)
    set_data(message, points)
    message.is_dense = True
    return message


def _cloud_message(header: Any, shape: tuple[int, int], fields: tuple[tuple[str, int], ...], message: Any) -> Any:
    if message is None:
        from sensor_msgs.msg import PointCloud2, PointField

        message = PointCloud2(is_bigendian=False, point_step=4 * len(fields))
        message.fields = [PointField(name=name, offset=4 * i, datatype=kind, count=1) for i, (name, kind) in enumerate(fields)]
    message.header = header
    message.height, message.width = shape
    message.row_step = shape[1] * message.point_step
    return message


def label_info(labels: LabelSpace) -> str:
    """JSON of ~/label_info: a list of {"id", "name", "color": [r, g, b]}; id 0 is "none"."""
    palette = labels.palette().tolist()
    return json.dumps([{"id": i, "name": name, "color": palette[i]} for i, name in enumerate(("none", *labels.names))])


def mask_message(header: Any, mask: NDArray[np.uint8], message: Any = None) -> Any:
    """sensor_msgs/Image mono8 of label ids, uint8 [H, W]."""
    return _image_message(header, mask, "mono8", message)


def overlay_message(header: Any, image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8], message: Any = None) -> Any:
    """sensor_msgs/Image rgb8: the image, uint8 RGB [H, W, 3], under the half transparent colours of its labels."""
    return _image_message(header, draw_overlay(image, mask, palette), "rgb8", message)


def _image_message(header: Any, pixels: NDArray[np.uint8], encoding: str, message: Any) -> Any:
    if message is None:
        from sensor_msgs.msg import Image

        message = Image(encoding=encoding, is_bigendian=0)
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // len(pixels)
    set_data(message, pixels)
    return message
