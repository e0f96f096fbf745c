"""Every backend of the image network: whether its results agree, how fast it is, and how far it is from the limit of the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks.gpu.measure import Peaks, Row, Work, count_work, device_memory, measure_peaks, peak_memory, percentiles, table
from benchmarks.gpu.parity import LEAST, LEAST_HALF, Agreement, compare
from geoseg_ros.backbones.base import TorchBackbone
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime.engines.backbone import EngineBackbone
from geoseg_ros.runtime.engines.choose import ImageSource, open_session
from geoseg_ros.runtime.engines.options import ORDER, PRECISIONS, TENSORRT, EngineOptions
from geoseg_ros.runtime.engines.sessions import Session, TorchSession
from geoseg_ros.runtime.pipeline import Pipeline
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import make_cloud, make_image, make_set_config

SHAPES = ((1, 480, 640), (1, 240, 320), *((count, side, side) for side in (128, 224) for count in (1, 2, 4, 8)))
"""Images V, H, W: photographs, which come alone, and the sizes of batches."""


@dataclass
class Backend:
    """A backend that was opened, or why it was not.

    Attributes:
        name: Of the backend.
        inner: The backbone on the processor.
        session: Runs the network; None where it could not be opened.
        reason: Why it could not.
        held: Bytes of the device that it took, None where that is unknown.
        whole: The backbone around the session.
    """

    name: str
    inner: TorchBackbone
    session: Session | None
    reason: str = ""
    held: int | None = None

    def __post_init__(self) -> None:
        self.whole = EngineBackbone(self.inner, self.session, "", strict=True)


def open_backends(inner: TorchBackbone, device: torch.device) -> Iterator[Backend]:
    """All of them on the processor and, where ``device`` is a GPU, on it, one after the other."""
    places = ["cpu"] if device.type == "cpu" else ["cpu", "cuda"]
    for place in places:
        for name in reversed(ORDER):
            if name in TENSORRT and place == "cpu":
                continue
            for precision in PRECISIONS if name in TENSORRT else ("fp32",):
                yield from _opened(inner, EngineOptions(name, strict=True, device=place, precision=precision))


def _opened(inner: TorchBackbone, options: EngineOptions) -> Iterator[Backend]:
    name, place = options.backend, torch.device(options.device)
    before = device_memory(place)
    try:
        session, reason, _ = open_session(ImageSource(inner, options))
    except (InputError, GeosegError) as error:
        yield Backend(name if name in TENSORRT else f"{name}-{place}", inner, None, " ".join(str(error).split()))
        return
    yield Backend(name if name in TENSORRT else f"{name}-{place}", inner, session, reason, _taken(before, place))
    if session.backend == "torch-cuda":
        half = TorchSession(replace(session.spec, precision="fp16"), inner.module, place)
        yield Backend("torch-cuda", inner, half, reason, None)


def _taken(before: int | None, device: torch.device) -> int | None:
    after = device_memory(device)
    return None if before is None or after is None else max(after - before, 0)


def parity_row(backend: Backend, packs: tuple[str, ...]) -> tuple[Row, Agreement | None]:
    """Masks and labels of a backend against PyTorch on the processor, on rooms of the simulated world."""
    if backend.session is None:
        return [backend.name, "-", "-", "-", backend.reason], None
    set_config = make_set_config("easy")
    sources = [(SeedSource(900 + number, "parity"), name.rpartition("/")[2]) for number, name in enumerate(packs)]
    images = [make_image(source, name, (), set_config).rgb for source, name in sources]
    clouds = [make_cloud(source, name, (), set_config, "depth").cloud for source, name in sources]
    loaded = [Pack.load(name) for name in packs]
    found = compare(Pipeline(backend.inner, loaded), Pipeline(backend.whole, loaded), images, clouds)
    masks, labels = (f"{np.mean(values):.4f}" for values in (found.masks, found.labels))
    precision = backend.session.spec.precision
    verdict = "same" if found.passes(precision) else f"DIFFERS (expected {LEAST if precision == 'fp32' else LEAST_HALF}, {LEAST})"
    return [backend.name, precision, masks, labels, verdict], found


Way = tuple[str, str, Callable[[torch.Tensor], object]]
"""Name, precision, and what runs the network on images that are on the device."""


def plain_ways(inner: TorchBackbone, device: torch.device, on_gpu: bool) -> Iterator[Way]:
    """PyTorch without a session: eager and, ``on_gpu``, in half precision and compiled."""
    whole = copy.deepcopy(inner.module).eval().to(device)
    yield "eager", "fp32", whole
    if on_gpu:
        half = copy.deepcopy(whole)
        half.network.half()
        yield "eager", "fp16", half
        yield "compiled", "fp16", torch.compile(half, fullgraph=True, dynamic=False, mode="max-autotune-no-cudagraphs")


def timing_row(name: str, shape: tuple[int, ...], work: Callable[[], object], least: float, device: torch.device, runs: int) -> Row:
    """Milliseconds, the most that PyTorch held meanwhile, the roofline, and which share of the median that is."""
    times = percentiles(work, device, runs)
    size = f"{shape[0]} x {shape[2]}x{shape[1]}"
    held = peak_memory(device)
    return [name, size, *(f"{1e3 * seconds:.2f}" for seconds in times), held, f"{1e3 * least:.3f}", f"{100 * least / times[0]:.0f} %"]


def timing_rows(inner: TorchBackbone, backends: list[Backend], device: torch.device, runs: int) -> list[Row]:
    """PyTorch's ways, and every session without and with copies from and to numpy arrays."""
    known = {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}
    peaks = {place: measure_peaks(torch.device(place), known[place]) for place in {"cpu", device.type}}
    work: dict[tuple[int, ...], Work] = {shape: count_work(inner.module, torch.zeros(*shape, 3)) for shape in SHAPES}
    rows = []
    with torch.inference_mode():
        for name, precision, module in plain_ways(inner, device, device.type == "cuda"):
            for shape in SHAPES:
                images = torch.full((*shape, 3), 90.0, device=device)
                least = work[shape].least_seconds(peaks[device.type], precision)
                rows.append(timing_row(f"PyTorch {name} {precision}", shape, partial(module, images), least, device, runs))
    for backend in backends:
        if backend.session is not None:
            rows += _session_rows(backend, backend.session, peaks, work, runs)
    return rows


def _session_rows(
    backend: Backend, session: Session, peaks: dict[str, Peaks], work: dict[tuple[int, ...], Work], runs: int
) -> Iterator[Row]:
    device = torch.device("cpu" if backend.name.endswith("-cpu") else "cuda")
    kind = "graph " if backend.name == "torch-cuda" else ""
    for shape in SHAPES:
        name, least = (
            f"{backend.name} {kind}{session.spec.precision}",
            work[shape].least_seconds(peaks[device.type], session.spec.precision),
        )
        given = torch.full((*shape, 3), 90.0, device=device)
        yield timing_row(name, shape, partial(session.run, given), least, device, runs)
        images = np.full((*shape, 3), 90, np.uint8)
        yield timing_row(f"{name}, with copies", shape, partial(backend.whole.tokens, images), least, device, runs)


def backends_report(device: torch.device, packs: tuple[str, ...], runs: int) -> tuple[list[str], list[str]]:
    """Markdown, and the names of backends whose results differ."""
    inner = open_backbone("geoseg_tiny")
    assert isinstance(inner, TorchBackbone)
    backends = list(open_backends(inner, device))
    found = [parity_row(backend, packs) for backend in backends]
    head = ["backend", "precision", "J of masks", "equal labels", "against PyTorch on the processor"]
    lines = ["### Backends", "", *table(head, [row for row, _ in found]), ""]
    lines += [
        f"Opened by {b.name} {b.session.spec.precision}: {b.held / 1e6:.0f} MB of the device." for b in backends if b.session and b.held
    ]
    lines += ["", f"Milliseconds of {runs} runs. Roofline: what a large matrix product or a large copy reached here, with this work.", ""]
    head = ["what", "images", "p50", "p95", "p99", "PyTorch's memory, MB", "roofline", "share"]
    lines += table(head, timing_rows(inner, backends, device, runs))
    for backend in backends:
        if backend.session is not None:
            backend.session.close()
    return lines, [row[0] for row, agreement in found if agreement is not None and not agreement.passes(row[1])]
