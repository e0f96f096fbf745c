"""Which backend runs a network: the best that works here, or the requested one; and what can replace it when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoseg_ros import __version__
from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import Cancelled, run_job
from geoseg_ros.runtime.engines import build, export, trt
from geoseg_ros.runtime.engines.cache import CacheEntry, EngineCache, EngineKey
from geoseg_ros.runtime.engines.options import ORDER, TENSORRT, EngineOptions
from geoseg_ros.runtime.engines.sessions import OnnxRuntimeSession, PlanError, Session, TensorRTSession, TorchSession, onnxruntime_for
from geoseg_ros.runtime.engines.spec import ANY_SHAPE, EngineSpec, ImageShapes

Candidate = tuple[str, str]
"""Backend and device."""
LEAST_COSINE = {"fp16": 0.995, "fp32": 0.9999}
"""Mean over tokens, between those of an engine and of the backbone that it is made from."""


class ImageSource:
    """An image backbone that engines and sessions can be made of.

    Args:
        backbone: On the processor.
        options: Precision of TensorRT engines, cache, progress and cancel.
        side: Longest side of images in the network, pixels, that TensorRT engines are built for; at least the usual one.
    """

    def __init__(self, backbone: ImageBackbone, options: EngineOptions, side: int = 0) -> None:
        self.backbone, self.options, self.shapes = backbone, options, ImageShapes.up_to(side)
        self.cache = EngineCache(options.cache, log=options.log)

    def exported(self, backend: str, ready: bool = False) -> tuple[CacheEntry, EngineSpec]:
        """The exported network for ``backend``, from the cache; a child process exports it where it is not there. TensorRT gets the
        options' precision, unless the network is a file with its own.

        Args:
            backend: One of :data:`ORDER`.
            ready: Only if it is in the cache.

        Raises:
            InputError: It is not, or cannot be made here.
            GeosegError: The export failed.
            Cancelled: ``options.cancel`` was set.
        """
        backbone, module = self.backbone, isinstance(self.backbone, TorchBackbone)
        precision = self.options.precision if backend in TENSORRT and module else "fp32"
        shapes = self.shapes if backend in TENSORRT else ANY_SHAPE
        fields = {"backbone": backbone.hash, "precision": precision, "shapes": asdict(shapes), "code": _code(backbone)}
        key = EngineKey("onnx", fields)
        if (entry := self.cache.find(key)) is None:
            if ready:
                raise InputError(f"'{backbone.name}' is not exported yet")
            export.need_packages("onnx", *(["onnxscript"] if module else []))
            job = {"backbone": backbone.name, "hash": backbone.hash, "precision": precision, "shapes": asdict(shapes)}
            entry = self._built(key, job)
        return entry, export.spec_of(backbone, entry.folder / f"image-{precision}.onnx", precision, shapes)

    def engine(self, spec: EngineSpec, flavour: str, capabilities: tuple[int, ...] = ()) -> CacheEntry:
        """The TensorRT engine of ``spec`` from the cache; a child process builds it where it is not there.

        Args:
            spec: The exported network.
            flavour: ``tensorrt``: for the GPU that is here. ``tensorrt_rtx``: for ``capabilities``; needs no GPU.
            capabilities: CUDA compute capabilities, such as (86, 89).

        Raises:
            InputError: TensorRT is absent, too old, or cannot build for these.
            GeosegError: The build failed.
            Cancelled: ``options.cancel`` was set.
        """
        version = trt.load_tensorrt(flavour).__version__
        gpu, wanted = (build.gpu_here(), ()) if flavour == "tensorrt" else (None, capabilities)
        key = build.engine_key(spec, flavour, version, gpu, wanted)
        return self._built(key, {"spec": spec.as_json(), "flavour": flavour, "capabilities": key.capabilities})

    def _built(self, key: EngineKey, job: Mapping[str, Any]) -> CacheEntry:
        progress, cancel = self.options.progress, self.options.cancel

        def run(folder: Path) -> Mapping[str, Any]:
            return run_job("engine build", build.__name__, {**job, "folder": str(folder)}, progress, cancel)

        return self.cache.get_or_build(key, run, progress, cancel)

    def torch_session(self, device: torch.device) -> Session:
        """The network in PyTorch. Raises InputError where it is an ONNX file."""
        if not isinstance(self.backbone, TorchBackbone):
            raise InputError(f"backbone '{self.backbone.name}': not a PyTorch network")
        return TorchSession(export.spec_of(self.backbone, Path(), "fp32", ANY_SHAPE), self.backbone.module, device)

    def check(self, session: Session) -> None:
        """Run a new session once, as an engine that was built wrongly does not report it.

        Raises:
            GeosegError: It fails, or its tokens differ from the backbone's.
        """
        usual, precision = session.spec.profiles[-1], session.spec.precision
        images = np.random.default_rng(0).integers(0, 256, (usual.minimum[0], *usual.optimum[1:]), dtype=np.uint8)
        expected = self.backbone.tokens(images)[0].cpu()
        found = session.run(torch.from_numpy(images.astype(np.float32)))[0].cpu()
        alike = float(torch.nn.functional.cosine_similarity(found, expected, -1).mean()) if found.shape == expected.shape else float("nan")
        if not alike >= LEAST_COSINE[precision]:
            name = self.backbone.name
            raise GeosegError(f"{session.backend} {precision}: its tokens differ from those of '{name}' (cosine {alike:.4f})")


def _code(backbone: ImageBackbone) -> str:
    """Digest of the code that exports: a new version of it may write another network."""
    files = (str(sys.modules[name].__file__) for name in (export.__name__, type(backbone).__module__))
    return hashlib.sha256(__version__.encode() + b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def open_session(source: ImageSource) -> tuple[Session, str, Iterator[Session]]:
    """Open the backend that the source's options request; where it does not work, and they allow it, the next one of :data:`ORDER`.

    On a machine with a GPU every backend that can use it comes before those on the processor.

    Returns:
        The session; one line with its name and why it was chosen; and the sessions that can replace it at once when it fails, in order
        (nothing is built or exported for them).

    Raises:
        InputError: No backend that is allowed can be used here.
        GeosegError: It could, but failed.
        Cancelled: ``options.cancel`` was set.
    """
    options = source.options
    gpu = options.on_gpu()
    candidates = _candidates(options, gpu)
    if not candidates:
        raise InputError(f"backend {options.backend}: needs a CUDA device, which PyTorch does not find")
    why = [] if gpu else ["no GPU"]
    for candidate in candidates:
        try:
            session = _open(candidate, source)
        except Cancelled:
            raise
        except (InputError, RuntimeError) as error:  # GeosegError is a RuntimeError, and so is what PyTorch raises
            broken = not isinstance(error, InputError)
            if candidate == candidates[-1] or (broken and options.strict):
                raise
            why.append(f"{candidate[0]}: {' '.join(str(error).split())}")
            if broken:
                options.log(f"{why[-1]}; trying the next backend")
            continue
        reason = "as requested" if candidate[0] == options.backend else "; ".join(why) or "the first choice"
        others = iter(()) if options.strict else _ready(candidate, source, gpu)
        return session, f"{session.backend} {session.spec.precision} ({reason})", others
    raise AssertionError("the last candidate is returned or raises")


def _candidates(options: EngineOptions, gpu: bool) -> list[Candidate]:
    """What is tried, in order."""
    devices = (["cuda"] if gpu else []) + (["cpu"] if not gpu or options.device == "auto" else [])
    usual = [(name, device) for device in devices for name in ORDER if device == "cuda" or name not in TENSORRT]
    if options.backend == "auto":
        return usual
    requested = [candidate for candidate in usual if candidate[0] == options.backend]
    after = [] if options.strict else [c for c in usual if ORDER.index(c[0]) > ORDER.index(options.backend)]
    return requested + after


def _ready(failed: Candidate, source: ImageSource, gpu: bool) -> Iterator[Session]:
    """Sessions that can replace a failed one without being built first. The backbone itself is on the processor already."""
    quick: list[Candidate] = [*([("torch", "cuda")] if gpu else []), ("onnxruntime", "cpu"), ("torch", "cpu")]
    for candidate in quick[quick.index(failed) + 1 if failed in quick else 0 : -1]:
        with contextlib.suppress(InputError, RuntimeError):  # a GPU that is gone fails in PyTorch too
            yield _open(candidate, source, ready=True)


def _open(candidate: Candidate, source: ImageSource, ready: bool = False) -> Session:
    name, device = candidate
    if name == "torch":
        return source.torch_session(torch.device(device))
    session: Session
    if name in TENSORRT:
        session = _open_tensorrt(name, source)
    else:
        onnxruntime_for(device)  # before anything is exported for it
        session = OnnxRuntimeSession(source.exported(name, ready)[1], device)
    try:
        source.check(session)
    except GeosegError:
        session.close()
        raise
    return session


def _open_tensorrt(flavour: str, source: ImageSource) -> Session:
    capability = build.gpu_here()[1]
    if flavour == "tensorrt_rtx" and capability not in trt.RTX_CAPABILITIES:
        raise InputError(f"no engine for compute capability {capability}")
    trt.load_tensorrt(flavour)  # before anything is exported for it
    _, spec = source.exported(flavour)
    entry = source.engine(spec, flavour, (capability,))
    try:
        return TensorRTSession(entry.folder / build.PLAN, spec, flavour)
    except (PlanError, OSError):
        # whole, but the driver or the GPU refuses it, or it was just removed: rebuilt once; then it is the backend that does not work
        source.cache.reject(entry)
        return TensorRTSession(source.engine(spec, flavour, (capability,)).folder / build.PLAN, spec, flavour)
