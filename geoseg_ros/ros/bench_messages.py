"""Cost of reading and writing messages, compared with the two usual ways."""

from __future__ import annotations

import array
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField

from geoseg_ros.errors import GeosegError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.fields import pack_rgb
from geoseg_ros.results import CloudResult, LabelSpace
from geoseg_ros.ros.message_types import InstalledTypes

_SLOW_SECONDS = 2.0  # a way that takes longer than this is run once
_IN, _OUT = struct.Struct("<ffff"), struct.Struct("<fffIIIf")


def measure_messages(points: Sequence[int], shape: tuple[int, int], repeat: int) -> list[dict[str, Any]]:
    """Cloud message -> arrays -> labelled cloud message, for clouds of so many ``points``; image message [height, width] -> array -> mask
    message.

    Returns:
        per kind and way ``what``, ``way``, ``median_ms``, ``runs`` and ``times_ours``.

    Raises:
        GeosegError: the ways do not agree on the result.
    """
    rows = []
    for count in points:
        rows += _compare(f"cloud, {count} points", _cloud_ways(count), repeat)
    for encoding in ("rgb8", "bgr8"):
        rows += _compare(f"image, {shape[1]}x{shape[0]} {encoding}", _image_ways(encoding, shape), repeat)
    return rows


def _compare(what: str, ways: dict[str, Callable[[], Any]], repeat: int) -> list[dict[str, Any]]:
    """Median times of the ways, which must all make the same bytes."""
    rows: list[dict[str, Any]] = []
    made = set()
    for way, function in ways.items():
        start = time.perf_counter()
        made.add(bytes(function().data))  # warms up, too
        first = time.perf_counter() - start
        seconds = []
        for _ in range(1 if first > _SLOW_SECONDS else min(repeat, 5) if first > 0.1 * _SLOW_SECONDS else repeat):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        rows.append({"what": what, "way": way, "median_ms": 1e3 * float(np.median(seconds)), "runs": len(seconds)})
    if len(made) != 1:
        raise GeosegError(f"bench: {what}: the ways do not make the same message")
    for row in rows:
        row["times_ours"] = row["median_ms"] / rows[0]["median_ms"]
    return rows


def _cloud_ways(count: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    points = np.zeros(count, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    for name in "xyz":
        points[name] = rng.uniform(-10, 10, count)
    points["rgb"] = rng.integers(0, 2**24, count)
    label = rng.integers(0, 3, count).astype(np.uint32)
    result = CloudResult(label, label, rng.random(count, np.float32), [], [])
    palette = LabelSpace(("a", "b")).palette()
    colours = pack_rgb(palette)

    def fields(layout: list[tuple[str, int, int]]) -> list[Any]:
        return [PointField(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in layout]

    cloud_in = PointCloud2(height=1, width=count, point_step=16, row_step=16 * count)
    cloud_in.fields = fields([("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("rgb", 12, 7)])
    codec.set_data(cloud_in, points.view(np.uint8))
    fields_out = fields([(name, 4 * i, kind) for i, (name, kind) in enumerate(codec.LABELLED_FIELDS)])
    kept: dict[str, Any] = {}
    types = InstalledTypes()

    def ours() -> Any:
        cloud = codec.cloud_from_message(cloud_in)
        kept["message"] = codec.labelled_cloud_message(types, cloud_in.header, cloud, result, palette, kept.get("message"))
        return kept["message"]

    def message_out() -> Any:
        return PointCloud2(header=cloud_in.header, height=1, width=count, point_step=28, row_step=28 * count, fields=fields_out)

    def structured() -> Any:
        read = np.frombuffer(cloud_in.data, points.dtype)
        xyz = np.stack([np.array(read[name]) for name in "xyz"], axis=1)
        packed = np.array(read["rgb"])
        rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
        assert len(rgb) == len(xyz)
        out = np.empty(count, [(name, "<f4" if kind == 7 and name != "rgb" else "<u4") for name, kind in codec.LABELLED_FIELDS])
        for i, name in enumerate("xyz"):
            out[name] = xyz[:, i]
        out["rgb"], out["label"], out["instance"], out["confidence"] = colours[label], label, label, result.confidence
        message = message_out()
        data = array.array("B")
        data.frombytes(out.tobytes())
        message.data = data
        return message

    def naive() -> Any:
        out = bytearray()
        for i in range(count):
            x, y, z, _ = _IN.unpack_from(cloud_in.data, 16 * i)
            out += _OUT.pack(x, y, z, colours[label[i]], label[i], label[i], result.confidence[i])
        message = message_out()
        message.data = list(out)
        return message

    return {"ours": ours, "structured arrays": structured, "point by point": naive}


def _image_ways(encoding: str, shape: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    height, width = shape
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, shape).astype(np.uint8)
    image_in = Image(height=height, width=width, encoding=encoding, step=3 * width)
    codec.set_data(image_in, rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    kept: dict[str, Any] = {}
    types = InstalledTypes()

    def ours() -> Any:
        codec.image_from_message(image_in)
        kept["message"] = codec.mask_message(types, image_in.header, mask, kept.get("message"))
        return kept["message"]

    def message_out() -> Any:
        return Image(header=image_in.header, height=height, width=width, encoding="mono8", step=width)

    def copied() -> Any:
        image = np.frombuffer(bytes(image_in.data), np.uint8).reshape(height, width, 3)
        image = np.ascontiguousarray(image[..., ::-1]) if encoding == "bgr8" else image.copy()
        message = message_out()
        message.data = mask.tobytes()
        return message

    def naive() -> Any:
        values = np.array(list(image_in.data), np.uint8).reshape(height, width, 3)
        if encoding == "bgr8":
            values = values[..., ::-1]
        message = message_out()
        message.data = mask.reshape(-1).tolist()
        return message

    return {"ours": ours, "copies": copied, "byte by byte": naive}
