"""Cost of the node without its pipeline, in one process and by function."""

from __future__ import annotations

import cProfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField

from geoseg_ros.errors import GeosegError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance, Presence
from geoseg_ros.ros.coseg_node import CosegNode
from geoseg_ros.ros.inputs import Arrival
from geoseg_ros.ros.qos import output_qos
from geoseg_ros.runtime.pipeline import PipelineConfig

_OBJECTS = 8  # in every cloud
_WARM_UP = 5  # items of each kind that are not counted
_LEAST_SHARE = 0.02  # of an item; what takes less is left out
_NAMES = ("one", "two")
_OUTPUTS = {"points_labeled", "points_obstacles", "objects", "markers", "detections", "mask", "overlay"}


@dataclass(frozen=True)
class Row:
    """A function under the one that calls it. Attributes: depth in the tree; name; p50, p95: milliseconds per item."""

    depth: int
    name: str
    p50: float
    p95: float


class _FixedResults:
    """A pipeline with prepared results."""

    backbone_name, backend, pack_versions = "none", "none", ["0"] * len(_NAMES)

    def __init__(self, xyz: np.ndarray, shape: tuple[int, int]) -> None:
        self.labels, self.config = LabelSpace(_NAMES), PipelineConfig()
        rng = np.random.default_rng(1)
        instance = np.where(rng.random(len(xyz)) < 0.1, rng.integers(1, _OBJECTS + 1, len(xyz)), 0).astype(np.uint32)
        label = np.where(instance > 0, 1 + instance % len(_NAMES), 0).astype(np.uint32)
        objects = [
            ObjectInstance(int(1 + i % len(_NAMES)), _NAMES[i % len(_NAMES)], i, 0.99, 0.01, rng.random(3) * 5, np.eye(3), np.ones(3), 1)
            for i in range(1, _OBJECTS + 1)
        ]
        presence = [Presence(i, name, 1.0, 0.01, True, 0.05) for i, name in enumerate(_NAMES, 1)]
        self._cloud = CloudResult(label, instance, (label > 0).astype(np.float32), objects, presence)
        mask = np.zeros(shape, np.uint8)
        mask[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 1
        self._image = ImageResult(mask, presence)

    def process_cloud(self, cloud: Cloud) -> CloudResult:
        return self._cloud

    def process_image(self, image: np.ndarray) -> ImageResult:
        return self._image


def measure_own_work(points: int, shape: tuple[int, int], repeat: int) -> dict[str, list[Row]]:
    """Measure a live node with a pipeline of prepared results and a subscriber to every output.

    The time of an item begins with its bytes (CDR, as in the middleware) and ends when its results are handed to the middleware. Clouds are
    x, y, z, rgb of float32, images bgr8 [height, width].

    Returns:
        "both", "cloud", "image": the whole (depth 0); of "both" also the processor time, which other programs do not change much; of
        the others the functions below, those that cost most first. These come from runs under a profiler, which makes many small calls
        look dearer than they are; since Python 3.12 it also loses calls.

    Raises:
        GeosegError: the node does not come up.
    """
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-5, 5, (points, 3)).astype(np.float32)
    pipeline = _FixedResults(xyz, shape)
    inputs = {"cloud": (PointCloud2, _cloud(xyz)), "image": (Image, _image(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)))}
    context = Context()
    rclpy.init(context=context)
    quiet = [Parameter("status_period", value=60.0), Parameter("input_timeout", value=3600.0)]
    node = CosegNode(lambda _: pipeline, context=context, parameter_overrides=quiet)
    listener = Node("bench_listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        _listen(node, listener, executor)
        items = {name: _item(node, name, kind, serialize_message(message)) for name, (kind, message) in inputs.items()}
        whole: dict[str, list[tuple[float, float]]] = {name: [] for name in items}
        trees: dict[str, list[_Tree]] = {name: [] for name in items}
        for turn in range(_WARM_UP + repeat):
            for name, item in items.items():
                begin = time.perf_counter(), time.thread_time()
                item()
                seconds = time.perf_counter() - begin[0], time.thread_time() - begin[1]
                tree = _Tree(item)
                if turn >= _WARM_UP:
                    whole[name].append(seconds)
                    trees[name].append(tree)
        return _rows(whole, trees)
    finally:
        node.stop()
        executor.shutdown()
        node.destroy_node()
        listener.destroy_node()
        rclpy.try_shutdown(context=context)


def as_json(rows: dict[str, list[Row]]) -> dict[str, list[dict[str, Any]]]:
    """The rows as plain lists."""
    return {name: [asdict(row) for row in part] for name, part in rows.items()}


def _item(node: CosegNode, name: str, kind: type, data: bytes) -> Callable[[], None]:
    def item() -> None:
        node.worker.process(name, Arrival(deserialize_message(data, kind), time.monotonic()))

    return item


def _listen(node: CosegNode, listener: Node, executor: SingleThreadedExecutor) -> None:
    """Subscribe to every output of the active node; the messages are delivered but not taken."""
    end = time.monotonic() + 30
    outputs = [publisher for publisher in node.publishers if publisher.topic_name.rsplit("/", 1)[1] in _OUTPUTS]
    for publisher in outputs:
        listener.create_subscription(publisher.msg_type, publisher.topic_name, lambda _: None, output_qos())
    while not node.worker.active or not all(publisher.get_subscription_count() for publisher in outputs):
        if time.monotonic() > end or node.failure is not None:
            raise GeosegError(f"bench: the node did not come up{f': {node.failure}' if node.failure else ''}")
        executor.spin_once(timeout_sec=0.1)


def _cloud(xyz: np.ndarray) -> PointCloud2:
    rows = np.zeros((len(xyz), 4), np.float32)
    rows[:, :3] = xyz
    message = PointCloud2(height=1, width=len(xyz), point_step=16, row_step=16 * len(xyz), is_dense=True)
    names = ("x", "y", "z", "rgb")
    message.fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(names)]
    message.header.frame_id = "lidar"
    codec.set_data(message, rows)
    return message


def _image(pixels: np.ndarray) -> Image:
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="bgr8", step=3 * pixels.shape[1])
    message.header.frame_id = "camera"
    codec.set_data(message, pixels)
    return message


class _Tree:
    """Seconds of one call, by function and caller.

    Attributes:
        total: of the call.
        below: path of names -> seconds.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        profile = cProfile.Profile()
        profile.enable()
        work()
        profile.disable()
        entries = {entry.code: entry for entry in profile.getstats()}
        entries.pop(work.__code__, None)  # since Python 3.12 this one and others above are lost
        called = {call.code for entry in entries.values() for call in entry.calls or ()}
        outermost = [entry for code, entry in entries.items() if code not in called and not str(code).startswith("<method 'disable'")]
        self.total: float = sum(entry.totaltime for entry in outermost)
        self.below: dict[tuple[str, ...], float] = {}
        self._walk(entries, outermost, 1.0, (), ())

    def _walk(self, entries: dict[Any, Any], calls: Sequence[Any], share: float, path: tuple[str, ...], codes: tuple[Any, ...]) -> None:
        for call in calls:
            here, seconds = (*path, _name(call.code)), call.totaltime * share
            self.below[here] = self.below.get(here, 0.0) + seconds
            entry = entries.get(call.code)
            if entry is not None and entry.totaltime > 0 and call.code not in codes and seconds >= 0.5 * _LEAST_SHARE * self.total:
                # what a function spends below it is shared among its callers by their share of it (as gprof does)
                self._walk(entries, entry.calls or (), seconds / entry.totaltime, here, (*codes, call.code))


def _name(code: CodeType | str) -> str:
    if isinstance(code, str):  # "<method 'copy' of 'numpy.ndarray' objects>"
        return code.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    return f"{Path(code.co_filename).stem}.{getattr(code, 'co_qualname', code.co_name)}"


def _rows(whole: dict[str, list[tuple[float, float]]], trees: dict[str, list[_Tree]]) -> dict[str, list[Row]]:
    """``whole``: (wall, processor) seconds of each item, by kind."""
    both = np.sum(list(whole.values()), axis=0)
    found = {"both": [_row(0, "both", both[:, 0]), _row(0, "both, processor time", both[:, 1])]}
    for name, seconds in whole.items():
        head = _row(0, name, [wall for wall, _ in seconds])
        paths = {path for tree in trees[name] for path in tree.below}
        below = {path: _row(len(path), path[-1], [tree.below.get(path, 0.0) for tree in trees[name]]) for path in paths}
        kept = {path: row for path, row in below.items() if row.p50 >= _LEAST_SHARE * head.p50}
        found[name] = [head, *(kept[path] for path in sorted(kept, key=lambda path: _order(path, kept)))]
    return found


def _order(path: tuple[str, ...], rows: dict[tuple[str, ...], Row]) -> list[tuple[float, str]]:
    """Below its caller, the dearest first."""
    return [(-rows[path[: i + 1]].p50 if path[: i + 1] in rows else 0.0, path[i]) for i in range(len(path))]


def _row(depth: int, name: str, seconds: Sequence[float] | np.ndarray) -> Row:
    p50, p95 = (1e3 * float(value) for value in np.percentile(seconds, (50, 95)))
    return Row(depth, name, p50, p95)
