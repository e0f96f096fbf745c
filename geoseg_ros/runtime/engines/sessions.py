"""Networks that are ready to run: by PyTorch, by ONNX Runtime, by TensorRT."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.spec import IMAGES, OUTPUTS, EngineSpec
from geoseg_ros.runtime.engines.trt import load_tensorrt, shared_logger

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
GRAPHS = 8
WARM_UP = 2  # runs before a capture, in which libraries choose and load their kernels

Tensors = tuple[torch.Tensor, ...]
"""Tokens and global vectors, see :data:`~geoseg_ros.runtime.engines.spec.OUTPUTS`."""
Work = Callable[[], Tensors]


class EngineError(GeosegError):
    """A session failed at run time: its device is gone, its memory is full. Another backend may still be able to do the work."""


class PlanError(EngineError):
    """A built engine cannot be used here: damaged, of another GPU or version, or of another network. Rebuilding it helps."""


class Session(ABC):
    """A network that is ready to run. One thread uses it at a time.

    Attributes:
        backend: ``torch-cpu``, ``torch-cuda``, ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``tensorrt`` or ``tensorrt_rtx``.
        spec: What it was made from.
        device: Where the work is done.
    """

    failures: tuple[type[Exception], ...] = (RuntimeError,)  # of a device, or out of its memory

    def __init__(self, spec: EngineSpec, backend: str, device: str | torch.device) -> None:
        self.spec, self.backend, self.device = spec, backend, torch.device(device)

    def run(self, images: torch.Tensor) -> Tensors:
        """Run the network once.

        Args:
            images: Float32 [V, H, W, 3] on any device, in a range of ``spec``.

        Returns:
            Float32 tokens [V, h, w, D] and global vectors [V, D]; the caller's to keep.

        Raises:
            InputError: A type or a shape that the network was not made for.
            EngineError: Anything that fails while it runs.
        """
        self.spec.check(images)
        try:
            with torch.inference_mode():
                return self._run(images)
        except EngineError:
            raise
        except self.failures as error:
            raise EngineError(f"{self.backend}: {_first_line(error)}") from error

    @abstractmethod
    def _run(self, images: torch.Tensor) -> Tensors: ...

    @abstractmethod
    def close(self) -> None:
        """Give memory back. A second call does nothing; the session is not used afterwards."""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class CudaStream:
    """A CUDA stream other than the default one, on which every launch waits for all others."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self.handle = int(self._stream.cuda_stream)

    @contextlib.contextmanager
    def working(self, given: torch.Tensor) -> Iterator[None]:
        """Queue work here, between what the caller has queued so far (which made ``given``) and what it queues afterwards."""
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        if given.is_cuda:
            given.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def hand_over(self, made: Tensors) -> None:
        """Keep the memory of tensors that were made here until the caller's work on them is done."""
        for tensor in made:
            tensor.record_stream(torch.cuda.current_stream(self.device))

    def capture(self, work: Work) -> tuple[Callable[[], object], Tensors]:
        """A function that repeats ``work``, and the static outputs that it fills; called inside :meth:`working`."""
        for _ in range(WARM_UP):
            work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            outputs = work()
        return graph.replay, outputs


class CudaGraphs:
    """Repeats work as CUDA graphs, one per shape; the least recently used graph is dropped.

    The number of images is rounded up to a power of two, so that there are few shapes. What the added ones hold is ignored, as images do
    not depend on each other.

    Args:
        spec: What the session was made from.
        prepare: From a static buffer of images to the work on it; called inside ``stream.working()``.
        stream: Where the work is queued.
    """

    def __init__(self, spec: EngineSpec, prepare: Callable[[torch.Tensor], Work], stream: CudaStream) -> None:
        self._spec, self._prepare, self._stream = spec, prepare, stream
        self._kept: OrderedDict[tuple[int, ...], tuple[torch.Tensor, Callable[[], object], Tensors]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def run(self, images: torch.Tensor) -> Tensors:
        """Copies of the outputs for ``images``, on the stream's device."""
        count = len(images)
        padded = bucket(count, self._spec.profiles[self._spec.check(images)].maximum[0])
        with self._stream.working(images):
            buffer, replay, outputs = self._find((padded, *images.shape[1:]))
            buffer[:count].copy_(images, non_blocking=True)
            replay()
            results = tuple(value[:count].clone() for value in outputs)
        self._stream.hand_over(results)
        return results

    def _find(self, shape: tuple[int, ...]) -> tuple[torch.Tensor, Callable[[], object], Tensors]:
        if shape not in self._kept:
            while len(self._kept) >= GRAPHS:
                self._kept.popitem(last=False)  # before the next takes memory
            images = torch.zeros(shape, device=self._stream.device)
            self._kept[shape] = images, *self._stream.capture(self._prepare(images))
        self._kept.move_to_end(shape)
        return self._kept[shape]

    def clear(self) -> None:
        """Drop all graphs and their memory."""
        self._kept.clear()


def bucket(count: int, most: int) -> int:
    """The power of two at or above ``count``, but not above ``most``."""
    return max(count, min(1 << max(count - 1, 0).bit_length(), most))


class TorchSession(Session):
    """PyTorch: the module as it is on the processor, as a CUDA graph on a GPU.

    Args:
        spec: Shapes, and the precision that the network is brought to.
        module: It is copied.
        device: cpu or a CUDA device.
        stream: Where GPU work is queued; default: a CUDA stream of its own.
    """

    def __init__(self, spec: EngineSpec, module: TokenModule, device: str | torch.device = "cpu", stream: CudaStream | None = None) -> None:
        super().__init__(spec, f"torch-{torch.device(device).type}", device)
        self._module: TokenModule | None = copy.deepcopy(module).eval().to(self.device).requires_grad_(False)
        if spec.precision == "fp16":
            self._module.network.half()
        if stream is None and self.device.type == "cuda":
            stream = CudaStream(self.device)
        self._graphs = None if stream is None else CudaGraphs(spec, self._prepare, stream)

    def _run(self, images: torch.Tensor) -> Tensors:
        assert self._module is not None, "closed"
        return tuple(self._module(images.to(self.device))) if self._graphs is None else self._graphs.run(images)

    def _prepare(self, images: torch.Tensor) -> Work:
        def work() -> Tensors:
            assert self._module is not None
            before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False  # convolutions keep all bits of float32
            try:
                return tuple(self._module(images))
            finally:
                torch.backends.cudnn.allow_tf32 = before

        return work

    def close(self) -> None:
        """See :meth:`Session.close`."""
        if self._graphs is not None:
            self._graphs.clear()
        self._module = None


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


def onnxruntime_session(path: str | Path, device: str) -> Any:
    """ONNX Runtime's session of a file, on this kind of device, with as many threads as PyTorch has.

    Raises:
        InputError: onnxruntime is absent or has no such provider, or the file cannot be read.
    """
    onnxruntime, provider = onnxruntime_for(device), PROVIDERS[device]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the processor to others between calls
    options = {"use_tf32": "0"} if device == "cuda" else {}
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, options)])
    except Exception as error:  # onnxruntime raises its own types, which share no public base class
        raise InputError(f"{path}: not a readable ONNX file ({_first_line(error)})") from error
    if session.get_providers()[0] != provider:
        raise InputError(f"backend 'onnxruntime': {provider} cannot be used here")
    return session


class OnnxRuntimeSession(Session):
    """ONNX Runtime, on the processor or on a CUDA device; outputs are on the processor.

    Args:
        spec: Its file must be readable.
        device: cpu or cuda.

    Raises:
        InputError: onnxruntime is absent or has no such provider, or the file cannot be read.
    """

    failures = (Exception,)  # onnxruntime raises its own types, which share no public base class

    def __init__(self, spec: EngineSpec, device: str | torch.device = "cpu") -> None:
        super().__init__(spec, f"onnxruntime-{torch.device(device).type}", device)
        self._session = onnxruntime_session(spec.onnx, self.device.type)

    def _run(self, images: torch.Tensor) -> Tensors:
        found = self._session.run(OUTPUTS, {IMAGES: np.ascontiguousarray(images.cpu().numpy())})
        return tuple(map(torch.from_numpy, found))

    def close(self) -> None:
        """See :meth:`Session.close`."""
        self._session = None


class TensorRTSession(Session):
    """TensorRT or TensorRT for RTX. Buffers and streams are PyTorch's; every shape has a context and a CUDA graph.

    Args:
        plan: File of the built engine.
        spec: What it was built from.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        device: A CUDA device.
        stream: Where work is queued; default: a CUDA stream of its own.

    Raises:
        InputError: TensorRT is absent or too old.
        PlanError: The engine is damaged, or was built for another GPU, by another version or from another network.
    """

    def __init__(
        self, plan: Path, spec: EngineSpec, flavour: str, device: str | torch.device = "cuda", stream: CudaStream | None = None
    ) -> None:
        super().__init__(spec, flavour, device)
        trt = load_tensorrt(flavour)
        self._runtime = trt.Runtime(shared_logger(trt))
        self._engine = engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise PlanError(f"{spec.source}: {flavour} {trt.__version__} cannot use the engine on this GPU")
        names = {engine.get_tensor_name(k) for k in range(engine.num_io_tensors)}
        if names != {IMAGES, *OUTPUTS} or engine.num_optimization_profiles != len(spec.profiles):
            raise PlanError(f"{spec.source}: the engine was made from another network")
        self._stream = stream or CudaStream(self.device)
        self._graphs = CudaGraphs(spec, self._prepare, self._stream)

    def _run(self, images: torch.Tensor) -> Tensors:
        return self._graphs.run(images)

    def _prepare(self, images: torch.Tensor) -> Work:
        """Each graph has a context of its own: other shapes on a shared one would break graphs captured before."""
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.backend}: no execution context; is the GPU's memory full?")
        self._must(context.set_optimization_profile_async(self.spec.check(images), self._stream.handle), "the profile")
        self._must(context.set_input_shape(IMAGES, tuple(images.shape)), f"images {tuple(images.shape)}")
        self._must(not context.infer_shapes(), "shapes that follow from the images")
        outputs = tuple(torch.zeros(tuple(context.get_tensor_shape(name)), device=self.device) for name in OUTPUTS)
        for name, value in zip((IMAGES, *OUTPUTS), (images, *outputs), strict=True):
            self._must(context.set_tensor_address(name, value.data_ptr()), f"the address of {name}")

        def work() -> Tensors:
            self._must(context.execute_async_v3(self._stream.handle), "the work")
            return outputs

        return work

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.backend}: refused {what}")

    def close(self) -> None:
        """See :meth:`Session.close`. Contexts are freed before their engine, and the engine before its runtime."""
        self._graphs.clear()
        self._engine = None
        self._runtime = None
