"""Results of long work, such as tokens, kept on disk under a name made from their inputs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.scene import Worked

_SUFFIX = ".safetensors"


class TokenCache:
    """A folder of results, one file each, named by a hash of their inputs, so a changed item or setting is computed anew.

    A command keeps it until its work is complete, so that an interrupted run can resume; then the command removes the folder. What cannot
    be read is computed again. After a file that could not be written, nothing more is kept.

    Args:
        folder: made when the first result is kept.
        about: everything else that results depend on; its ``repr`` must show it.

    Attributes:
        trouble: why nothing more is kept; empty while files can be written.
    """

    def __init__(self, folder: Path, about: object) -> None:
        self.folder = folder
        self.trouble = ""
        self._about = repr(about).encode()

    def remember(self, step: str, item: NDArray | Cloud, work: Callable[[], Worked]) -> Worked:
        """The result of ``work`` on ``item``, from the folder where it is there.

        Args:
            step: what is done with the item, and all that it depends on beside it.
            item: its content is part of the name of the result.
            work: called where the folder has no result.
        """
        path = self.folder / f"{self._key(step, item)}{_SUFFIX}"
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError):
            result = work()
        if not self.trouble:
            self._keep(path, save({name: tensor.contiguous() for name, tensor in result.items()}))
        return result

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            write_bytes(path, data)
        except OSError as error:
            self.trouble = f"{self.folder}: cannot keep intermediate results: {error.strerror}"
            shutil.rmtree(self.folder, ignore_errors=True)  # on a full disk the command's output needs the space

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
