"""How the backend of a network is chosen. Light: imports no network library."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.cache import EngineCache, Progress
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
        strict: what was chosen must work; nothing else is tried, neither at the start nor when it fails later. With ``auto`` what is not
            installed, or has no GPU here, is passed by all the same.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: of TensorRT engines, ``fp32`` or ``fp16``; the other backends, and networks that are files with a precision of their
            own, do not ask. Half precision moves masks of ``geoseg_tiny`` where evidence lies near a threshold.
        cache: where built engines are.
        progress: called with (phase, share) while something is built.
        cancel: when set, building is given up.
        tell: gets a line for what a person should know: an engine is built anew, a backend has failed.

    Raises:
        InputError: an unknown backend, device or precision.
    """

    backend: str = "auto"
    strict: bool = False
    device: str = "auto"
    precision: str = "fp32"
    cache: EngineCache | None = None
    progress: Progress | None = None
    cancel: threading.Event | None = None
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        settings = ("backend", self.backend, BACKENDS), ("device", self.device, DEVICES), ("precision", self.precision, PRECISIONS)
        for name, value, known in settings:
            if value not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}, got '{value}'")

    def on_gpu(self) -> bool:
        """Whether the network is to run on a GPU.

        Raises:
            InputError: it is, but PyTorch finds none.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda: PyTorch finds no CUDA device")
        return self.device != "cpu" and torch.cuda.is_available()
