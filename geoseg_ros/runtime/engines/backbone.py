"""An image backbone whose network runs on the best backend there is."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone, check_images
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.options import EngineOptions

if TYPE_CHECKING:
    from geoseg_ros.runtime.engines.sessions import Session


class EngineBackbone:
    """:class:`~geoseg_ros.backbones.base.ImageBackbone` whose tokens come from a session. Name and hash are those of the backbone
    inside, so that its packs stay valid. The tokens are on the processor.

    Images of a size that the session was not built for go to the backbone inside, on the processor. When the session fails, the next of
    ``others`` replaces it; after the last, the backbone inside does all work. The images at which it failed are not lost.

    Args:
        inner: On the processor.
        session: Runs the network; None: ``inner`` does all work.
        reason: One line: which backend, and why.
        strict: An error of the session is raised.
        log: Called with a line when a size does not fit (once), and when a session fails.
        others: What can replace the session, in order; must take no time to open.

    Attributes:
        reason: See above.
        trouble: What has failed and was replaced last, in one line, or empty.
        outside: Number of images of a size for which the session was not built.
    """

    def __init__(
        self,
        inner: ImageBackbone,
        session: Session | None,
        reason: str,
        strict: bool = False,
        log: Callable[[str], None] = lambda line: None,
        others: Iterable[Session] = (),
    ) -> None:
        self.name, self.stride, self.dim = inner.name, inner.stride, inner.dim
        self.hash, self.supervision = inner.hash, inner.supervision
        self.inner, self.reason, self.trouble, self.outside = inner, reason, "", 0
        self._strict, self._log, self._others = strict, log, iter(others)
        self._use(session)

    def _use(self, session: Session | None) -> None:
        self._session = session
        self._close: Callable[[], object] = lambda: None
        if session is not None:
            self._close = weakref.finalize(self, _close, session)  # backbones are shared; the last that lets go frees the memory
            self._close.atexit = False

    @property
    def backend(self) -> str:
        """What runs the network now, such as ``onnxruntime-cpu``."""
        return getattr(self.inner, "backend", "torch-cpu") if self._session is None else self._session.backend

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`geoseg_ros.backbones.base.ImageBackbone.tokens`.

        Raises:
            EngineError: The session has failed, and ``strict``.
        """
        check_images(images, self.stride)
        done: list[tuple[torch.Tensor, torch.Tensor]] = []
        while (start := sum(len(part[0]) for part in done)) < len(images):
            done.append(self._some(images[start:]))
        tokens, vectors = (torch.cat(parts) for parts in zip(*done, strict=True))
        return tokens, vectors

    def _some(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and vectors of the first images, as many as fit into one run."""
        while self._session is not None:
            spec = self._session.spec
            counts = (min(len(images), profile.maximum[0]) for profile in spec.profiles)
            part = images[: max((count for count in counts if spec.profile_of((count, *images.shape[1:])) is not None), default=0)]
            if not len(part):
                if not self.outside:
                    size = f"{images.shape[2]}x{images.shape[1]}"
                    self._log(f"{self.backend}: not built for images of {size}; these are left to the processor")
                self.outside += len(images)
                break
            try:
                tokens, vectors = self._session.run(torch.from_numpy(part.astype(np.float32)))
                return tokens.cpu(), vectors.cpu()
            except GeosegError as error:
                if self._strict:
                    raise
                failed = self.backend
                self._close()
                self._use(next(self._others, None))
                self.trouble = f"{failed} failed ({' '.join(str(error).split())}); going on with {self.backend}"
                self._log(self.trouble)
        return self.inner.tokens(images)


def _close(session: Session) -> None:
    with contextlib.suppress(RuntimeError):  # of a device that is gone
        session.close()


def with_engine(backbone: ImageBackbone, options: EngineOptions, side: int = 0) -> EngineBackbone:
    """A backbone on the backend that ``options`` request.

    Args:
        backbone: On the processor, as :func:`~geoseg_ros.backbones.registry.open_backbone` gives it.
        options: Which backend, and what happens where it does not work.
        side: Longest side of images in the network, pixels, that TensorRT engines are built for; at least 640.

    Raises:
        InputError: The requested backend cannot be used here.
        GeosegError: It failed, and no other is allowed.
        Cancelled: ``options.cancel`` was set.
    """
    from geoseg_ros.backbones.onnx import OnnxBackbone
    from geoseg_ros.runtime.engines.choose import ImageSource, open_session

    options.on_gpu()
    if not isinstance(backbone, (TorchBackbone, OnnxBackbone)):
        if options.strict and options.backend not in ("auto", "torch"):
            raise InputError(f"backend {options.backend}: backbone '{backbone.name}' cannot be exported")
        return EngineBackbone(backbone, None, "torch-cpu (the backbone cannot be exported)")
    try:
        session, reason, others = open_session(ImageSource(backbone, options, side))
    except InputError as error:
        if options.strict or not isinstance(backbone, OnnxBackbone):
            raise
        return EngineBackbone(backbone, None, f"onnxruntime-cpu, image by image ({error})")
    return EngineBackbone(backbone, session, reason, options.strict, options.log, others)
