"""Building TensorRT engines from exported networks. TensorRT for RTX builds without a GPU; TensorRT itself needs the one it builds for."""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.engines.options import TENSORRT
from geoseg_ros.runtime.engines.spec import EngineSpec

LEAST_VERSION = (10, 3)  # JetPack 6.1. Version 8 reads opset 18 wrongly without an error: it looks for axes where they no longer are
RTX_CAPABILITIES = (75, 80, 86, 89, 120, 121)
_ACTIVATION = re.compile(r"Total Activation Memory:\s*(\d+)\s*bytes", re.IGNORECASE)
_LOG = logging.getLogger("geoseg_ros.tensorrt")


@dataclass(frozen=True)
class BuiltPlan:
    """A built engine.

    Attributes:
        plan: Its bytes.
        activation_bytes: Memory for what lies between the layers, at the largest shapes; None where the build does not report it.
        seconds: Duration of the build.
    """

    plan: bytes
    activation_bytes: int | None
    seconds: float


def load_tensorrt(flavour: str) -> Any:
    """The Python module of TensorRT (``tensorrt``) or TensorRT for RTX (``tensorrt_rtx``).

    Raises:
        InputError: Not installed, not loadable, or older than 10.3.
    """
    if flavour not in TENSORRT:
        raise InputError(f"backend '{flavour}': expected one of {', '.join(TENSORRT)}")
    # the wheels of TensorRT for RTX come with or without a package of its own name around them; the libraries must be loaded first
    ways = (("tensorrt",),) if flavour == "tensorrt" else (("tensorrt_rtx",), ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"))
    failure = "not installed"
    for way in ways:
        try:
            module = [importlib.import_module(name) for name in way][-1]
        except ModuleNotFoundError as error:
            if error.name not in way:
                failure = str(error)
        except (ImportError, OSError, RuntimeError) as error:  # libraries that are missing, or of another version
            failure = f"not loadable ({str(error).splitlines()[0]})"
        else:
            version = str(getattr(module, "__version__", "unknown"))
            if flavour == "tensorrt" and _numbers(version)[:2] < LEAST_VERSION:
                raise InputError(f"backend 'tensorrt': expected TensorRT 10.3 or newer (JetPack 6.1), found {version}")
            return module
    raise InputError(f"backend '{flavour}': the Python package {flavour} is {failure}")


def _numbers(version: str) -> tuple[int, ...]:
    """``10.3.0.dev1`` -> (10, 3, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


_loggers: dict[str, Any] = {}


def shared_logger(tensorrt: Any) -> Any:
    """The one logger of this process, since TensorRT keeps the first that it is given.

    Its ``lines`` is a list of (is an error, text) while a build reads along, else None.
    """
    name = tensorrt.__name__
    if name not in _loggers:

        class Logger(tensorrt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                tensorrt.ILogger.__init__(self)
                self.lines: list[tuple[bool, str]] | None = None

            def log(self, severity: Any, text: str) -> None:
                failed = severity in (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR)
                if self.lines is not None:
                    self.lines.append((failed, text))
                _LOG.log(logging.WARNING if failed else logging.DEBUG, "%s", text)

        _loggers[name] = Logger()
    return _loggers[name]


def build_plan(
    spec: EngineSpec, flavour: str, capabilities: Sequence[int] = (), progress: Progress | None = None, tensorrt: Any = None
) -> BuiltPlan:
    """Build an engine.

    Args:
        spec: What to build. Every type is as the ONNX file says (strong typing); ``fp32`` uses no TF32.
        flavour: ``tensorrt`` builds for the GPU of this machine, ``tensorrt_rtx`` for ``capabilities`` without a GPU.
        capabilities: CUDA compute capabilities, such as (86, 89, 120); none: the usual ones of tensorrt_rtx (80, 86, 89, 120).
        progress: Called with (phase, percent, 100); the percentage never falls.
        tensorrt: The module, where it is loaded already.

    Raises:
        InputError: TensorRT is absent or too old, or does not build for a capability.
        GeosegError: The build failed; the first error of its log is in the message.
    """
    trt = tensorrt or load_tensorrt(flavour)
    if flavour == "tensorrt" and capabilities:
        raise InputError("backend 'tensorrt': builds for the GPU of this machine only; compute capabilities are for tensorrt_rtx")
    logger, start = shared_logger(trt), time.monotonic()
    lines: list[tuple[bool, str]] = []
    logger.lines = lines
    try:
        builder = trt.Builder(logger)
        typed = flavour == "tensorrt" and _numbers(trt.__version__)[0] <= 10  # strong typing is a choice there, and the rule elsewhere
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(spec.onnx)):
            errors = (parser.get_error(k).desc() for k in range(parser.num_errors))
            raise GeosegError(f"{spec.onnx}: {flavour} cannot read it ({_first(errors)})")
        _check_tensors(spec, network, flavour)
        config = builder.create_builder_config()
        for ranges in spec.profiles:
            profile = builder.create_optimization_profile()
            for tensor in ranges:
                profile.set_shape(tensor.name, tensor.minimum, tensor.optimum, tensor.maximum)
            config.add_optimization_profile(profile)
        if spec.precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        if capabilities:
            _set_capabilities(trt, config, capabilities)
        if progress is not None and hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = monitor = _monitor(trt, progress)  # noqa: F841 - TensorRT does not keep it alive
        plan = builder.build_serialized_network(network, config)
    finally:
        logger.lines = None
    if plan is None:
        raise GeosegError(f"engine '{spec.name}': {flavour} did not build it ({_first(text for failed, text in lines if failed)})")
    return BuiltPlan(bytes(plan), activation_memory([text for _, text in lines]), time.monotonic() - start)


def activation_memory(lines: Sequence[str]) -> int | None:
    """Bytes of "Total Activation Memory" in a build's log, the largest where there are several; None where there is none."""
    return max((int(match[1]) for line in lines if (match := _ACTIVATION.search(line))), default=None)


def _check_tensors(spec: EngineSpec, network: Any, flavour: str) -> None:
    inputs = {network.get_input(k).name for k in range(network.num_inputs)}
    found = inputs, {network.get_output(k).name for k in range(network.num_outputs)}
    expected = {r.name for r in spec.inputs}, set(spec.outputs)
    if found != expected:
        raise GeosegError(f"{spec.onnx}: {flavour} reads inputs and outputs {found}, expected {expected}")


def _set_capabilities(trt: Any, config: Any, capabilities: Sequence[int]) -> None:
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        named = getattr(trt.ComputeCapability, f"SM{capability}", None)
        if named is None or not config.set_compute_capability(named, place):
            known = ", ".join(map(str, RTX_CAPABILITIES))
            raise InputError(f"compute capability {capability}: tensorrt_rtx does not build for it; expected one of {known}")


def _first(errors: Iterable[str]) -> str:
    """The first of the errors, in one line."""
    return " ".join(next(iter(errors), "no reason given").split())[:300]


def _monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that calls ``progress``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases = PhaseTree()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases.step(phase_name, step)
            progress(phase_name, round(100 * self.phases.fraction), 100)
            return True

    return Monitor()


class PhaseTree:
    """How much of a build is done, from phases that hold steps and other phases.

    Attributes:
        fraction: 0..1, never falling; a phase inside another's step counts for its share of that step.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self._open: dict[str, tuple[str | None, int, int]] = {}  # name -> (parent, steps, steps done), outermost first

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside ``parent`` or on its own."""
        self._open[name] = (parent, max(steps, 1), 0)

    def step(self, name: str, step: int) -> None:
        """Step number ``step`` of a phase is done."""
        if name in self._open:
            self._open[name] = (*self._open[name][:2], step + 1)
        done, share, parent = 0.0, 1.0, None
        while inside := next((name for name, (above, _, _) in self._open.items() if above == parent), None):
            _, steps, finished = self._open[inside]
            part = min(finished / steps, 1.0)
            done += share * part
            share, parent = share * (1 - part) / max(steps - finished, 1), inside
        self.fraction = max(self.fraction, min(done, 1.0))

    def finish(self, name: str) -> None:
        """A phase ends."""
        self._open.pop(name, None)
