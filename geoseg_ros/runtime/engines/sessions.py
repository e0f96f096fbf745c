"""Networks that are ready to run: by PyTorch, by ONNX Runtime, by TensorRT."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.graphs import Captured, CudaStream, GraphCache, Shapes, Tensors, buffers
from geoseg_ros.runtime.engines.spec import EngineSpec
from geoseg_ros.runtime.engines.trt import load_tensorrt, shared_logger

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class EngineError(GeosegError):
    """A session failed at run time: its device is gone, its memory is full. Another backend may still be able to do the work."""


class PlanError(EngineError):
    """A built engine cannot be used here: damaged, of another GPU or version, or of another network. Rebuilding it helps."""


class Session(ABC):
    """A network that is ready to run. One thread uses it at a time.

    Attributes:
        backend: ``torch-cpu``, ``torch-cuda``, ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``tensorrt`` or ``tensorrt_rtx``.
        precision: Of the network inside, ``fp16`` or ``fp32``.
        spec: What it was made from.
        device: Where the outputs are.
    """

    failures: tuple[type[Exception], ...] = (RuntimeError,)  # of a device, or out of its memory

    def __init__(self, spec: EngineSpec, backend: str, device: str | torch.device) -> None:
        self.spec, self.precision, self.backend, self.device = spec, spec.precision, backend, torch.device(device)

    def run(self, inputs: Tensors) -> Tensors:
        """Run the network once.

        Args:
            inputs: Float32 tensors on any device, named and shaped as ``spec`` says.

        Returns:
            Float32 tensors on the session's device; the caller's to keep.

        Raises:
            InputError: Names or shapes that the network was not made for.
            EngineError: Anything that fails while it runs.
        """
        check_inputs(self.spec, inputs)
        try:
            with torch.inference_mode():
                return self._run(inputs)
        except EngineError:
            raise
        except self.failures as error:
            raise EngineError(f"{self.backend}: {_first_line(error)}") from error

    @abstractmethod
    def _run(self, inputs: Tensors) -> Tensors: ...

    @abstractmethod
    def close(self) -> None:
        """Give memory back. A second call does nothing; the session is not used afterwards."""


def check_inputs(spec: EngineSpec, inputs: Tensors) -> None:
    """Raise InputError unless the inputs are those of ``spec`` and in range."""
    shapes = {name: tuple(value.shape) for name, value in inputs.items()}
    if spec.profile_of(shapes) is None:
        found = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"engine '{spec.name}': expected {'; '.join(map(str, spec.inputs))}; got {found or 'nothing'}")
    wrong = [name for name, value in inputs.items() if value.dtype != torch.float32]
    if wrong:
        raise InputError(f"engine '{spec.name}': {wrong[0]}: expected float32, got {inputs[wrong[0]].dtype}")


def most_items(spec: EngineSpec, inputs: Tensors) -> int:
    """The largest number of items (axis 0) in the profile of these inputs."""
    profile = spec.profile_of({name: tuple(value.shape) for name, value in inputs.items()}) or 0
    return min(r.maximum[0] for r in spec.profiles[profile])


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class TorchSession(Session):
    """PyTorch: the module as it is on the processor, as a CUDA graph on a GPU.

    Args:
        spec: Names, shapes, and the precision that the network is brought to.
        module: Takes the inputs and gives a tuple of the outputs, both in the order of ``spec``. It is copied.
        device: cpu or a CUDA device.
        stream: Where GPU work is queued; default: a CUDA stream of its own.
    """

    def __init__(
        self, spec: EngineSpec, module: torch.nn.Module, device: str | torch.device = "cpu", stream: CudaStream | None = None
    ) -> None:
        super().__init__(spec, f"torch-{torch.device(device).type}", device)
        own = copy.deepcopy(module).eval().to(self.device).requires_grad_(False)
        if spec.precision == "fp16" and isinstance(own, TokenModule):
            own.network.half()
        self._module: torch.nn.Module | None = own
        self._graphs: GraphCache | None = None
        if self.device.type == "cuda" or stream is not None:
            self._stream = stream or CudaStream(self.device)
            self._graphs = GraphCache(self._capture, lambda inputs: most_items(spec, inputs), self._stream)

    def _run(self, inputs: Tensors) -> Tensors:
        if self._graphs is not None:
            return self._graphs.run(inputs)
        return self._forward({name: value.to(self.device) for name, value in inputs.items()})

    def _forward(self, inputs: Tensors) -> Tensors:
        assert self._module is not None, "closed"
        return dict(zip(self.spec.outputs, self._module(*(inputs[r.name] for r in self.spec.profiles[0])), strict=True))

    def _capture(self, shapes: Shapes) -> Captured:
        inputs, outputs = buffers(shapes, self.device), Tensors()
        with _without_tf32():
            return Captured(inputs, outputs, self._stream.capture(lambda: outputs.update(self._forward(inputs))))

    def close(self) -> None:
        """See :meth:`Session.close`."""
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


def onnxruntime_for(device: str) -> Any:
    """The module onnxruntime.

    Raises:
        InputError: It is not installed, or cannot use this kind of device (``cpu`` or ``cuda``).
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError("the Python package onnxruntime is not installed") from None
    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise InputError(f"this onnxruntime has no {PROVIDERS[device]}")
    return onnxruntime


class OnnxRuntimeSession(Session):
    """ONNX Runtime, on the processor or on a CUDA device; tensors are handed over by address.

    Args:
        spec: Its file must be readable.
        device: cpu or a CUDA device.
        threads: Of one operator on the processor; default: as many as PyTorch uses.

    Raises:
        InputError: onnxruntime is absent or has no such provider, or the file cannot be read.
    """

    failures = (Exception,)  # onnxruntime raises its own types, which share no public base class

    def __init__(self, spec: EngineSpec, device: str | torch.device = "cpu", threads: int | None = None) -> None:
        super().__init__(spec, f"onnxruntime-{torch.device(device).type}", device)
        onnxruntime, provider = onnxruntime_for(self.device.type), PROVIDERS[self.device.type]
        self._number = self.device.index or 0
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or torch.get_num_threads()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the processor to others between calls
        options = {"device_id": str(self._number), "use_tf32": "0"} if self.device.type == "cuda" else {}
        try:
            self._session = onnxruntime.InferenceSession(str(spec.onnx), settings, providers=[(provider, options)])
        except Exception as error:  # as above
            raise InputError(f"{spec.onnx}: not a readable ONNX file ({_first_line(error)})") from error
        if self._session.get_providers()[0] != provider:
            raise InputError(f"backend 'onnxruntime': {provider} cannot be used here")
        self._shapes: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]]] = {}  # of the inputs -> of the outputs

    def _run(self, inputs: Tensors) -> Tensors:
        inputs = {name: value.to(self.device).contiguous() for name, value in inputs.items()}
        key = tuple(tuple(value.shape) for value in inputs.values())
        known = self._shapes.get(key)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # onnxruntime has a stream of its own
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_input(name, self.device.type, self._number, np.float32, tuple(value.shape), value.data_ptr())
        outputs: Tensors = {}
        for k, name in enumerate(self.spec.outputs):
            if known is None:
                binding.bind_output(name, self.device.type, self._number)
            else:
                outputs[name] = torch.empty(known[k], device=self.device)
                binding.bind_output(name, self.device.type, self._number, np.float32, known[k], outputs[name].data_ptr())
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        if known is not None:
            return outputs
        # the first run with a shape shows the shapes of its outputs; later runs write to memory of the caller's
        values = binding.get_outputs()
        self._shapes[key] = [tuple(value.shape()) for value in values]
        return {name: torch.from_numpy(value.numpy().copy()).to(self.device) for name, value in zip(self.spec.outputs, values, strict=True)}

    def close(self) -> None:
        """See :meth:`Session.close`."""
        self._session = None


class TensorRTSession(Session):
    """TensorRT or TensorRT for RTX. Buffers and streams are PyTorch's; every shape has a context and a CUDA graph.

    Args:
        plan: The built engine, as bytes or the file that holds it.
        spec: What it was built from.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        device: A CUDA device.
        stream: Where work is queued; default: a CUDA stream of its own.
        tensorrt: The module, where it is loaded already.

    Raises:
        InputError: TensorRT is absent or too old.
        PlanError: The engine is damaged, or was built for another GPU, by another version or from another network.
    """

    def __init__(
        self,
        plan: bytes | Path,
        spec: EngineSpec,
        flavour: str,
        device: str | torch.device = "cuda",
        stream: CudaStream | None = None,
        tensorrt: Any = None,
    ) -> None:
        super().__init__(spec, flavour, device)
        trt = tensorrt or load_tensorrt(flavour)
        self._runtime = trt.Runtime(shared_logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(plan if isinstance(plan, bytes) else plan.read_bytes())
        if self._engine is None:
            raise PlanError(f"engine '{spec.name}': {flavour} {trt.__version__} cannot use it on this GPU")
        self._check_engine(trt)
        self._stream = stream or CudaStream(self.device)
        self._graphs = GraphCache(self._capture, lambda inputs: most_items(spec, inputs), self._stream)

    def _check_engine(self, trt: Any) -> None:
        engine = self._engine
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        if inputs != {r.name for r in self.spec.inputs} or set(names) - inputs != set(self.spec.outputs):
            raise PlanError(f"engine '{self.spec.name}': made from another network, its inputs and outputs are {', '.join(names)}")
        other = [name for name in names if engine.get_tensor_dtype(name) != trt.float32]
        if other or engine.num_optimization_profiles != len(self.spec.profiles):
            raise PlanError(f"engine '{self.spec.name}': made for other shapes or types")

    def _run(self, inputs: Tensors) -> Tensors:
        return self._graphs.run(inputs)

    def _capture(self, shapes: Shapes) -> Captured:
        """Each capture has a context of its own: other shapes on a shared one would break graphs captured before."""
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
        replay = self._stream.capture(lambda: self._must(context.execute_async_v3(self._stream.handle), "the work"))
        return Captured(inputs, outputs, replay)

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.backend}: refused {what}")

    def close(self) -> None:
        """See :meth:`Session.close`. Contexts are freed before their engine, and the engine before its runtime."""
        self._graphs.clear()
        self._engine = None
        self._runtime = None
