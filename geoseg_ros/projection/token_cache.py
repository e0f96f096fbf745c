"""Tokens, and whatever else long work gives, on disk: named by what they were computed from."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud

Worked = dict[str, torch.Tensor]
Remember = Callable[[str, Any, Callable[[], Worked]], Worked]
"""Returns the result of some work, from what is done, the item (an array or a :class:`Cloud`) and the work itself."""

_SUFFIX = ".safetensors"
_ABANDONED = 3600.0  # seconds after which a temporary file is not written to any more


def uncached(step: str, item: Any, work: Callable[[], Worked]) -> Worked:
    """A :data:`Remember` that keeps nothing."""
    return work()


class TokenCache:
    """A folder of results, one file each, named by a hash of what they were computed from: a changed item or setting finds nothing.

    A command keeps one until it is done, so that it goes on from there when it was interrupted (:meth:`done` removes it). With a bound on
    its size the folder can stay: the results that were not used for longest go first. Several processes may share it.

    The cache is a help, not a duty: what cannot be read is computed again, and after a file that cannot be written nothing more is kept.

    Args:
        folder: made when the first result is kept.
        about: everything but the item that results depend on; its ``repr`` must show it.
        limit: bytes of all files together; None: no bound.

    Attributes:
        trouble: why nothing more is kept; empty while all is well.
    """

    def __init__(self, folder: Path, about: object, limit: int | None = None) -> None:
        self.folder = folder
        self.trouble = ""
        self._about = repr(about).encode()
        self._limit = limit

    @classmethod
    def of_backbone(cls, folder: Path, backbone: ImageBackbone, about: object, limit: int) -> TokenCache:
        """A cache that stays, of results that depend on an image backbone (by the hash of its weights) and on ``about``."""
        return cls(folder, (backbone.hash, about), limit)

    def remember(self, step: str, item: NDArray | Cloud, work: Callable[[], Worked]) -> Worked:
        """The result of ``work`` on ``item``, from the folder where it is there.

        Args:
            step: what is done with the item, and all that it depends on beside it.
            item: its content is part of the name of the result.
            work: called where the folder has no result.
        """
        path = self.folder / f"{self._key(step, item)}{_SUFFIX}"
        try:
            result = load(path.read_bytes())
        except (OSError, SafetensorError):
            pass
        else:
            with suppress(OSError):  # a folder that can only be read
                os.utime(path)  # used just now
            return result
        result = work()
        if not self.trouble:
            self._keep(path, save({name: tensor.contiguous() for name, tensor in result.items()}))
        return result

    def done(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, path: Path, data: bytes) -> None:
        if self._limit is not None and len(data) > self._limit:
            return
        try:
            write_bytes(path, data)
            if self._limit is not None:
                self._shrink(self._limit, path)
        except OSError as error:
            self.trouble = f"{self.folder}: cannot keep what was worked out so far: {error.strerror}"
            if self._limit is None:
                self.done()  # on a full disk the command's output needs the place

    def _shrink(self, limit: int, newest: Path) -> None:
        """Remove the results that were not used for longest, until the rest fits; ``newest`` stays."""
        files = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process was faster
                found = path.stat()
                if not path.name.startswith("."):
                    files.append((found.st_mtime_ns, found.st_size, path))
                elif time.time() - found.st_mtime > _ABANDONED:  # what a process that was killed was writing
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= limit:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size

    def _key(self, step: str, item: NDArray | Cloud) -> str:
        digest = hashlib.sha256()
        for text in (self._about, step.encode()):
            digest.update(len(text).to_bytes(8, "little") + text)
        parts = (item.xyz, item.rgb) if isinstance(item, Cloud) else (item,)
        digest.update(repr([None if a is None else (a.dtype.str, a.shape) for a in parts]).encode())
        digest.update(repr(item.shape).encode())
        for array in parts:
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:40]
