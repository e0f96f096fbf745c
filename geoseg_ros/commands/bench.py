"""Measure the cost of message handling: cloud message -> arrays -> labelled cloud message, and image message -> array -> mask message.

Three ways in the same run: ours; structured arrays as in sensor_msgs_py (a copy per field, a new message each time); and one point
or byte at a time. Nothing is sent and no network runs.

Then the node's own work, which is all but the pipeline: a live node takes a cloud of 120k points and a 2 megapixel image from bytes to
published answers, with a listener on every output. Below each function stand those that it calls.

With --pipeline, the pipeline instead: clouds of so many points, pictures, more concepts, with the packs that ship. Needs no ROS.

example:
  geoseg bench
  geoseg bench --pipeline --repeat 20
  geoseg bench --points 100000 --repeat 100 --json
"""

from __future__ import annotations

import argparse
import array
import os
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from geoseg_ros.errors import GeosegError, InputError

_IMAGE_SHAPE = (1080, 1920)
_NODE_POINTS, _NODE_REPEAT = 120_000, 100
_SLOW_SECONDS = 2.0  # a way that takes longer than this is run once
_IN, _OUT = struct.Struct("<ffff"), struct.Struct("<fffIIIf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--points", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N", help="cloud sizes")
    parser.add_argument("--pipeline", action="store_true", help="what the pipeline costs, not the messages")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="runs per way; the median counts (default %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure, print a table, and return the rows.

    Raises:
        InputError: bad options, or (without --pipeline) ROS 2 is not installed.
        GeosegError: the ways do not agree on the result.
    """
    if options.repeat < 1 or any(not 1 <= n <= 5_000_000 for n in options.points):
        raise InputError("bench: expected --repeat of at least 1 and --points of 1 to 5000000")
    if options.pipeline:
        return _pipeline(options)
    try:
        from geoseg_ros.ros.own_work import as_json, measure_own_work
    except ModuleNotFoundError as error:
        raise InputError(f"bench: needs ROS 2 (rclpy), which is not installed here: {error}") from None
    rows = []
    for count in options.points:
        rows += _compare(f"cloud, {count} points", _cloud_ways(count), options.repeat)
    for encoding in ("rgb8", "bgr8"):
        rows += _compare(f"image, {_IMAGE_SHAPE[1]}x{_IMAGE_SHAPE[0]} {encoding}", _image_ways(encoding), options.repeat)
    own = measure_own_work(_NODE_POINTS, _IMAGE_SHAPE, max(options.repeat, _NODE_REPEAT))
    if not options.json:
        print(f"{'what':<28}{'way':<18}{'median ms':>10}{'slower than ours':>18}")
        for way in rows:
            print(f"{way['what']:<28}{way['way']:<18}{way['median_ms']:>10.3f}{way['times_ours']:>17.1f}x")
        print(f"\n{f'own work of the node, load {os.getloadavg()[0]:.1f}':<72}{'p50 ms':>10}{'p95 ms':>10}")
        for row in (row for part in own.values() for row in part):
            print(f"{'  ' * row.depth + row.name:<72.72}{row.p50:>10.3f}{row.p95:>10.3f}")
    return {"rows": rows, "own_work": as_json(own)}


def _pipeline(options: argparse.Namespace) -> dict[str, object]:
    from geoseg_ros.commands.bench_pipeline import measure_pipeline

    found = measure_pipeline(options.points, options.repeat)
    if not options.json:
        head = f"{found['backend']}, load {os.getloadavg()[0]:.1f}"
        print(f"{head:<40}{'p50 ms':>10}{'p95 ms':>10}{'processor ms':>14}")
        for row in found["rows"]:
            print(f"{row['what']:<30}{row['size']:>10}{row['p50']:>10.1f}{row['p95']:>10.1f}{row['processor']:>14.1f}")
        if found["exponent"] is not None:
            print(f"processor time grows with the points to the power of {found['exponent']:.2f}")
    return found


def _compare(what: str, ways: dict[str, Callable[[], Any]], repeat: int) -> list[dict[str, Any]]:
    """Median times of the ways, which must all answer the same bytes."""
    rows: list[dict[str, Any]] = []
    answers = set()
    for way, function in ways.items():
        start = time.perf_counter()
        answers.add(bytes(function().data))  # warms up, too
        first = time.perf_counter() - start
        seconds = []
        for _ in range(1 if first > _SLOW_SECONDS else min(repeat, 5) if first > 0.1 * _SLOW_SECONDS else repeat):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        rows.append({"what": what, "way": way, "median_ms": 1e3 * float(np.median(seconds)), "runs": len(seconds)})
    if len(answers) != 1:
        raise GeosegError(f"bench: {what}: the ways do not answer the same message")
    for row in rows:
        row["times_ours"] = row["median_ms"] / rows[0]["median_ms"]
    return rows


def _cloud_ways(count: int) -> dict[str, Callable[[], Any]]:
    from sensor_msgs.msg import PointCloud2, PointField

    from geoseg_ros.geometry.fields import pack_rgb
    from geoseg_ros.ros import codec
    from geoseg_ros.runtime.labels import LabelSpace
    from geoseg_ros.runtime.results import CloudResult

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

    def ours() -> Any:
        cloud = codec.cloud_from_message(cloud_in)
        kept["message"] = codec.labelled_cloud_message(cloud_in.header, cloud, result, palette, kept.get("message"))
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
        data.frombytes(memoryview(out).cast("B"))
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


def _image_ways(encoding: str) -> dict[str, Callable[[], Any]]:
    from sensor_msgs.msg import Image

    from geoseg_ros.ros import codec

    height, width = _IMAGE_SHAPE
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, _IMAGE_SHAPE).astype(np.uint8)
    image_in = Image(height=height, width=width, encoding=encoding, step=3 * width)
    codec.set_data(image_in, rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    kept: dict[str, Any] = {}

    def ours() -> Any:
        codec.image_from_message(image_in)
        kept["message"] = codec.mask_message(image_in.header, mask, kept.get("message"))
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
