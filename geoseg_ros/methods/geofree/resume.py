"""The state of a training as a file, so that one that was killed goes on where it was and ends with the same weights.

The file is replaced as a whole after an epoch, so a kill at any time leaves the old state or the new one. What a training is made from
(settings, sets, extractor) is in it as a digest: a state of another training is refused, not continued.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.methods.geofree.training_config import FitConfig
from geoseg_ros.methods.geofree.training_sets import TrainingSet
from geoseg_ros.nets.dgcnn import Dgcnn

KEY = "geoseg_training"
FORMAT = 1
OPTIMISER = "optimiser"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingState:
    """Attributes:
    stage, epoch: that were finished last; epoch -1: the stage was begun. seconds: spent so far.
    tensors: by name. plain: JSON values.
    """

    stage: int
    epoch: int
    seconds: float
    tensors: Tensors
    plain: dict[str, Any]


def digest(sets: Sequence[TrainingSet], config: FitConfig, extractor: Dgcnn) -> str:
    """Hexadecimal SHA-256 of everything that a training depends on but time limit and device."""
    found = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())

    def add(values: torch.Tensor) -> None:
        found.update(str(tuple(values.shape)).encode() + values.detach().cpu().contiguous().numpy().tobytes())

    for s in sets:
        found.update(s.name.encode())
        for cloud in s.clouds:
            add(torch.from_numpy(cloud.points))
            if cloud.seen is not None:
                add(torch.from_numpy(cloud.seen))
        images = s.images
        for tensor in (images.tokens, images.cls, images.saliency, images.evidence, images.against):
            if tensor is not None:
                add(tensor)
    for value in extractor.state_dict().values():
        add(value)
    return found.hexdigest()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The moments of Adam by ``optimiser.<parameter>.<name>``."""
    return {f"{OPTIMISER}.{at}.{name}": value for at, of in optimiser.state_dict()["state"].items() for name, value in of.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of :func:`optimiser_tensors`, into an optimiser of the same parameters."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        if key.startswith(OPTIMISER + "."):
            _, at, name = key.split(".")
            state.setdefault(int(at), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def write_state(path: str | os.PathLike[str], state: TrainingState, of: str) -> None:
    """Write a state; ``of``: :func:`digest` of its training."""
    head = {"format": FORMAT, "digest": of, "stage": state.stage, "epoch": state.epoch, "seconds": state.seconds, "plain": state.plain}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.tensors.items()}
    write_bytes(path, save(tensors, {KEY: json.dumps(head)}))


def read_state(path: str | os.PathLike[str], of: str) -> TrainingState | None:
    """The state in a file, None where there is no file.

    Raises:
        InputError: the file is something else, damaged, or of another training.
    """
    file = Path(path)
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as archive:
            head = json.loads((archive.metadata() or {})[KEY])
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}
        found, version = str(head["digest"]), int(head["format"])
        state = TrainingState(int(head["stage"]), int(head["epoch"]), float(head["seconds"]), tensors, dict(head["plain"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: no state of a training, or a damaged one ({type(error).__name__})") from None
    if version != FORMAT or found != of:
        raise InputError(f"{file}: the state of another training (other settings, data or version); remove it to begin anew")
    return state
