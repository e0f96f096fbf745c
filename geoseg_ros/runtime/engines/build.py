"""Exporting a network and building an engine, in a process of its own: it can be cancelled at once, and takes its memory with it.

The child reads its job from standard input, writes files into one folder, and tells its progress on standard output, one JSON object per
line. It ends by itself when its parent dies, because its standard input ends then.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.cache import Cancelled, Progress
from geoseg_ros.runtime.engines.spec import EngineSpec

PLAN = "engine.plan"
_NICE = 5  # the node that waits goes on talking meanwhile
_GONE = 3  # exit code of a child whose parent has died


@dataclass(frozen=True)
class ExportJob:
    """Write the ONNX file of an image backbone.

    Attributes:
        backbone: spec that ``open_backbone`` takes. hash: of the backbone that is meant.
        precision: ``fp32`` or ``fp16``. shapes: pictures that it is for.
    """

    backbone: str
    hash: str
    precision: str
    shapes: Mapping[str, Sequence[int]]

    def run(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Returns ``spec``, as :func:`spec_notes`."""
        from geoseg_ros.backbones.registry import open_backbone
        from geoseg_ros.runtime.engines.export import ImageShapes, export_image

        progress("exporting", 0.0)
        backbone = open_backbone(self.backbone)
        if backbone.hash != self.hash:
            raise InputError(f"backbone '{self.backbone}': changed while it was in use")
        shapes = ImageShapes(**{side: (least, usual, most) for side, (least, usual, most) in self.shapes.items()})
        return {"spec": spec_notes(export_image(backbone, folder, self.precision, shapes))}


@dataclass(frozen=True)
class PlanJob:
    """Build a TensorRT engine into the file ``engine.plan``.

    Attributes:
        spec: the exported network. flavour: ``tensorrt`` or ``tensorrt_rtx``.
        capabilities: CUDA compute capabilities to build for (``tensorrt_rtx``).
    """

    spec: EngineSpec
    flavour: str
    capabilities: tuple[int, ...] = ()

    def run(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Returns ``seconds`` and, where the builder tells it, ``activation_bytes``."""
        from geoseg_ros.runtime.engines.trt import build_plan

        def tell(phase: str, share: float) -> bool:
            progress(phase, share)
            return True

        built = build_plan(self.spec, self.flavour, self.capabilities, tell)
        (folder / PLAN).write_bytes(built.plan)
        return {"seconds": round(built.seconds, 2), "activation_bytes": built.activation_bytes}


Job = ExportJob | PlanJob


def spec_notes(spec: EngineSpec) -> dict[str, Any]:
    """A spec as JSON, its file by name alone, since the folder that it lies in is renamed."""
    return spec.as_json() | {"onnx": spec.onnx.name}


def spec_from_notes(notes: Mapping[str, Any], folder: Path) -> EngineSpec:
    """The spec that :func:`spec_notes` has written; its file lies in ``folder``."""
    return EngineSpec.from_json({**notes, "onnx": folder / notes["onnx"]})


def run_in_child(
    job: Job, folder: Path, progress: Progress | None = None, cancel: threading.Event | None = None, module: str = __name__
) -> dict[str, Any]:
    """Do ``job`` in a child process, which writes into ``folder``.

    Args:
        progress: called with (phase, share) in this thread.
        cancel: when set, the child is killed.
        module: what Python runs as the child.

    Returns:
        what ``job.run`` returns.

    Raises:
        Cancelled: ``cancel`` was set. InputError: something is not installed, or the job is wrong. GeosegError: it failed, in one line.
    """
    child = _Child(module, {"kind": type(job).__name__, "job": _as_json(job), "folder": str(folder)})
    try:
        while True:
            message = child.message(0.1)
            if cancel is not None and cancel.is_set():
                raise Cancelled("engine: cancelled")
            if message is None:
                raise GeosegError(child.death())
            if "error" in message:
                raise (InputError if message["input"] else GeosegError)(message["error"])
            if "result" in message:
                return dict(message["result"])
            if message and progress is not None:
                progress(message["phase"], message["share"])
    finally:
        child.end()


class _Child:
    """The parent's side of a child process."""

    def __init__(self, module: str, order: dict[str, Any]) -> None:
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._last: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,  # Ctrl-C reaches the parent alone
        )  # fmt: skip
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_messages, self._read_errors)]
        for reader in self._readers:
            reader.start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which the reader sees
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # a child that is killed may leave half a line
                message = json.loads(line)
                if isinstance(message, dict):
                    self._messages.put(message)
        self._messages.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._last.extend(line.strip() for line in self._process.stderr if line.strip())

    def message(self, timeout: float) -> dict[str, Any] | None:
        """The next one, {} where none comes in time, None after the last."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return {}

    def death(self) -> str:
        """Why there is no further message."""
        code = self._process.wait()
        self._readers[1].join(1.0)
        if code < 0:
            return f"engine: the building process was killed by signal {-code}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
        return f"engine: the building process ended with code {code}: {self._last[-1] if self._last else 'it said nothing'}"

    def end(self) -> None:
        """Kill it if it still runs, and free what it held."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(1.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _as_json(job: Job) -> dict[str, Any]:
    fields = asdict(job)
    if isinstance(job, PlanJob):
        fields["spec"] = job.spec.as_json() | {"onnx": str(job.spec.onnx.absolute())}
    return fields


def _job(order: Mapping[str, Any]) -> Job:
    fields = order["job"]
    if order["kind"] == ExportJob.__name__:
        return ExportJob(**fields)
    return PlanJob(EngineSpec.from_json(fields["spec"]), fields["flavour"], tuple(fields["capabilities"]))


def serve(run: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> int:
    """The child's side: read one order, do it with ``run``, tell how it went. Returns the exit code."""
    # what libraries print goes to standard error, so that standard output holds messages alone
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        try:
            messages.write(json.dumps(message) + "\n")
        except OSError:
            os._exit(_GONE)

    def watch() -> None:
        sys.stdin.read()
        os._exit(_GONE)

    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return _GONE
    threading.Thread(target=watch, daemon=True).start()
    os.nice(_NICE)
    try:
        tell({"result": run(order, lambda phase, share: tell({"phase": phase, "share": share}))})
        code = 0
    except (InputError, GeosegError, OSError) as error:
        # a full disk, most likely: the folder that matters is the cache, not this entry in the making
        text = f"{Path(order['folder']).parent}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        tell({"error": " ".join(text.split()), "input": isinstance(error, InputError)})
        code = 2 if isinstance(error, InputError) else 1
    messages.flush()
    return code


def main() -> int:
    """Entry point of the child."""
    return serve(lambda order, progress: _job(order).run(Path(order["folder"]), progress))


if __name__ == "__main__":
    # without the clean-up of the interpreter, which may wait for threads of libraries
    os._exit(main())
