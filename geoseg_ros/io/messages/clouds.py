"""sensor_msgs/PointCloud2, and sensor_msgs/Image of depth, to clouds; labelled clouds to sensor_msgs/PointCloud2."""

from __future__ import annotations

import array
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.fields import CHANNELS, colour_bytes, far_origin, pack_rgb
from geoseg_ros.io.messages.buffers import MAX_PIXELS, MAX_POINTS, MessageTypes, data_view, quoted, set_data
from geoseg_ros.io.messages.images import image_from_message, known_encoding, pixel_plane
from geoseg_ros.results import CloudResult

_BLOCK = 65536  # points at a time: intermediate arrays stay in the cache, which halves the time of a million points

_DEPTH_ENCODINGS: dict[str, tuple[str, float]] = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}  # REP 118
# sensor_msgs/PointField datatype -> numpy
_FIELD_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_UINT32, _FLOAT32 = 6, 7
LABELLED_FIELDS = (
    ("x", _FLOAT32), ("y", _FLOAT32), ("z", _FLOAT32), ("rgb", _FLOAT32),
    ("label", _UINT32), ("instance", _UINT32), ("confidence", _FLOAT32),
)  # fmt: skip


def cloud_from_message(message: Any, topic: str = "points", max_points: int = MAX_POINTS, warn: Callable[[str], None] = warn) -> Cloud:
    """Read a sensor_msgs/PointCloud2.

    ``xyz`` is a view of the message (strided, not writable where the message is not) if x, y, z are consecutive float32 of the
    machine's byte order on 4-byte boundaries; else a copy. Of float64 coordinates far from the origin (UTM) the origin is moved, see
    ``Cloud.origin``. ``rgb`` comes from a field ``rgb`` or ``rgba``, packed or of single bytes, or from fields red green blue or r g b.

    Args:
        message: any field order, padding between fields, points and rows, and byte order. height > 1 means organised. Where the data are
            as many as points without padding between rows, ``row_step`` does not count.
        topic: for errors.
        max_points: larger clouds are refused.
        warn: gets a line where the cloud is used without its colour.

    Raises:
        InputError: missing or mistyped x, y, z; sizes that contradict each other; too many points.
    """
    layout = _layout(message, topic, max_points)
    if layout is None:
        return Cloud(np.zeros((0, 3), np.float32))
    missing = [name for name in "xyz" if name not in layout.fields]
    if missing:
        raise InputError(f"{topic}: no field {', '.join(missing)}, expected x, y, z, found {quoted(', '.join(layout.fields))}")
    columns = [layout.column(name, ("f4", "f8")) for name in "xyz"]
    try:
        rgb = _colour(layout, warn)
    except InputError as error:
        warn(f"{error}; the cloud gets no colour")
        rgb = None
    xyz, origin = _join(columns)
    return Cloud(xyz, rgb, (layout.height, layout.width) if layout.height > 1 else None, origin)


@dataclass(frozen=True)
class _Layout:
    """Where the fields of a PointCloud2 lie."""

    topic: str
    height: int
    width: int
    step: int
    row: int
    order: str
    data: NDArray[np.uint8]
    fields: dict[str, Any]

    def column(self, name: str, types: Collection[str], count: int = 1) -> NDArray:
        """A view [height, width] of one field, or [height, width, count]."""
        field = self.fields[name]
        kind = _FIELD_TYPES.get(field.datatype, f"datatype {field.datatype}")
        if kind not in types or max(field.count, 1) != count:
            raise InputError(f"{self.topic}: field {name} is {field.count} x {kind}, expected {count} x {' or '.join(types)}")
        offset, dtype = int(field.offset), np.dtype(self.order + kind)
        if offset + count * dtype.itemsize > self.step:
            end = offset + count * dtype.itemsize
            raise InputError(f"{self.topic}: field {name} ends at byte {end}, expected within point_step {self.step}")
        shape, strides = (self.height, self.width), (self.row, self.step)
        if count > 1:
            shape, strides = (*shape, count), (*strides, dtype.itemsize)  # type: ignore[assignment]
        return np.ndarray(shape, dtype, self.data, offset, strides)


def _layout(message: Any, topic: str, max_points: int) -> _Layout | None:
    """The checked sizes of a message, or None for a cloud without points."""
    height, width, step, row = int(message.height), int(message.width), int(message.point_step), int(message.row_step)
    count, data = height * width, np.frombuffer(message.data, np.uint8)
    if count > max_points:
        raise InputError(f"{topic}: {count} points, expected at most {max_points} (max_points)")
    if count == 0:
        if len(data):
            raise InputError(f"{topic}: width {width} x height {height} with {len(data)} bytes of data, expected none")
        return None
    if len(data) == count * step:
        row = width * step  # rows without padding; row_step is ignored, because PointCloud2Modifier writes the size of all data
    if row < width * step or (height == 1 and row != width * step):
        raise InputError(f"{topic}: row_step {row}, expected width {width} x point_step {step} = {width * step}")
    if len(data) != row * height:
        raise InputError(f"{topic}: {len(data)} bytes of data, expected row_step {row} x height {height} = {row * height}")
    order = ">" if message.is_bigendian else "<"
    return _Layout(topic, height, width, step, row, order, data, {field.name: field for field in message.fields})


def _colour(layout: _Layout, warn: Callable[[str], None]) -> NDArray[np.uint8] | None:
    """uint8 [count, 3], or None where there is no colour."""
    name = next((name for name in ("rgb", "rgba") if name in layout.fields), None)
    if name is not None:
        field = layout.fields[name]
        if _FIELD_TYPES.get(field.datatype) == "u1" and field.count in (3, 4):  # the bytes of the packed number, one by one
            return np.ascontiguousarray(layout.column(name, ("u1",), field.count)[..., 2::-1]).reshape(-1, 3)
        packed = np.ascontiguousarray(layout.column(name, ("f4", "u4", "i4")).view(layout.order + "u4"), "<u4")  # 0xAARRGGBB
        pixels = packed.view(np.uint8).reshape(layout.height, layout.width, 4)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), np.uint8).reshape(-1, 3)
    names = next((names for names in CHANNELS if all(name in layout.fields for name in names)), None)
    if names is None:
        return None
    channels = np.stack([layout.column(name, tuple(_FIELD_TYPES.values())).reshape(-1) for name in names], axis=1)
    return colour_bytes(channels, f"{layout.topic}: colour", warn)


def _join(columns: list[NDArray]) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Three columns [height, width] to float32 [count, 3], without a copy where they lie side by side; and the origin of the points."""
    x, y, z = columns
    start, count = x.ctypes.data, x.size
    if (
        all(c.dtype == np.float32 and c.dtype.isnative for c in columns)
        and (y.ctypes.data, z.ctypes.data) == (start + 4, start + 8)
        and not any(v % 4 for v in (start, *x.strides))
    ):
        return np.lib.stride_tricks.as_strided(x, (*x.shape, 3), (*x.strides, 4)).reshape(count, 3), None
    origin = None
    if x.dtype.itemsize == 8:  # float32 coordinates far from the origin have lost their precision already
        every = max(1, count // 1000)
        with np.errstate(invalid="ignore"):  # signalling NaN
            sample = np.stack([c.reshape(-1)[::every] for c in columns], axis=1)
        origin = far_origin(sample)
    xyz = np.empty((*x.shape, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes infinite, that is invalid
        for i, values in enumerate(columns):
            xyz[..., i] = values if origin is None else values - origin[i]
    return xyz.reshape(count, 3), origin


def cloud_from_depth(
    depth: Any,
    info: Any,
    color: Any = None,
    topic: str = "depth",
    max_points: int = MAX_POINTS,
    max_pixels: int = MAX_PIXELS,
    warn: Callable[[str], None] = warn,
) -> Cloud:
    """Back-project a rectified depth image: x = (u - cx) z / fx, y = (v - cy) z / fy, in the optical frame (REP 103).

    Args:
        depth: sensor_msgs/Image, 16UC1 (millimetres, 0 = nothing measured) or 32FC1 (metres) (REP 118).
        info: its sensor_msgs/CameraInfo. The pinhole is that of P (the rectified camera), or of K where P is zero.
        color: sensor_msgs/Image registered to the depth image, or None.
        warn: called with a line about a defect of an input that is used in spite of it.

    Returns:
        An organised cloud of the size of the depth image; pixels without depth are NaN.

    Raises:
        InputError: another encoding, sizes that differ, no focal length, too many points.
    """
    kind, scale = _DEPTH_ENCODINGS[known_encoding(depth.encoding, _DEPTH_ENCODINGS, topic)]
    with np.errstate(invalid="ignore"):  # signalling NaN
        z = pixel_plane(depth, kind, 1, topic, min(max_points, max_pixels)).astype(np.float32) * np.float32(scale)
    height, width = z.shape
    if (info.height, info.width) != (height, width):
        raise InputError(f"{topic}: {width} x {height}, expected the {info.width} x {info.height} of its camera_info")
    fx, _, cx, _, _, fy, cy, *_ = info.p
    if fx == 0:
        fx, _, cx, _, fy, cy, *_ = info.k
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise InputError(f"{topic}: camera_info has fx {fx}, fy {fy}, cx {cx}, cy {cy}, expected positive focal lengths")
    if any(info.d):
        warn(f"{topic}: its camera_info has lens distortion (d), and the depth is taken as rectified, as that of .../image_rect is")
    z[~(np.isfinite(z) & (z > 0))] = np.nan
    xyz = np.empty((height, width, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes infinite or NaN, that is invalid
        xyz[..., 0] = z * ((np.arange(width) - cx) / fx).astype(np.float32)
        xyz[..., 1] = z * ((np.arange(height) - cy) / fy).astype(np.float32)[:, None]
    xyz[..., 2] = z
    rgb = None
    if color is not None:
        rgb = image_from_message(color, topic, max_pixels, warn)
        if rgb.shape[:2] != (height, width):
            raise InputError(f"{topic}: colour image is {rgb.shape[1]} x {rgb.shape[0]}, expected {width} x {height} as the depth image")
        rgb = rgb.reshape(-1, 3)
    return Cloud(xyz.reshape(-1, 3), rgb, (height, width))


def fill_labelled(rows: NDArray[np.float32], cloud: Cloud, result: CloudResult, palette: NDArray[np.uint8]) -> bool:
    """Write the points of ``LABELLED_FIELDS`` into float32 ``rows`` [N, 7]; integers go in by their bits.

    Points with a coordinate that is not finite get label 0, instance 0, confidence 0. Returns whether there were none of them.
    """
    colours, pose = pack_rgb(palette), cloud.pose()
    dense = True
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        values, bits = rows[part], rows[part].view(np.uint32)
        points = cloud.xyz[part] if pose is None else cloud.xyz[part] @ pose[:3, :3].T + pose[:3, 3]
        x, y, z = (points[:, i] for i in range(3))
        valid = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
        values[:, 0], values[:, 1], values[:, 2] = x, y, z  # by column: three times as fast as [:, :3]
        bits[:, 3] = colours[result.label[part]]
        bits[:, 4], bits[:, 5], values[:, 6] = result.label[part], result.instance[part], result.confidence[part]
        if not valid.all():
            dense = False
            bits[~valid, 3] = colours[0]
            bits[~valid, 4:] = 0
    return dense


def labelled_cloud_message(
    types: MessageTypes, header: Any, cloud: Cloud, result: CloudResult, palette: NDArray[np.uint8], message: Any = None
) -> Any:
    """Make a sensor_msgs/PointCloud2 with ``LABELLED_FIELDS``: the points of ``cloud`` in their order, ``rgb`` the colour of the label.

    Args:
        types: message classes.
        header: that of the input message.
        cloud: N points.
        result: of the same points.
        palette: uint8 [labels + 1, 3] RGB, row 0 for points without a label.
        message: a message from an earlier call, to be filled again in the same memory.
    """
    message = _cloud_message(types, header, cloud.shape or (1, len(cloud)), LABELLED_FIELDS, message)
    rows = data_view(message, len(cloud) * 4 * len(LABELLED_FIELDS)).view(np.float32).reshape(-1, len(LABELLED_FIELDS))
    message.is_dense = fill_labelled(rows, cloud, result, palette)
    return message


def obstacle_cloud_message(
    types: MessageTypes,
    header: Any,
    cloud: Cloud,
    label: NDArray[np.uint32],
    wanted: Collection[int],
    matrix: NDArray[np.float64] | None = None,
    message: Any = None,
) -> Any:
    """Make a sensor_msgs/PointCloud2 with x, y, z float32 of the valid points whose label is wanted, unorganised, in order.

    Args:
        types: message classes.
        header: its frame is the one that ``matrix`` leads to.
        cloud: N points.
        label: uint32 [N].
        wanted: label ids.
        matrix: float64 [4, 4] from the frame of the cloud to that of the header, None for the same frame.
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
    message = _cloud_message(types, header, (1, len(points)), LABELLED_FIELDS[:3], message)
    set_data(message, points)
    message.is_dense = True
    return message


def _cloud_message(types: MessageTypes, header: Any, shape: tuple[int, int], fields: tuple[tuple[str, int], ...], message: Any) -> Any:
    if message is None:
        field = types["sensor_msgs/msg/PointField"]
        message = types["sensor_msgs/msg/PointCloud2"](
            header=header,
            height=0,
            width=0,
            fields=[field(name=name, offset=4 * i, datatype=kind, count=1) for i, (name, kind) in enumerate(fields)],
            is_bigendian=False,
            point_step=4 * len(fields),
            row_step=0,
            data=array.array("B"),
            is_dense=False,
        )
    message.header = header
    message.height, message.width = shape
    message.row_step = shape[1] * message.point_step
    return message
