"""The interface of everything that runs an exported network."""

from __future__ import annotations

from typing import Protocol

import torch

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.spec import EngineSpec


class EngineError(GeosegError):
    """A session failed at run time: its device is gone, its memory is full. Another backend may still be able to do the work."""


class PlanError(EngineError):
    """A built engine cannot be used here: damaged, of another GPU or version, or of another network. Building it anew helps."""


class Session(Protocol):
    """A network that is ready to run. One thread uses it at a time."""

    @property
    def backend(self) -> str:
        """``torch-cpu``, ``torch-cuda``, ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``tensorrt`` or ``tensorrt_rtx``."""
        ...

    @property
    def precision(self) -> str:
        """Of the network inside, ``fp16`` or ``fp32``."""
        ...

    @property
    def spec(self) -> EngineSpec:
        """What it was made from."""
        ...

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run the network once.

        Args:
            inputs: float32 tensors on any device, named and shaped as ``spec`` says.

        Returns:
            float32 tensors on the session's own device; the caller's to keep.

        Raises:
            InputError: names or shapes that the network was not made for.
            EngineError: anything that fails while it runs.
        """
        ...

    def close(self) -> None:
        """Give memory back; a second time nothing is done. The session is not used afterwards."""
        ...


def check_inputs(spec: EngineSpec, inputs: dict[str, torch.Tensor]) -> None:
    """Raise InputError unless the inputs are those of ``spec`` and in range."""
    shapes = {name: tuple(value.shape) for name, value in inputs.items()}
    if not spec.holds(shapes):
        found = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"engine '{spec.name}': expected {'; '.join(map(str, spec.inputs))}; got {found or 'nothing'}")
    wrong = [name for name, value in inputs.items() if value.dtype != torch.float32]
    if wrong:
        raise InputError(f"engine '{spec.name}': {wrong[0]}: expected float32, got {inputs[wrong[0]].dtype}")


def most_items(spec: EngineSpec, inputs: dict[str, torch.Tensor]) -> int:
    """The largest number of items (axis 0) that the profile of these inputs takes."""
    profile = spec.profile_of({name: tuple(value.shape) for name, value in inputs.items()}) or 0
    return min(r.maximum[0] for r in spec.profiles[profile])


def first_line(error: BaseException) -> str:
    """Of its message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
