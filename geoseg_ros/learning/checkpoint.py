"""Files of tensors with a JSON head, and the checkpoints of trainings.

Files are safetensors, written atomically: a kill at any time leaves the old file or the new one. Nothing in them is executed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path

Tensors = dict[str, torch.Tensor]

LARGEST = 16 << 30  # bytes
FORMAT = 1
HEAD = "geoseg_network"  # name of the JSON head in the file's metadata


def write_tensors(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, torch.Tensor], head: Mapping[str, object]) -> None:
    """Write a file atomically; the same content gives the same bytes.

    Args:
        path: file to write.
        kind: of the content, in a word or two; the reader checks it.
        tensors: by name, on any device; copied, so they may share memory.
        head: further JSON values.
    """
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}
    text = json.dumps({"format": FORMAT, "kind": kind, **head}, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(plain, str(temporary), {HEAD: text})


def read_tensors(path: str | os.PathLike[str], kind: str, largest: int = LARGEST) -> tuple[Tensors, dict[str, Any]]:
    """Read a file of :func:`write_tensors`.

    Returns:
        the tensors on the processor, and the head.

    Raises:
        InputError: absent, larger than ``largest`` bytes, damaged, of another kind or a newer format.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected one of kind '{kind}' (.safetensors)")
    if file.stat().st_size > largest:
        raise InputError(f"{file}: {file.stat().st_size >> 20} MiB, expected at most {largest >> 20} MiB")
    try:
        with safe_open(str(file), "pt") as archive:
            head = dict(json.loads((archive.metadata() or {})[HEAD]))
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}
        found, version = str(head["kind"]), int(head["format"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a file of kind '{kind}', or a damaged one ({type(error).__name__})") from None
    if version > FORMAT:
        raise InputError(f"{file}: format {version} is newer than this version of geoseg_ros reads ({FORMAT}); update it")
    if found != kind:
        raise InputError(f"{file}: expected a file of kind '{kind}', got '{found}'")
    return tensors, head


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors whose names begin with ``prefix`` and a dot, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The inverse of :func:`under`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


@dataclass(frozen=True)
class TrainingState:
    """The state of a training.

    Attributes:
        stage: number of the stage, from 1.
        step: steps of the stage that are done.
        seconds: spent on the stage.
        tensors: by name.
        values: JSON values.
    """

    stage: int
    step: int
    seconds: float
    tensors: Tensors
    values: dict[str, Any]


class Checkpoint:
    """The file with the state of a training, from which it resumes.

    A training that is limited by epochs, not by time, gives the same bytes however often it was killed and resumed. The caller removes the
    file when the result is safe.

    Attributes:
        path: the file.
        found: the state that was in it when this object was made, or None; its tensors are freed by the stage that resumes from it.
    """

    KIND = "training state"

    def __init__(self, path: str | os.PathLike[str], digest: str, every: float = 60.0) -> None:
        """Read the file where there is one.

        Args:
            path: the file.
            digest: of all that the training depends on (settings, data, weights it begins with).
            every: seconds between two states; the end of a stage is always written.

        Raises:
            InputError: the file is something else, damaged, or the state of a training with another digest.
        """
        self.path = Path(path)
        self.found: TrainingState | None = None
        self._digest, self._every = digest, every
        self._written = time.monotonic()
        if not self.path.exists():
            return
        tensors, head = read_tensors(self.path, self.KIND)
        try:
            same = head["digest"] == digest
            self.found = TrainingState(int(head["stage"]), int(head["step"]), float(head["seconds"]), tensors, dict(head["values"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: damaged {self.KIND} ({type(error).__name__})") from None
        if not same:
            raise InputError(f"{self.path}: the state of another training (other settings, data or version); remove it to begin anew")

    @property
    def due(self) -> bool:
        """Whether the time for the next state has come."""
        return time.monotonic() - self._written >= self._every

    def write(self, state: TrainingState) -> None:
        """Replace the file."""
        place = {"digest": self._digest, "stage": state.stage, "step": state.step, "seconds": state.seconds, "values": state.values}
        write_tensors(self.path, self.KIND, state.tensors, place)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """The state of an optimiser: tensors and JSON values by ``<number of the parameter>.<name>``."""
    found = {f"{at}.{name}": value for at, of in optimiser.state_dict()["state"].items() for name, value in of.items()}
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in found.items() if name not in tensors}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors, values: Mapping[str, Any]) -> None:
    """The inverse of :func:`optimiser_state`; rates and other settings stay those that ``optimiser`` was made with."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        at, name = key.split(".", 1)
        state.setdefault(int(at), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
