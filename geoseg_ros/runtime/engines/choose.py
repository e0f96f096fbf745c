"""Which backend runs a network: the best that works here, or the requested one; and what can replace it when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from geoseg_ros import __version__
from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import Cancelled
from geoseg_ros.runtime.engines import build, export, trt
from geoseg_ros.runtime.engines.cache import CacheEntry, EngineCache, EngineKey
from geoseg_ros.runtime.engines.options import ORDER, TENSORRT, EngineOptions
from geoseg_ros.runtime.engines.sessions import OnnxRuntimeSession, PlanError, Session, TensorRTSession, TorchSession, onnxruntime_for
from geoseg_ros.runtime.engines.spec import ANY_SHAPE, IMAGE_OUTPUTS, EngineSpec, ImageShapes, image_ranges

LEAST_COSINE = {"fp16": 0.995, "fp32": 0.9999}
"""Mean over tokens, between those of an engine and of the backbone that it is made from."""

Candidate = tuple[str, str]
"""Backend and device."""


class ImageSource:
    """An image backbone that sessions can be made of. Its exports are kept in the cache.

    Args:
        backbone: On the processor.
        options: Precision of TensorRT engines, cache, progress and cancel.
        shapes: What TensorRT engines are built for; the other backends take any shape.
    """

    def __init__(self, backbone: ImageBackbone, options: EngineOptions, shapes: ImageShapes | None = None) -> None:
        self.backbone, self.options, self.shapes = backbone, options, shapes or ImageShapes()
        self.cache = options.cache or EngineCache(log=options.log)

    def entry(self, backend: str, ready: bool = False) -> CacheEntry:
        """The exported network for ``backend``. TensorRT gets the options' precision, unless the network is a file with its own.

        Args:
            backend: One of :data:`ORDER`.
            ready: Only if it is in the cache.

        Raises:
            InputError: It is not, or cannot be made here.
            GeosegError: The export failed.
            Cancelled: ``options.cancel`` was set.
        """
        backbone, tensorrt, module = self.backbone, backend in TENSORRT, isinstance(self.backbone, TorchBackbone)
        precision = self.options.precision if tensorrt and module else "fp32"
        shapes = self.shapes if tensorrt else ANY_SHAPE
        fields = {"backbone": backbone.hash, "precision": precision, "shapes": asdict(shapes), "code": _code(backbone)}
        key = EngineKey("image", "onnx", fields)
        if (entry := self.cache.find(key)) is not None:
            return entry
        if ready:
            raise InputError(f"'{backbone.name}' is not exported yet")
        export.need_packages("onnx", *(["onnxscript"] if module else []))
        return build.exported_backbone(backbone, key, precision, shapes, self.options)

    def spec(self, backend: str, ready: bool = False) -> EngineSpec:
        """The exported network for ``backend``; see :meth:`entry`."""
        return build.spec_in(self.entry(backend, ready))

    def torch_session(self, device: torch.device) -> Session:
        """The network in PyTorch. Raises InputError where it is an ONNX file."""
        if not isinstance(self.backbone, TorchBackbone):
            raise InputError(f"backbone '{self.backbone.name}': not a PyTorch network")
        ranges = image_ranges(self.backbone, ANY_SHAPE)
        return TorchSession(EngineSpec("image", Path(), ranges, IMAGE_OUTPUTS, "fp32", self.backbone.name), self.backbone.module, device)

    def check(self, session: Session) -> None:
        """Run a new session once, as an engine that was built wrongly does not report it.

        Raises:
            GeosegError: It fails, or its tokens differ from the backbone's.
        """
        usual = session.spec.profiles[-1][0]
        images = np.random.default_rng(0).integers(0, 256, (usual.minimum[0], *usual.optimum[1:]), dtype=np.uint8)
        expected = self.backbone.tokens(images)[0].cpu()
        found = session.run({usual.name: torch.from_numpy(images.astype(np.float32))})[session.spec.outputs[0]].cpu()
        alike = float(torch.nn.functional.cosine_similarity(found, expected, -1).mean()) if found.shape == expected.shape else float("nan")
        if not alike >= LEAST_COSINE[session.precision]:
            name = self.backbone.name
            raise GeosegError(f"{session.backend} {session.precision}: its tokens differ from those of '{name}' (cosine {alike:.4f})")


def _code(backbone: ImageBackbone) -> str:
    """Digest of the code that exports: a new version of it may write another network."""
    digest = hashlib.sha256(__version__.encode())
    for module in (export, sys.modules[type(backbone).__module__]):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def open_session(source: ImageSource, options: EngineOptions) -> tuple[Session, str, Iterator[Session]]:
    """Open the backend that ``options`` request; where it does not work, and they allow it, the next one of :data:`ORDER`.

    On a machine with a GPU every backend that can use it comes before those on the processor.

    Returns:
        The session; one line with its name and why it was chosen; and the sessions that can replace it at once when it fails, in order
        (nothing is built or exported for them).

    Raises:
        InputError: No backend that is allowed can be used here.
        GeosegError: It could, but failed.
        Cancelled: ``options.cancel`` was set.
    """
    gpu = options.on_gpu()
    candidates = _candidates(options, gpu)
    if not candidates:
        raise InputError(f"backend {options.backend}: needs a CUDA device, which PyTorch does not find")
    why = [] if gpu else ["no GPU"]
    for candidate in candidates:
        try:
            session = _open(candidate, source, options)
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
        return session, f"{session.backend} {session.precision} ({reason})", others
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
            yield _open(candidate, source, EngineOptions(), ready=True)


def _open(candidate: Candidate, source: ImageSource, options: EngineOptions, ready: bool = False) -> Session:
    name, device = candidate
    if name == "torch":
        return source.torch_session(torch.device(device))
    session: Session
    if name in TENSORRT:
        session = _open_tensorrt(name, source, options)
    else:
        onnxruntime_for(device)  # before anything is exported for it
        session = OnnxRuntimeSession(source.spec(name, ready), device)
    try:
        source.check(session)
    except GeosegError:
        session.close()
        raise
    return session


def _open_tensorrt(flavour: str, source: ImageSource, options: EngineOptions) -> Session:
    capability = build.gpu_here()[1]
    if flavour == "tensorrt_rtx" and capability not in trt.RTX_CAPABILITIES:
        raise InputError(f"no engine for compute capability {capability}")
    trt.load_tensorrt(flavour)  # before anything is exported for it
    spec = source.spec(flavour)
    entry = build.built_engine(spec, flavour, options, (capability,))
    try:
        return TensorRTSession(entry.folder / build.PLAN, spec, flavour)
    except (PlanError, OSError):
        # complete, but the driver or the GPU refuses it, or it was just removed: rebuilt once; then it is the backend that does not work
        entry = build.built_engine(spec, flavour, options, (capability,), rejected=entry.id)
        return TensorRTSession(entry.folder / build.PLAN, spec, flavour)
