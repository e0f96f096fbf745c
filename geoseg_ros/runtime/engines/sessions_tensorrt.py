"""A network that TensorRT or TensorRT for RTX runs. Buffers and streams are PyTorch's; every shape has a context and a CUDA graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geoseg_ros.runtime.engines.graphs import Captured, CudaStream, GraphCache, Stream, Tensors, buffers
from geoseg_ros.runtime.engines.session import EngineError, PlanError, check_inputs, first_line, most_items
from geoseg_ros.runtime.engines.spec import EngineSpec
from geoseg_ros.runtime.engines.trt import load_tensorrt, shared_logger


class TensorRTSession:
    """See :class:`~geoseg_ros.runtime.engines.session.Session`.

    Args:
        plan: the built engine, as bytes or the file that holds it.
        spec: what it was built from.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        device: a CUDA device.
        stream: where work is queued; default: a CUDA stream of its own.
        tensorrt: the module, where it is loaded already.

    Raises:
        InputError: TensorRT is absent or too old.
        PlanError: the engine is damaged, was built for another GPU, by another version or from another network.
    """

    def __init__(
        self,
        plan: bytes | Path,
        spec: EngineSpec,
        flavour: str,
        device: str | torch.device = "cuda",
        stream: Stream | None = None,
        tensorrt: Any = None,
    ) -> None:
        self._trt = tensorrt or load_tensorrt(flavour)
        self.spec, self.precision, self.backend = spec, spec.precision, flavour
        self.device = torch.device(device)
        content = plan if isinstance(plan, bytes) else plan.read_bytes()
        self._runtime = self._trt.Runtime(shared_logger(self._trt))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise PlanError(f"engine '{spec.name}': {flavour} {self._trt.__version__} cannot use it on this GPU")
        self._check_engine()
        self._stream = stream or CudaStream(self.device)
        self._graphs = GraphCache(self._capture, lambda inputs: most_items(spec, inputs), self._stream)

    def _check_engine(self) -> None:
        trt, engine = self._trt, self._engine
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        if inputs != {r.name for r in self.spec.inputs} or set(names) - inputs != set(self.spec.outputs):
            raise PlanError(f"engine '{self.spec.name}': made from another network, its inputs and outputs are {', '.join(names)}")
        other = [name for name in names if engine.get_tensor_dtype(name) != trt.float32]
        if other or engine.num_optimization_profiles != len(self.spec.profiles):
            raise PlanError(f"engine '{self.spec.name}': made for other shapes or types")

    def run(self, inputs: Tensors) -> Tensors:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.run`."""
        check_inputs(self.spec, inputs)
        try:
            with torch.inference_mode():
                return self._graphs.run(inputs)
        except RuntimeError as error:  # PyTorch's, for the device and its memory
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"{self.backend}: {first_line(error)}") from error

    def _capture(self, shapes: dict[str, tuple[int, ...]]) -> Captured:
        """A context of its own: setting other shapes on a shared one would break graphs captured before."""
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.backend}: no execution context; is the GPU's memory full?")
        profile = self.spec.profile_of(shapes) or 0
        self._must(context.set_optimization_profile_async(profile, self._stream.handle), f"profile {profile}")
        inputs = buffers(shapes, self.device)
        for name, value in inputs.items():
            self._must(context.set_input_shape(name, tuple(value.shape)), f"{name} {tuple(value.shape)}")
        unknown = context.infer_shapes()
        self._must(not unknown, f"shapes that follow from {', '.join(unknown)}")
        outputs = buffers({name: tuple(context.get_tensor_shape(name)) for name in self.spec.outputs}, self.device)
        for name, value in (inputs | outputs).items():
            self._must(context.set_tensor_address(name, value.data_ptr()), f"the address of {name}")

        def work() -> None:
            self._must(context.execute_async_v3(self._stream.handle), "the work")

        return Captured(inputs, outputs, self._stream.capture(work))

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.backend}: refused {what}")

    def close(self) -> None:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.close`. Contexts go before their engine, the engine before its runtime."""
        self._graphs.clear()
        self._engine = None
        self._runtime = None
