"""Building TensorRT engines from exported networks. TensorRT for RTX builds without a GPU; TensorRT itself needs the one it builds for."""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.engines.options import TENSORRT
from geoseg_ros.runtime.engines.spec import EngineSpec, NamedSpec

LEAST_VERSION = (10, 3)  # JetPack 6.1. Version 8 reads opset 18 wrongly without an error: it looks for axes where they no longer are
RTX_CAPABILITIES = (75, 80, 86, 89, 120, 121)
_ACTIVATION = re.compile(r"Total Activation Memory:\s*(\d+)\s*bytes", re.IGNORECASE)
_LOG = logging.getLogger("geoseg_ros.tensorrt")


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
            if flavour == "tensorrt" and _version(module) < LEAST_VERSION:
                raise InputError(f"backend 'tensorrt': expected TensorRT 10.3 or newer (JetPack 6.1), found {module.__version__}")
            return module
    raise InputError(f"backend '{flavour}': the Python package {flavour} is {failure}")


def _version(module: Any) -> tuple[int, ...]:
    """``10.3.0.dev1`` -> (10, 3)."""
    return tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])


_loggers: dict[str, Any] = {}


def shared_logger(trt: Any) -> Any:
    """The one logger of this process, since TensorRT keeps the first that it is given.

    Its ``first_error`` is a line or empty, its ``activation_bytes`` the largest number reported or None, both since the last ``reset()``.
    """
    if trt.__name__ not in _loggers:

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.reset()

            def reset(self) -> None:
                self.first_error = ""
                self.activation_bytes: int | None = None

            def log(self, severity: Any, text: str) -> None:
                failed = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
                if failed:
                    self.first_error = self.first_error or text
                elif match := _ACTIVATION.search(text):
                    self.activation_bytes = max(self.activation_bytes or 0, int(match[1]))
                _LOG.log(logging.WARNING if failed else logging.DEBUG, "%s", text)

        _loggers[trt.__name__] = Logger()
    return _loggers[trt.__name__]


def progress_monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that calls ``progress`` with a share that never falls; the steps of a phase inside another's step count for
    their share of that step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.share = 0.0
            self.phases: dict[str, tuple[int, int]] = {}  # name -> (steps, steps done), outermost first

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = max(num_steps, 1), 0

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            steps, _ = self.phases.get(phase_name, (1, 0))
            self.phases[phase_name] = steps, step + 1
            share, part = 0.0, 1.0
            for steps, done in self.phases.values():
                share, part = share + part * done / steps, part / steps
            self.share = max(self.share, min(share, 1.0))
            progress("building", round(100 * self.share), 100)
            return True

    return Monitor()


def build_plan(
    spec: EngineSpec | NamedSpec, flavour: str, capabilities: Sequence[int] = (), progress: Progress | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Build an engine.

    Args:
        spec: What to build. Every type is as the ONNX file says (strong typing); ``fp32`` uses no TF32.
        flavour: ``tensorrt`` builds for the GPU of this machine, ``tensorrt_rtx`` for ``capabilities`` without a GPU.
        capabilities: CUDA compute capabilities, such as (86, 89, 120).
        progress: Called with ("building", percent, 100); the percentage never falls.

    Returns:
        The engine, and notes: ``seconds``, and ``activation_bytes``, the memory for what lies between the layers at the largest shapes.

    Raises:
        InputError: TensorRT is absent or too old, or does not build for a capability.
        GeosegError: The build failed; the first error of its log is in the message.
    """
    trt = load_tensorrt(flavour)
    logger, start = shared_logger(trt), time.monotonic()
    logger.reset()
    builder = trt.Builder(logger)
    typed = flavour == "tensorrt" and _version(trt) < (11,)  # strong typing is a choice there, and the rule elsewhere
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(spec.onnx)):
        why = parser.get_error(0).desc() if parser.num_errors else ""
        raise GeosegError(f"{spec.onnx}: {flavour} cannot read it ({_short(why)})")
    config = builder.create_builder_config()
    for inputs in spec.inputs:
        profile = builder.create_optimization_profile()
        for name, shapes in inputs.items():
            profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
        config.add_optimization_profile(profile)
    if spec.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        named = getattr(trt.ComputeCapability, f"SM{capability}", None)
        if named is None or not config.set_compute_capability(named, place):
            known = ", ".join(map(str, RTX_CAPABILITIES))
            raise InputError(f"compute capability {capability}: tensorrt_rtx does not build for it; expected one of {known}")
    if progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = monitor = progress_monitor(trt, progress)  # noqa: F841 - TensorRT does not keep it alive
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise GeosegError(f"{spec.source}: {flavour} did not build it ({_short(logger.first_error)})")
    return bytes(plan), {"seconds": round(time.monotonic() - start, 2), "activation_bytes": logger.activation_bytes}


def _short(error: str) -> str:
    return " ".join(error.split())[:300] or "no reason given"
