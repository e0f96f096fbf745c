"""How the backend of a network is chosen. Imports no network library."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geoseg_ros.errors import InputError
from geoseg_ros.progress import Progress
from geoseg_ros.settings import Settings, setting

TENSORRT = ("tensorrt", "tensorrt_rtx")
ORDER = (*TENSORRT, "onnxruntime", "torch")
"""From the first to the last that ``auto`` tries."""
BACKENDS = ("auto", *ORDER)
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True)
class EngineOptions(Settings):
    """How a backend is chosen.

    Attributes:
        cache: Folder of built engines; default: the user's cache.
        progress: Called while something is built.
        cancel: When set, the build is given up.
        log: Called with a line for the user: an engine is rebuilt, a backend has failed.
    """

    backend: str = setting(
        "auto",
        "runs the image backbone; if it does not work here, the next one does; auto: the best that works here",
        choices=BACKENDS,
    )
    strict: bool = setting(False, "no other backend takes over, neither at the start nor when the chosen one fails later")
    device: str = setting("auto", "where the networks run; auto: on the GPU if there is one", choices=DEVICES)
    precision: str = setting(
        "fp32", "precision of TensorRT engines; fp16 is faster for large backbones, and moves some masks of geoseg_tiny", choices=PRECISIONS
    )
    cache: str | Path | None = None
    progress: Progress | None = None
    cancel: threading.Event | None = None
    log: Callable[[str], None] = lambda line: None

    def on_gpu(self) -> bool:
        """Whether the network is to run on a GPU. Raises InputError where it is and PyTorch finds none."""
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda: PyTorch finds no CUDA device")
        return self.device != "cpu" and torch.cuda.is_available()
