"""An image backbone that runs on the best backend there is, and answers as the backbone that it is made from."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros import __version__
from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone, check_images
from geoseg_ros.backbones.onnx import OnnxBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines import export
from geoseg_ros.runtime.engines import onnx_backbone as surround
from geoseg_ros.runtime.engines.build import ExportJob, run_in_child, spec_from_notes
from geoseg_ros.runtime.engines.cache import CacheEntry, EngineCache, EngineKey
from geoseg_ros.runtime.engines.choose import open_session
from geoseg_ros.runtime.engines.export import ANY_SHAPE, IMAGE_OUTPUTS, ImageShapes, image_ranges, need_packages
from geoseg_ros.runtime.engines.options import TENSORRT, EngineOptions
from geoseg_ros.runtime.engines.session import EngineError, Session
from geoseg_ros.runtime.engines.sessions_torch import TorchSession
from geoseg_ros.runtime.engines.spec import EngineSpec

LEAST_COSINE = {"fp16": 0.995, "fp32": 0.9999}
"""Mean over tokens, between those of an engine and of the backbone that it is made from."""


class EngineBackbone:
    """:class:`~geoseg_ros.backbones.base.ImageBackbone` whose tokens come from a session. Name and hash are those of the backbone
    inside, so that its packs stay valid. The tokens are on the processor.

    What the session cannot take (pictures of a size that it was not built for) the backbone inside takes over, on the processor; and
    everything, once no session works any more.

    Args:
        inner: on the processor. session: None: everything is left to ``inner``.
        reason: one line: which backend, and why.
        strict: an error of the session is raised.
        tell: gets a line when a size does not fit, and when the last session has failed; once each.

    Attributes:
        reason: see above.
        outside: pictures that were of a size for which the session was not built.
    """

    def __init__(
        self,
        inner: ImageBackbone,
        session: Session | None,
        reason: str,
        strict: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name, self.stride, self.dim = inner.name, inner.stride, inner.dim
        self.hash, self.supervision = inner.hash, inner.supervision
        self.inner, self.reason, self.outside = inner, reason, 0
        self._failure = ""
        self._session, self._strict, self._tell = session, strict, tell
        self._close: Callable[[], object] = lambda: None
        if session is not None:
            self._close = weakref.finalize(self, _close, session)  # backbones are shared; the last that lets go frees the memory
            self._close.atexit = False

    @property
    def backend(self) -> str:
        """What runs the network now, such as ``onnxruntime-cpu``."""
        if self._session is not None:
            return self._session.backend
        return "onnxruntime-cpu" if isinstance(self.inner, OnnxBackbone) else "torch-cpu"

    @property
    def trouble(self) -> str:
        """What has failed since and was replaced, in one line, or empty."""
        return self._failure or getattr(self._session, "trouble", "")

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`geoseg_ros.backbones.base.ImageBackbone.tokens`.

        Raises:
            EngineError: the session has failed, and ``strict``.
        """
        check_images(images, self.stride)
        done: list[tuple[torch.Tensor, torch.Tensor]] = []
        while (start := sum(len(part[0]) for part in done)) < len(images):
            done.append(self._some(images[start:]))
        tokens, vectors = (torch.cat(parts) for parts in zip(*done, strict=True))
        return tokens, vectors

    def _some(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and vectors of the first images, as many as go at once."""
        if self._session is None:
            return self.inner.tokens(images)
        spec = self._session.spec
        part = images[: _most(spec, images.shape)]
        if not len(part):
            if not self.outside:
                size = f"{images.shape[2]}x{images.shape[1]}"
                self._tell(f"{self.backend}: not built for pictures of {size}; these are left to the processor")
            self.outside += len(images)
            return self.inner.tokens(images)
        try:
            answer = self._session.run({spec.inputs[0].name: torch.from_numpy(part.astype(np.float32))})
        except EngineError as error:
            if self._strict:
                raise
            failed, self._session = self.backend, None
            self._failure = f"{failed} failed ({' '.join(str(error).split())}); going on with {self.backend}"
            self._tell(self._failure)
            self._close()
            return self.inner.tokens(images)
        tokens, vectors = (answer[name].cpu() for name in spec.outputs)
        return tokens, vectors


def _close(session: Session) -> None:
    with contextlib.suppress(RuntimeError):  # of a device that is gone
        session.close()


def _most(spec: EngineSpec, shape: tuple[int, ...]) -> int:
    """How many of the pictures [V, H, W, 3] go at once; 0 where their size is none that the engine is for."""
    counts = [min(shape[0], ranges[0].maximum[0]) for ranges in spec.profiles]
    return max((count for count in counts if spec.holds({spec.inputs[0].name: (count, *shape[1:])})), default=0)


class ImageSource:
    """:class:`~geoseg_ros.runtime.engines.choose.EngineSource` of an image backbone, whose exports are kept in the cache.

    Args:
        backbone: on the processor.
        shapes: what TensorRT engines are built for; the other backends take any shape.
    """

    def __init__(self, backbone: ImageBackbone, options: EngineOptions, shapes: ImageShapes | None = None) -> None:
        self.backbone, self.options, self.shapes = backbone, options, shapes or ImageShapes()
        self.cache = options.cache or EngineCache(tell=options.tell)

    def entry(self, backend: str, ready: bool = False) -> CacheEntry:
        """The exported network as ``backend`` wants it. TensorRT gets the options' precision, unless the network is a file with its own.

        Args:
            ready: only if it is in the cache.

        Raises:
            InputError: it is not, or cannot be made here. GeosegError: the export failed. Cancelled: it was.
        """
        backbone, options = self.backbone, self.options
        tensorrt, file = backend in TENSORRT, isinstance(backbone, OnnxBackbone)
        precision = options.precision if tensorrt and not file else "fp32"
        shapes = asdict(self.shapes if tensorrt else ANY_SHAPE)
        key = EngineKey("image", "onnx", {"backbone": backbone.hash, "precision": precision, "shapes": shapes, "code": _code(backbone)})
        if (entry := self.cache.find(key)) is not None:
            return entry
        if ready:
            raise InputError(f"'{backbone.name}' is not exported yet")
        need_packages("onnx", *([] if file else ["onnxscript"]))
        job = ExportJob(backbone.name, backbone.hash, precision, shapes)
        return self.cache.get_or_build(
            key, lambda folder: run_in_child(job, folder, options.progress, options.cancel), options.progress, options.cancel
        )

    def spec(self, backend: str, ready: bool = False) -> EngineSpec:
        """See :class:`~geoseg_ros.runtime.engines.choose.EngineSource`."""
        entry = self.entry(backend, ready)
        return spec_from_notes(entry.notes["spec"], entry.folder)

    def torch_session(self, device: torch.device) -> Session:
        """See :class:`~geoseg_ros.runtime.engines.choose.EngineSource`."""
        if not isinstance(self.backbone, TorchBackbone):
            raise InputError(f"backbone '{self.backbone.name}': none of PyTorch's")
        ranges = image_ranges(self.backbone, ANY_SHAPE)
        spec = EngineSpec("image", Path(), ranges, IMAGE_OUTPUTS, "fp32", self.backbone.name)
        return TorchSession(spec, self.backbone.module, device)

    def check(self, session: Session) -> None:
        """See :class:`~geoseg_ros.runtime.engines.choose.EngineSource`. An engine that was built wrongly says nothing of it."""
        usual = session.spec.profiles[-1][0]
        shape = (usual.minimum[0], *usual.optimum[1:])
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = self.backbone.tokens(picture)[0].cpu()
        found = session.run({usual.name: torch.from_numpy(picture.astype(np.float32))})[session.spec.outputs[0]].cpu()
        alike = float(torch.nn.functional.cosine_similarity(found, expected, -1).mean()) if found.shape == expected.shape else float("nan")
        if not alike >= LEAST_COSINE[session.precision]:
            raise GeosegError(f"{session.backend} {session.precision} does not answer as '{self.backbone.name}' does (cosine {alike:.4f})")


def image_shapes(side: int) -> ImageShapes:
    """For pictures whose longer side is ``side`` pixels in the network. Up to the usual size it is one and the same engine."""
    usual = ImageShapes()
    if side <= usual.height[2]:
        return usual
    return replace(usual, height=(*usual.height[:2], side), width=(*usual.width[:2], side))


def _code(backbone: ImageBackbone) -> str:
    """Digest of the code that exports: a new version of it may write another network."""
    digest = hashlib.sha256(__version__.encode())
    for module in (export, surround, sys.modules[type(backbone).__module__]):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def with_engine(backbone: ImageBackbone, options: EngineOptions, shapes: ImageShapes | None = None) -> EngineBackbone:
    """A backbone on the backend that ``options`` ask for.

    Args:
        backbone: on the processor, as :func:`~geoseg_ros.backbones.registry.open_backbone` gives it.
        shapes: pictures that TensorRT engines are built for.

    Raises:
        InputError: the backend that was asked for cannot be used here. GeosegError: it failed, and nothing else is allowed.
        Cancelled: it was.
    """
    options.on_gpu()
    if not isinstance(backbone, (TorchBackbone, OnnxBackbone)):
        if options.strict and options.backend not in ("auto", "torch"):
            raise InputError(f"backend {options.backend}: backbone '{backbone.name}' cannot be exported")
        return EngineBackbone(backbone, None, "torch-cpu (the backbone cannot be exported)")
    try:
        session, reason = open_session(ImageSource(backbone, options, shapes), options)
    except InputError as error:
        if options.strict or not isinstance(backbone, OnnxBackbone):
            raise
        return EngineBackbone(backbone, None, f"onnxruntime-cpu, picture by picture ({error})")
    return EngineBackbone(backbone, session, reason, options.strict, options.tell)
