"""Sessions and a source of them that behave as they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.cache import EngineCache
from geoseg_ros.runtime.engines.choose import ImageSource
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.sessions import EngineError
from geoseg_ros.runtime.engines.spec import EngineSpec, ShapeRange
from support.fake_world import FakeBackbone


def make_spec(largest: int = 64, batch: int = 4, precision: str = "fp32") -> EngineSpec:
    shapes = ShapeRange((1, 16, 16, 3), (1, 32, 32, 3), (batch, largest, largest, 3))
    return EngineSpec(Path("none.onnx"), (shapes,), precision, "fake")


class FakeSession:
    """Tokens are means over 16x16 pixels; ``value`` is added. ``fail_at``: number of the run that fails, and all after it."""

    def __init__(self, backend: str, spec: EngineSpec | None = None, fail_at: int | None = None, value: float = 0.0) -> None:
        self.backend, self.spec, self.fail_at, self.value = backend, spec or make_spec(), fail_at, value
        self.runs, self.closed = [], False

    def run(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.spec.check(images)
        self.runs.append(tuple(images.shape))
        if self.fail_at is not None and len(self.runs) >= self.fail_at:
            raise EngineError("the device\nis gone")
        tokens = images.unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2)) + self.value
        return tokens, tokens.mean((1, 2))

    def close(self) -> None:
        self.closed = True


class MeanBackbone(FakeBackbone):
    """Its tokens are those of :class:`FakeSession`. Attributes: calls: shapes of the images that it was given."""

    def __init__(self) -> None:
        self.dim, self.calls = 3, []

    def tokens(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.append(images.shape)
        tokens = torch.from_numpy(images.astype(np.float32)).unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2))
        return tokens, tokens.mean((1, 2))


class FakeSource(ImageSource):
    """``onnx``: its file. Attributes: asked: (backend, ready) of each export."""

    def __init__(self, options: EngineOptions, onnx: Path | None = None) -> None:
        self.options, self.onnx, self.asked = options, onnx, []
        self.cache = EngineCache(options.cache, log=options.log)

    def exported(self, backend: str, ready: bool = False) -> tuple[None, EngineSpec]:
        self.asked.append((backend, ready))
        return None, replace(make_spec(), onnx=self.onnx) if self.onnx else make_spec()

    def torch_session(self, device: torch.device) -> FakeSession:
        return FakeSession(f"torch-{device.type}")

    def check(self, session: FakeSession) -> None:
        """Every one is right."""


ABSENT = InputError("the Python package it needs is not installed")
FAILED = GeosegError("the export\nfailed")
