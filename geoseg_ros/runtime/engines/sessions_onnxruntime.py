"""A network that ONNX Runtime runs, on the processor or on a CUDA device; tensors are handed over by address."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.graphs import Tensors
from geoseg_ros.runtime.engines.session import EngineError, check_inputs, first_line
from geoseg_ros.runtime.engines.spec import EngineSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeSession:
    """See :class:`~geoseg_ros.runtime.engines.session.Session`.

    Args:
        spec: its file must be readable.
        device: cpu or a CUDA device.
        threads: of one operator on the processor; default: as many as PyTorch uses.

    Raises:
        InputError: onnxruntime is absent or has no such provider, or the file cannot be read.
    """

    def __init__(self, spec: EngineSpec, device: str | torch.device = "cpu", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError("backend 'onnxruntime': the Python package onnxruntime is not installed") from error
        self.spec, self.precision = spec, spec.precision
        self.device = torch.device(device)
        self.backend = f"onnxruntime-{self.device.type}"
        self._number = self.device.index or 0
        provider = PROVIDERS.get(self.device.type, self.device.type)
        if provider not in onnxruntime.get_available_providers():
            raise InputError(f"backend 'onnxruntime': this onnxruntime has no {provider}")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or torch.get_num_threads()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the processor to others between calls
        options = {"device_id": str(self._number), "use_tf32": "0"} if self.device.type == "cuda" else {}
        try:
            self._session = onnxruntime.InferenceSession(str(spec.onnx), settings, providers=[(provider, options)])
        except Exception as error:  # onnxruntime raises its own types, which share no public base class
            raise InputError(f"{spec.onnx}: not a readable ONNX file ({first_line(error)})") from error
        if self._session.get_providers()[0] != provider:
            raise InputError(f"backend 'onnxruntime': {provider} cannot be used here")
        self._shapes: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]]] = {}  # of the inputs -> of the outputs

    def run(self, inputs: Tensors) -> Tensors:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.run`."""
        check_inputs(self.spec, inputs)
        try:
            return self._run({name: value.to(self.device).contiguous() for name, value in inputs.items()})
        except Exception as error:  # as above
            raise EngineError(f"{self.backend}: {first_line(error)}") from error

    def _run(self, inputs: Tensors) -> Tensors:
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
        # the first run of a shape tells what its outputs look like; from the second on they are written to where they are wanted
        values: list[Any] = binding.get_outputs()
        self._shapes[key] = [tuple(value.shape()) for value in values]
        return {name: torch.from_numpy(value.numpy().copy()).to(self.device) for name, value in zip(self.spec.outputs, values, strict=True)}

    def close(self) -> None:
        """See :meth:`geoseg_ros.runtime.engines.session.Session.close`."""
        self._session = None
