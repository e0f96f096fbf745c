"""CUDA graphs: captured work with static buffers, one capture per shape, on a stream of its own."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

Tensors = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]
GRAPHS = 8
WARM_UP = 2  # runs before a capture, in which libraries choose and load their kernels


class CudaStream:
    """A CUDA stream other than the default one, on which every launch waits for all others.

    Attributes:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @property
    def handle(self) -> int:
        """Address of the CUDA stream."""
        return int(self._stream.cuda_stream)

    @contextlib.contextmanager
    def working(self, *given: torch.Tensor) -> Iterator[None]:
        """Queue work here, between what the caller has queued so far (which made ``given``) and what it queues afterwards."""
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        for tensor in given:
            if tensor.is_cuda:
                tensor.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def hand_over(self, *made: torch.Tensor) -> None:
        """Keep the memory of tensors that were made here until the caller's work on them is done."""
        for tensor in made:
            tensor.record_stream(torch.cuda.current_stream(self.device))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that repeats ``work``; called inside :meth:`working`."""
        for _ in range(WARM_UP):
            work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay


@dataclass
class Captured:
    """Work that is ready to be repeated.

    Attributes:
        inputs: Static buffers that it reads.
        outputs: Static buffers that it writes.
        replay: Does the work.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]


class GraphCache:
    """Repeats captured work, one capture per shape; the least recently used capture is dropped.

    The number of items (axis 0 of every tensor) is rounded up to a power of two, so that there are few shapes. What the added items hold
    is ignored, as items do not depend on each other.

    Args:
        capture: Makes the work for inputs of the given shapes; called inside ``stream.working()``.
        most: Largest number of items for inputs of the given shapes.
        stream: Where the work is queued.
    """

    def __init__(self, capture: Callable[[Shapes], Captured], most: Callable[[Tensors], int], stream: CudaStream) -> None:
        self._capture, self._most, self._stream = capture, most, stream
        self._kept: OrderedDict[tuple[tuple[str, tuple[int, ...]], ...], Captured] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def run(self, inputs: Tensors) -> Tensors:
        """Copies of the outputs for ``inputs``, on the stream's device."""
        count = len(next(iter(inputs.values())))
        padded = bucket(count, self._most(inputs))
        with self._stream.working(*inputs.values()):
            work = self._find({name: (padded, *value.shape[1:]) for name, value in inputs.items()})
            for name, value in inputs.items():
                work.inputs[name][:count].copy_(value, non_blocking=True)
            work.replay()
            results = {name: value[:count].clone() for name, value in work.outputs.items()}
        self._stream.hand_over(*results.values())
        return results

    def _find(self, shapes: Shapes) -> Captured:
        key = tuple(shapes.items())
        if key not in self._kept:
            while len(self._kept) >= GRAPHS:
                self._kept.popitem(last=False)  # before the next takes memory
            self._kept[key] = self._capture(shapes)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Drop all captures and their memory."""
        self._kept.clear()


def bucket(count: int, most: int) -> int:
    """The power of two at or above ``count``, but not above ``most``."""
    return max(count, min(1 << max(count - 1, 0).bit_length(), most))


def buffers(shapes: Mapping[str, Sequence[int]], device: torch.device) -> Tensors:
    """Zeros of these shapes."""
    return {name: torch.zeros(tuple(shape), device=device) for name, shape in shapes.items()}
