"""The other end of ``~/learn/*``: what a node sees as pictures, and clicks on them as examples."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from geoseg_ros.display.pictures import Drawing, draw_cloud, input_colours
from geoseg_ros.display.viewpoint import axes_of
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import IMAGE_TYPE, stamp_ns
from geoseg_ros.ros.inputs import Inputs
from geoseg_ros.ros.message_types import InstalledTypes, LearnAdd, LearnStart
from geoseg_ros.runtime.node_parameters import NodeParameters, Sensor
from geoseg_ros.runtime.stream_step import StreamStep
from geoseg_ros.runtime.teaching import Ring

_LOOK = 20.0  # seconds that the node is looked for
_REPLY = 30.0  # seconds that a service may take
_DRAWN = 16  # pictures of clouds that may still be clicked on
_NEAR = 10  # pixels from a click to the nearest drawn point


class Teacher:
    """Follows the inputs of a node, and calls its services. Ends with :meth:`close`.

    Args:
        source: full name of the node.
        seconds: that it is looked for.

    Raises:
        InputError: no name of a node, or it cannot learn.
        GeosegError: there is no such node.
    """

    def __init__(self, source: str, seconds: float = _LOOK) -> None:
        if LearnAdd is None:
            raise InputError("geoseg_ros was installed without its messages, or with older ones: expected LearnAdd")
        self._context, self._name = Context(), source.strip("/")
        self._said: dict[str, tuple[str, dict[str, str]]] = {}  # part of the node -> message and values of its diagnostics
        self._parameters = NodeParameters()  # the defaults: limits of what is read
        self._ring, self._drawn = Ring(most=8), OrderedDict[int, tuple[Drawing, Any]]()  # drawing, and pose of its points
        self._closed = threading.Event()
        self._spinner: threading.Thread | None = None
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            self._executor = SingleThreadedExecutor(context=self._context)
            self._node = Node("geoseg_teach", context=self._context, start_parameter_services=False, enable_rosout=False)
            self._executor.add_node(self._node)
            self._node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 10)
            try:
                services = {"start": LearnStart, "add": LearnAdd, "finish": Trigger, "cancel": Trigger}
                self._clients: dict[str, Any] = {
                    key: self._node.create_client(kind, f"/{self._name}/learn/{key}") for key, kind in services.items()
                }
            except NameValidationException:
                raise InputError(f"--node: {source!r} is no name of a node, expected one like /coseg_node") from None
            self._look(seconds)
            self._inputs = self._follow_inputs()
        except BaseException:
            self.close()
            raise
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()

    def close(self) -> None:
        """Leave ROS; what is being learnt goes on."""
        self._closed.set()
        if self._spinner is not None:
            self._spinner.join(5.0)
        rclpy.try_shutdown(context=self._context)

    def state(self) -> dict[str, Any]:
        """What the node says of its learning, and the inputs that have come: JSON can hold it."""
        message, values = self._said.get("learn", ("idle", {"state": "idle"}))
        streams = self._ring.streams()
        images = [name for name in streams if self._inputs.streams[name].kind == "image"]
        return {"message": message, "streams": streams, "images": images, "node": f"/{self._name}", **values}

    def picture(self, stream: str) -> tuple[NDArray[np.uint8], int]:
        """The newest input to be clicked on, uint8 RGB [H, W, 3], and its stamp. Raises InputError where there is none that can be read."""
        message, source = self._ring.find(stream), self._inputs.streams[stream]
        scene, stamp = self._step.decode(message, source, self._parameters), stamp_ns(message.header)
        if not isinstance(scene, Cloud):
            return scene, stamp
        colours = input_colours(scene)
        if scene.shape is not None and axes_of(scene).optical:
            return np.ascontiguousarray(colours.reshape(*scene.shape, 3)), stamp
        drawing = draw_cloud(scene, colours)
        self._drawn[stamp] = drawing, scene.pose()
        while len(self._drawn) > _DRAWN:
            self._drawn.popitem(last=False)
        return drawing.image, stamp

    def start(self, name: str) -> tuple[bool, str]:
        """``~/learn/start``: whether it was done, and the node's response."""
        response = self._ask("start", LearnStart.Request(name=name))
        return response.success, response.message

    def add(self, stream: str, stamp: int, positive: bool, click: list[float], box: list[float]) -> tuple[bool, str, list[float]]:
        """``~/learn/add`` of a picture that was given before; pixels of that picture. Also returns the box around what was taken."""
        if stream in self._inputs.streams and self._inputs.streams[stream].kind == "cloud" and stamp in self._drawn:
            if box:
                raise InputError("box: expected a click, this cloud is drawn from elsewhere")
            click = _point_behind(*self._drawn[stamp], click) if click else []
        request = LearnAdd.Request(input=stream, positive=positive, click=click, box=box)
        request.stamp.sec, request.stamp.nanosec = divmod(stamp, 10**9)
        response = self._ask("add", request)
        return response.success, response.message, list(response.taken)

    def trigger(self, what: str) -> tuple[bool, str]:
        """``~/learn/finish`` or ``~/learn/cancel``."""
        response = self._ask(what, Trigger.Request())
        return response.success, response.message

    # ----

    def _ask(self, what: str, request: Any) -> Any:
        done = threading.Event()
        future = self._clients[what].call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(_REPLY):
            raise GeosegError(f"/{self._name} has not replied for {_REPLY:.0f} s")
        return future.result()

    def _hear(self, array: DiagnosticArray) -> None:
        for status in array.status:
            node, _, part = status.name.partition(": ")
            if node == self._name:
                self._said[part] = status.message, {value.key: value.value for value in status.values}

    def _look(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while "pipeline" not in self._said or not self._clients["add"].service_is_ready():
            if time.monotonic() > end:
                raise GeosegError(f"no node /{self._name} that can learn within {seconds:g} s (--node)")
            self._executor.spin_once(timeout_sec=0.1)

    def _follow_inputs(self) -> Inputs:
        """The same inputs as the node has, by what it says of them."""
        said = {part: values for part, (_, values) in self._said.items() if "topic" in values}

        def companion(part: str, what: str) -> str:
            return (said.get(f"{part}/{what}") or said.get(what) or {"topic": ""})["topic"]

        sensors = []
        for part, values in said.items():
            if "kind" in values:
                depth = values["kind"] == "cloud" and values["type"] == IMAGE_TYPE
                joined = (companion(part, "camera_info"), companion(part, "color")) if depth else ()
                sensors.append(Sensor(part, values["kind"], values["type"], values["topic"], *joined))
        quiet: dict[str, Any] = {"context": self._context, "start_parameter_services": False, "enable_rosout": False}
        node = Node("geoseg_teach_inputs", **quiet)
        self._executor.add_node(node)
        self._step = StreamStep(InstalledTypes(), self._parameters.tracking)
        inputs = Inputs(node, sensors)
        inputs.remember = self._ring.add
        inputs.open()
        return inputs

    def _spin(self) -> None:
        while not self._closed.is_set():
            self._executor.spin_once(timeout_sec=0.1)


def _point_behind(drawing: Drawing, pose: NDArray[np.float64] | None, click: list[float]) -> list[float]:
    """x, y, z of the nearest drawn point near a pixel, in the frame of the message that was drawn."""
    height, width = drawing.depth.shape
    x, y = (int(np.clip(value, -1, 1e6)) for value in click)
    top, left = max(0, y - _NEAR), max(0, x - _NEAR)
    rows, columns = np.nonzero(np.isfinite(drawing.depth[top : max(0, y + _NEAR + 1), left : max(0, x + _NEAR + 1)]))
    if drawing.camera is None or not rows.size or not (0 <= x < width and 0 <= y < height):
        raise InputError("click: there is no point of the cloud")
    nearest = ((rows + top - y) ** 2 + (columns + left - x) ** 2).argmin()
    row, column = rows[nearest] + top, columns[nearest] + left
    local = np.linalg.inv(drawing.camera.intrinsics) @ np.array([column, row, 1.0]) * drawing.depth[row, column]
    point = local @ drawing.camera.rotation + drawing.camera.position
    return (point if pose is None else pose[:3, :3] @ point + pose[:3, 3]).tolist()
