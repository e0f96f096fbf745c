"""Captured work on a GPU: static buffers, one graph per shape, a stream of its own."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Tensors = dict[str, torch.Tensor]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
GRAPHS = 8
WARM_UP = 2  # runs before a capture, in which libraries choose and load their kernels


class Stream(Protocol):
    """Where work is queued."""

    device: torch.device

    def working(self, *given: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, work is queued here, after what the caller has queued (which made ``given``); afterwards the caller's goes on after
        it."""
        ...

    def hand_over(self, *made: torch.Tensor) -> None:
        """``made`` here, and used by the caller: its memory is not given to others before the caller's work is done."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Something that repeats ``work``, called inside :meth:`working`."""
        ...

    @property
    def handle(self) -> int:
        """The CUDA stream's address."""
        ...


class CudaStream:
    """A CUDA stream other than the default one, on which every launch waits for all others."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @property
    def handle(self) -> int:
        """See :class:`Stream`."""
        return int(self._stream.cuda_stream)

    @contextlib.contextmanager
    def working(self, *given: torch.Tensor) -> Iterator[None]:
        """See :class:`Stream`."""
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        for tensor in given:
            if tensor.is_cuda:
                tensor.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def hand_over(self, *made: torch.Tensor) -> None:
        """See :class:`Stream`."""
        for tensor in made:
            tensor.record_stream(torch.cuda.current_stream(self.device))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See :class:`Stream`."""
        for _ in range(WARM_UP):
            work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph.replay


@dataclass
class Captured:
    """Work that is ready to be repeated. Attributes: inputs, outputs: static buffers; replay: does the work on them."""

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]


class GraphCache:
    """Repeats captured work, one capture per shape; the least recently used is forgotten.

    The number of items (axis 0 of every tensor) is rounded up to a power of two, so that there are few shapes; what is added is not looked
    at, as items do not depend on each other.

    Args:
        capture: makes the work for inputs of the given shapes; called inside ``stream.working()``.
        most: largest number of items for inputs of the given shapes.
        limit: captures that are kept.
    """

    def __init__(
        self, capture: Callable[[dict[str, tuple[int, ...]]], Captured], most: Callable[[Tensors], int], stream: Stream, limit: int = GRAPHS
    ) -> None:
        self._capture, self._most, self._stream, self._limit = capture, most, stream, limit
        self._kept: OrderedDict[Shapes, Captured] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def run(self, inputs: Tensors) -> Tensors:
        """Copies of the outputs for ``inputs``, on the stream's device."""
        count = len(next(iter(inputs.values())))
        padded = bucket(count, self._most(inputs))
        shapes = {name: (padded, *value.shape[1:]) for name, value in inputs.items()}
        with self._stream.working(*inputs.values()):
            work = self._find(shapes)
            for name, value in inputs.items():
                work.inputs[name][:count].copy_(value, non_blocking=True)
            work.replay()
            results = {name: value[:count].clone() for name, value in work.outputs.items()}
        self._stream.hand_over(*results.values())
        return results

    def _find(self, shapes: dict[str, tuple[int, ...]]) -> Captured:
        key: Shapes = tuple(shapes.items())
        if key not in self._kept:
            while len(self._kept) >= self._limit:
                self._kept.popitem(last=False)  # before the next takes memory
            self._kept[key] = self._capture(shapes)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Forget all, and with it their memory."""
        self._kept.clear()


def bucket(count: int, most: int) -> int:
    """The power of two at or above ``count``, but not above ``most``."""
    return max(count, min(1 << max(count - 1, 0).bit_length(), most))


def buffers(shapes: dict[str, Sequence[int]] | dict[str, tuple[int, ...]], device: torch.device) -> Tensors:
    """Zeros of these shapes."""
    return {name: torch.zeros(tuple(shape), device=device) for name, shape in shapes.items()}
