"""The services of the node: pause, snapshot, where a part is, and learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from geoseg_ros.errors import InputError
from geoseg_ros.files import expanded
from geoseg_ros.io.messages import part_entries
from geoseg_ros.ros.diagnostics import Diagnostics
from geoseg_ros.ros.inputs import Inputs
from geoseg_ros.ros.message_types import InstalledTypes, LearnAdd, LearnStart, Where
from geoseg_ros.ros.publishers import Outputs
from geoseg_ros.ros.worker import Worker, describe


class Control:
    """``~/pause`` (std_srvs/SetBool): forget what comes in. ``~/snapshot`` (std_srvs/Trigger): see ``snapshot``. ``~/where``
    (geoseg_ros/Where): where a point of a reference is on the objects of the newest cloud. ``~/save_map`` (std_srvs/Trigger): write the map
    to the parameter ``map.file``."""

    def __init__(self, node: Node, inputs: Inputs, outputs: Outputs, diagnostics: Diagnostics, worker: Worker) -> None:
        self._node, self._inputs, self._outputs, self._diagnostics, self._worker = node, inputs, outputs, diagnostics, worker
        node.create_service(SetBool, "~/pause", self._pause)
        node.create_service(Trigger, "~/snapshot", self._snapshot)
        node.create_service(Trigger, "~/save_map", self._save_map)
        if Where is not None:
            node.create_service(Where, "~/where", self._where)

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._inputs.pause(request.data)
        self._diagnostics.paused = request.data
        response.success, response.message = True, "paused" if request.data else "running"
        self._node.get_logger().info(response.message)
        return response

    def _save_map(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        path = self._node.get_parameter("map.file").value
        try:
            if not path:
                raise InputError("expected the parameter map.file, the file to write")
            response.success, response.message = True, f"{path}: {self._worker.save_map(path)} voxels"
        except (OSError, InputError) as error:
            response.success, response.message = False, describe(error)
        self._node.get_logger().info(f"save_map: {response.message}")
        return response

    def _where(self, request: Any, response: Any) -> Any:
        point = np.array([request.point.x, request.point.y, request.point.z])
        try:
            header, parts = self._worker.where(request.object, request.part, point, request.track_id)
        except InputError as error:
            response.success, response.message = False, describe(error)
            return response
        response.header, response.parts = header, part_entries(InstalledTypes(), parts)
        given = [part for part in parts if part.point is not None]
        response.success = bool(given)
        missing = "" if given or not parts else f": {parts[0].reason}"
        response.message = f"{len(given)} of {len(parts)} objects{missing}"
        return response

    def _snapshot(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        from geoseg_ros.ros.snapshot import default_folder, write_snapshot  # writes recordings, which nothing else here does

        values = {name: parameter.value for name, parameter in self._node.get_parameters_by_prefix("").items()}
        parameters = {name: list(value) if not isinstance(value, (bool, int, float, str)) else value for name, value in values.items()}
        folder = Path(expanded(values["snapshot_dir"])) if values["snapshot_dir"] else default_folder()
        name = self._node.get_fully_qualified_name().strip("/").replace("/", ".")
        try:
            with self._outputs.lock:  # or the worker would fill the messages again meanwhile
                messages = [(topic, message) for topic, (_, message) in self._inputs.newest.items()]
                messages += list(self._outputs.last.items())
                path = write_snapshot(folder, name, values["snapshot_keep"], messages, parameters, {"diagnostics": self._state()})
        except (OSError, InputError) as error:
            response.success, response.message = False, f"{folder}: {describe(error)}"
            self._node.get_logger().warning(f"snapshot: {response.message}")
        else:
            response.success, response.message = True, str(path)
            self._node.get_logger().info(f"snapshot: {path}")
        return response

    def _state(self) -> dict[str, Any]:
        return {
            status.name: {"message": status.message, **{value.key: value.value for value in status.values}}
            for status in self._diagnostics.report().status
        }


class LearnServices:
    """``~/learn/start``, ``add``, ``finish`` and ``cancel``. What they need is loaded by the first start.

    Args:
        node: a CosegNode.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._learning: Any = None  # a Learning
        if LearnStart is None:
            return
        node.create_service(LearnStart, "~/learn/start", self._service(lambda request: self._begun().start(request.name)))
        node.create_service(LearnAdd, "~/learn/add", self._add)
        node.create_service(Trigger, "~/learn/finish", self._service(lambda request: self._known().finish()))
        node.create_service(Trigger, "~/learn/cancel", self._service(lambda request: self._known().cancel()))

    def opened(self, failure: str) -> None:
        """Packs have been opened, or could not be for this reason; called by the node."""
        if self._learning is not None:
            self._learning.opened(failure)

    def close(self) -> None:
        """Give up what is being learnt, and wait for its child process."""
        if self._learning is not None:
            self._learning.close()

    def _begun(self) -> Any:
        if self._learning is None:
            from geoseg_ros.ros.learning import Learning

            self._learning = Learning(self._node)
        return self._learning

    def _known(self) -> Any:
        if self._learning is None:
            raise InputError("nothing is being learnt: call ~/learn/start first")
        return self._learning

    def _add(self, request: Any, response: Any) -> Any:
        def add(request: Any) -> str:
            message, taken = self._known().add(request)
            response.taken = list(taken)
            return message

        return self._service(add)(request, response)

    def _service(self, work: Callable[[Any], str]) -> Callable[[Any, Any], Any]:
        """A service whose response has a success and a message, and whose errors are one line."""

        def serve(request: Any, response: Any) -> Any:
            try:
                response.message, response.success = work(request), True
                self._node.get_logger().info(f"learn: {response.message}")
            except (InputError, OSError) as error:
                response.message, response.success = f"{error}" if isinstance(error, OSError) else describe(error), False
                self._node.get_logger().warning(f"learn: {response.message}")
            return response

        return serve
