"""TensorRT's Python module, as far as it is used here, around a plain function; and a stream that is none."""

from __future__ import annotations

import contextlib
import ctypes
import pickle
from types import SimpleNamespace

import torch


class PlainStream:
    """Everything happens at once, on the processor. ``captures``: how often work was captured."""

    device = torch.device("cpu")
    handle = 7

    def __init__(self):
        self.captures = self.handed = 0
        self.inside = False

    @contextlib.contextmanager
    def working(self, given):
        self.inside = True
        yield
        self.inside = False

    def hand_over(self, made):
        assert not self.inside
        self.handed += len(made)

    def capture(self, work):
        assert self.inside
        self.captures += 1
        outputs = work()

        def replay():
            for old, new in zip(outputs, work(), strict=True):
                old.copy_(new)

        return replay, outputs


def tensor_at(address, shape):
    """The float32 tensor that lies there."""
    count = torch.Size(shape).numel()
    return torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32).view(shape)


class Context:
    def __init__(self, engine):
        self.engine, self.shapes, self.addresses, self.profile = engine, {}, {}, None
        engine.contexts.append(self)

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile
        return stream == PlainStream.handle and profile < self.engine.num_optimization_profiles

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.profiles[self.profile][name]
        self.shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def infer_shapes(self):
        return [name for name in self.engine.inputs if name not in self.shapes]

    def get_tensor_shape(self, name):
        return self.engine.shape_of(self.shapes, name)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if self.engine.broken:
            return False
        given = {name: tensor_at(self.addresses[name], shape) for name, shape in self.shapes.items()}
        for name, value in self.engine.function(given).items():
            tensor_at(self.addresses[name], tuple(value.shape)).copy_(value)
        return True


class Engine:
    """tokens = 2 images and global_vector = images, for ``images`` [V, n]; its tensors can be renamed to be another network's."""

    def __init__(self, profiles, inputs=("images",), outputs=("tokens", "global_vector")):
        self.profiles, self.inputs, self.outputs = profiles, inputs, outputs
        self.contexts, self.broken = [], False
        self.num_io_tensors = len(inputs) + len(outputs)
        self.num_optimization_profiles = len(profiles)

    def function(self, given):
        return {"tokens": 2 * given["images"], "global_vector": given["images"]}

    def shape_of(self, shapes, name):
        return shapes["images"]

    def get_tensor_name(self, number):
        return (*self.inputs, *self.outputs)[number]

    def create_execution_context(self):
        return Context(self)


class ILogger:
    ERROR, INTERNAL_ERROR, INFO = "error", "internal", "info"


def module(version="10.3.0"):
    """A fresh module; ``engines`` are those that its runtimes have made. A plan is a pickled list of arguments of :class:`Engine`."""
    made = []

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)

        def deserialize_cuda_engine(self, plan):
            try:
                made.append(Engine(*pickle.loads(plan)))
            except (pickle.UnpicklingError, EOFError, TypeError):
                return None
            return made[-1]

    return SimpleNamespace(
        __name__=f"fake_tensorrt_{version}",
        __version__=version,
        ILogger=ILogger,
        Runtime=Runtime,
        IProgressMonitor=type("IProgressMonitor", (), {}),
        engines=made,
    )
