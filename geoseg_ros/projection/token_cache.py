"""What a long command has worked out so far, kept until it is done: interrupted and run again, it goes on from there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud

Worked = dict[str, torch.Tensor]
Remember = Callable[[str, Any, Callable[[], Worked]], Worked]
"""From what is done, the item (an array or a :class:`Cloud`) and the work to the result of the work."""


def uncached(step: str, item: Any, work: Callable[[], Worked]) -> Worked:
    """A :data:`Remember` that remembers nothing."""
    return work()


class TokenCache:
    """A folder of results, one file each, named by what they were worked out from: a changed item or setting finds nothing.

    It is a help, not a duty: what cannot be read is worked out again, and after a file that cannot be written nothing is kept any more.

    Attributes:
        trouble: why nothing more is kept; empty while all is well.
    """

    def __init__(self, folder: Path, about: object) -> None:
        """``about``: everything but the item that results depend on; its ``repr`` must tell."""
        self.folder = folder
        self.trouble = ""
        self._about = repr(about).encode()

    def remember(self, step: str, item: NDArray | Cloud, work: Callable[[], Worked]) -> Worked:
        """The result of ``work`` on ``item``, from the folder where it is there.

        Args:
            step: what is done with the item, and all that it depends on beside it.
        """
        path = self.folder / f"{self._key(step, item)}.safetensors"
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError):
            pass
        result = work()
        if not self.trouble:
            try:
                write_bytes(path, save({name: tensor.contiguous() for name, tensor in result.items()}))
            except OSError as error:
                self.trouble = f"{self.folder}: cannot keep what was worked out so far: {error.strerror}"
                self.done()  # on a full disk the results need the place
        return result

    def done(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

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
