"""How the backend of a network is chosen. Imports no network library."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from geoseg_ros.errors import InputError
from geoseg_ros.processes import Progress
from geoseg_ros.runtime.engines.cache import EngineCache
from geoseg_ros.runtime.engines.spec import PRECISIONS

TENSORRT = ("tensorrt", "tensorrt_rtx")
ORDER = (*TENSORRT, "onnxruntime", "torch")
"""From the first to the last that ``auto`` tries."""
BACKENDS = ("auto", *ORDER)
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class EngineOptions:
    """How a backend is chosen.

    Attributes:
        backend: ``auto`` or one of :data:`ORDER`.
        strict: The chosen backend must work; no other is tried, neither at the start nor when it fails later. With ``auto``, backends that
            are not installed or have no GPU here are still skipped.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: Of TensorRT engines, ``fp32`` or ``fp16``. Other backends, and ONNX files with a precision of their own, ignore it. Half
            precision moves masks of ``geoseg_tiny`` where scores lie near a threshold.
        cache: Where built engines are kept; default: the user's cache.
        progress: Called with (phase, share) while something is built.
        cancel: When set, the build is given up.
        log: Called with a line for the user: an engine is rebuilt, a backend has failed.

    Raises:
        InputError: An unknown backend, device or precision.
    """

    backend: str = "auto"
    strict: bool = False
    device: str = "auto"
    precision: str = "fp32"
    cache: EngineCache | None = None
    progress: Progress | None = None
    cancel: threading.Event | None = None
    log: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        settings = ("backend", self.backend, BACKENDS), ("device", self.device, DEVICES), ("precision", self.precision, PRECISIONS)
        for name, value, known in settings:
            if value not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}, got '{value}'")

    def on_gpu(self) -> bool:
        """Whether the network is to run on a GPU.

        Raises:
            InputError: It is, but PyTorch finds none.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda: PyTorch finds no CUDA device")
        return self.device != "cpu" and torch.cuda.is_available()
