"""A network that PyTorch runs: as it is on the processor, as a CUDA graph on a GPU."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.runtime.engines.graphs import Captured, CudaStream, GraphCache, Stream, Tensors, buffers
from geoseg_ros.runtime.engines.session import EngineError, check_inputs, first_line, most_items
from geoseg_ros.runtime.engines.spec import EngineSpec


class TorchSession:
    """See :class:`~geoseg_ros.runtime.engines.session.Session`.

    Args:
        spec: names, shapes, and the precision that the network is brought to.
        module: takes the inputs in the order of ``spec``, and gives the outputs in its order. It is not changed.
        device: cpu or a CUDA device.
        stream: where GPU work is queued; default: a CUDA stream of its own.
    """

    def __init__(self, spec: EngineSpec, module: torch.nn.Module, device: str | torch.device = "cpu", stream: Stream | None = None) -> None:
        self.spec, self.precision = spec, spec.precision
        self.device = torch.device(device)
        self.backend = f"torch-{self.device.type}"
        own = copy.deepcopy(module).eval().to(self.device).requires_grad_(False)
        if spec.precision == "fp16" and isinstance(own, TokenModule):
            own.network.half()
        self._module: torch.nn.Module | None = own
        self._names = [r.name for r in spec.profiles[0]]
        self._graphs: GraphCache | None = None
        if self.device.type == "cuda" or stream is not None:
            self._stream = stream or CudaStream(self.device)
            self._graphs = GraphCache(self._capture, lambda inputs: most_items(spec, inputs), self._stream)

    def run(self, inputs: Tensors) -> Tensors:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.run`."""
        check_inputs(self.spec, inputs)
        try:
            with torch.inference_mode():
                if self._graphs is not None:
                    return self._graphs.run(inputs)
                return self._forward({name: value.to(self.device) for name, value in inputs.items()})
        except RuntimeError as error:  # of the device, or out of its memory
            raise EngineError(f"{self.backend}: {first_line(error)}") from error

    def _forward(self, inputs: Tensors) -> Tensors:
        assert self._module is not None, "closed"
        return dict(zip(self.spec.outputs, self._module(*(inputs[name] for name in self._names)), strict=True))

    def _capture(self, shapes: dict[str, tuple[int, ...]]) -> Captured:
        inputs = buffers(shapes, self.device)
        outputs: Tensors = {}

        def work() -> None:
            outputs.update(self._forward(inputs))

        with _without_tf32():
            return Captured(inputs, outputs, self._stream.capture(work))

    def close(self) -> None:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.close`."""
        if self._graphs is not None:
            self._graphs.clear()
        self._module = None


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Convolutions captured inside keep all bits of float32. (Matrix products do anyway, unless somebody asks otherwise.)"""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
