"""Files with the weights of the networks that ship: safetensors in half precision, with a format and JSON values in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path

Tensors = dict[str, torch.Tensor]


def save_weights(path: str | Path, tensors: Mapping[str, torch.Tensor], form: str, **values: object) -> None:
    """Write weights atomically as float16; ``form`` is the file's format, such as ``geoseg_tiny/1``, ``values`` are stored as JSON."""
    halves = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, str(temporary), {"format": form, **{key: json.dumps(value) for key, value in values.items()}})


@contextmanager
def read_weights(path: str | Path, form: str) -> Iterator[tuple[Tensors, dict[str, str]]]:
    """The tensors (float16) and the header of a file of :func:`save_weights`.

    Raises:
        InputError: the file is absent, damaged or of another format, or what is done with it in the context fails.
    """
    path, network = Path(path), form.partition("/")[0]
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {network} weights (.safetensors)")
    try:
        with safe_open(str(path), framework="pt") as archive:
            header = dict(archive.metadata() or {})
            if header.get("format") != form:
                raise InputError(f"{path}: format: expected '{form}', got '{header.get('format')}'")
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}
        yield tensors, header
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not readable {network} weights ({str(error).splitlines()[0]})") from error


def digest(head: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Hex digest of weights and of ``head``, a text for everything else that the tokens depend on."""
    found = hashlib.sha256(head.encode())
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].numpy().tobytes())
    return found.hexdigest()
