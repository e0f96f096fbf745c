"""How long work takes on a device, what it holds there, and how long it would take if nothing but arithmetic or memory bounded it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP = 3
Row = list[str]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def table(head: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def settle(device: torch.device) -> None:
    """Wait for a CUDA device and forget what it held at most."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> str:
    """The most that PyTorch held on a CUDA device since :func:`settle`, in MB; "-" on other devices."""
    return f"{torch.cuda.max_memory_allocated() / 1e6:.0f}" if device.type == "cuda" else "-"


def device_memory(device: torch.device) -> int | None:
    """Bytes of a CUDA device that are in use, by whatever library or process; None on other devices."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def seconds_of(work: Callable[[], object], device: torch.device, runs: int) -> list[float]:
    """Of ``runs`` runs, after some that do not count; the device is waited for in every run."""
    times = []
    settle(device)
    for k in range(-WARM_UP, runs):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if k >= 0:
            times.append(time.perf_counter() - start)
    return times


def percentiles(work: Callable[[], object], device: torch.device, runs: int) -> tuple[float, float, float]:
    """p50, p95 and p99 of :func:`seconds_of`."""
    p50, p95, p99 = np.percentile(seconds_of(work, device, runs), (50, 95, 99))
    return float(p50), float(p95), float(p99)


def latency(what: str, work: Callable[[], object], device: torch.device, runs: int) -> Row:
    """A row: milliseconds and the peak of PyTorch's memory."""
    times = percentiles(work, device, runs)
    return [what, *(f"{1e3 * seconds:.1f}" for seconds in times), peak_memory(device)]


@dataclass(frozen=True)
class Peaks:
    """What a device reached here.

    Attributes:
        flops: operations per second of a large matrix product or convolution, whichever is faster, by precision.
        bandwidth: bytes per second, read and written, of a large copy.
    """

    flops: dict[str, float]
    bandwidth: float


def measure_peaks(device: torch.device, precisions: Sequence[str]) -> Peaks:
    """The best of 20 runs of a large matrix product and a large convolution, since libraries differ in which they do better; with TF32
    where the device has it, as convolutions use it."""
    on_gpu = device.type == "cuda"
    side, channels, size = (8192, 1024, 1 << 28) if on_gpu else (768, 256, 1 << 24)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        flops = {}
        for precision in precisions:
            a = torch.ones(side, side, device=device, dtype=DTYPES[precision])
            product = 2 * side**3 / min(seconds_of(partial(torch.matmul, a, a), device, 20))
            image = torch.ones(1, channels, 64, 64, device=device, dtype=DTYPES[precision])
            kernel = torch.ones(channels, channels, 3, 3, device=device, dtype=DTYPES[precision])
            convolved = partial(torch.nn.functional.conv2d, image, kernel, padding=1)
            convolution = 2 * 9 * channels**2 * 64**2 / min(seconds_of(convolved, device, 20))
            flops[precision] = max(product, convolution)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    source = torch.ones(size, device=device, dtype=torch.uint8)
    copying = min(seconds_of(partial(torch.empty_like(source).copy_, source), device, 20))
    return Peaks(flops, 2 * size / copying)


@dataclass(frozen=True)
class Work:
    """What one run must do at least.

    Attributes:
        flops: Operations, 2 per product and sum.
        weights: Numbers in the network.
        values: Numbers in its inputs and outputs, float32.
    """

    flops: int
    weights: int
    values: int

    def least_seconds(self, peaks: Peaks, precision: str) -> float:
        """The roofline: no run is shorter, as far as the peaks are the device's."""
        width = 2 if precision == "fp16" else 4
        return max(self.flops / peaks.flops[precision], (self.weights * width + self.values * 4) / peaks.bandwidth)


@torch.no_grad()
def count_work(module: nn.Module, *inputs: torch.Tensor) -> Work:
    """Work of a module on the processor that returns a tuple of tensors."""
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = module(*inputs)
    values = sum(tensor.numel() for tensor in (*inputs, *outputs))
    return Work(counter.get_total_flops(), sum(p.numel() for p in module.parameters()), values)
