"""An exported image network and its embeddings of words, or of its text network, as a teacher (onnxruntime, CPU)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.onnx import OnnxBackbone
from geoseg_ros.backbones.tokens import resize, working_size
from geoseg_ros.errors import InputError


class OnnxTeacher:
    """``onnx:IMAGE_FILE?words=FILE``: dense features by an ONNX file (:class:`~geoseg_ros.backbones.onnx.OnnxBackbone`), and a JSON file
    {word: [D numbers]}; or, with ``text=FILE`` instead of ``words``, an ONNX file from token numbers int64 [n, length] to embeddings [n, D]
    and with ``tokens=FILE`` a JSON file {word: [numbers]}. Options ``side`` (pixels of the longer side, 448), ``norm`` and ``licence``.

    Raises:
        InputError: a file that is absent, of another kind, or of another width than the image network.
    """

    text, scale = True, 100.0

    def __init__(self, rest: str, name: str) -> None:
        file, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        known = ("words", "text", "tokens", "side", "norm", "licence")
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(f"teacher '{name}': option '{unknown[0]}': expected one of {', '.join(known)}")
        if ("words" in options) == ("text" in options and "tokens" in options):
            raise InputError(f"teacher '{name}': expected words=FILE, or text=FILE and tokens=FILE")
        side = options.get("side", "448")
        if not side.isdecimal() or not 64 <= int(side) <= 4096:
            raise InputError(f"teacher '{name}': side: expected 64 to 4096, got '{side[:20]}'")
        self._side, self.name = int(side), name
        self._network = OnnxBackbone(f"{file}?norm={options['norm']}" if "norm" in options else file, name)
        self.dim, self.supervision = self._network.dim, self._network.supervision
        self.licence = options.get("licence", "unknown: that of the files given")
        digest = hashlib.sha256(f"{self._network.hash} {side}".encode())
        self._rows = _table(Path(options["words" if "words" in options else "tokens"]), digest)
        self._session: Any = None
        if "text" in options:
            digest.update(_bytes(Path(options["text"])))
            self._session = _session(Path(options["text"]))
        self.hash = digest.hexdigest()
        self.encode_text([next(iter(self._rows))])  # the widths fit, or it is said now

    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """See the protocol."""
        height, width = self._network.sides
        free = working_size(image.shape[0], image.shape[1], self._side, self._network.stride)
        small = resize(image, height or free[0], width or free[1])
        return F.normalize(self._network.tokens(small[None])[0][0], dim=-1)

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """See the protocol."""
        unknown = [name for name in names if name not in self._rows]
        if unknown:
            raise InputError(f"teacher '{self.name}': has no embedding of '{unknown[0][:60]}'; it has {len(self._rows)} words")
        try:
            rows = np.array([self._rows[name] for name in names], np.float32 if self._session is None else np.int64)
            if self._session is not None:
                rows = self._session.run(None, {self._session.get_inputs()[0].name: rows})[0]
        except Exception as error:  # onnxruntime raises its own types
            raise InputError(f"teacher '{self.name}': text: {str(error).splitlines()[0][:150]}") from error
        if rows.shape != (len(names), self.dim) or not np.isfinite(rows).all():
            raise InputError(
                f"teacher '{self.name}': text: expected {self.dim} finite numbers a word, as the image network has, got {rows.shape[1:]}"
            )
        return F.normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path.read_bytes()


def _table(path: Path, digest: Any) -> dict[str, list[float]]:
    data = _bytes(path)
    digest.update(data)
    try:
        found = json.loads(data)
    except (UnicodeDecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(row, list) for row in found.values()):
        raise InputError(f"{path}: expected a JSON object with a list of numbers for each word")
    return found


def _session(path: Path) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise InputError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0][:150]})") from error
