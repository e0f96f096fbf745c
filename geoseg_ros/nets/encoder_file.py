"""Files of trained encoders of clouds, whose features are tokens of an image backbone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoseg_ros.backbones.weight_files import digest, read_weights, save_weights
from geoseg_ros.errors import InputError
from geoseg_ros.nets.point_encoder import PointEncoder

DEFAULT = Path(__file__).parent / "weights" / "geoseg_encoder.safetensors"
"""The encoder that ships; its tokens are those of the default backbone."""
_FORM, _MEAN, _BACKGROUND = "geoseg_encoder/1", "mean", "background"


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """An encoder and what its features mean.

    Attributes:
        network: in evaluation mode, on the processor.
        backbone: hash of the image backbone whose tokens it gives.
        mean: float32 [D], removed from tokens before they were learnt.
        background: float32 [n, D], unit mean features of object proposals in rooms, which no target should match; n may be 0.
        hash: of weights and settings.
        info: how it was trained; JSON values.
    """

    network: PointEncoder
    backbone: str
    mean: torch.Tensor
    background: torch.Tensor
    hash: str
    info: Mapping[str, Any]


def save_encoder(
    path: str | os.PathLike[str],
    network: PointEncoder,
    backbone: str,
    mean: torch.Tensor,
    info: Mapping[str, Any],
    background: torch.Tensor | None = None,
) -> None:
    """Write an encoder in half precision, atomically; arguments as in :class:`TrainedEncoder`."""
    further = {_MEAN: mean, _BACKGROUND: torch.zeros(0, network.dim) if background is None else background}
    save_weights(Path(path), {**network.state_dict(), **further}, _FORM, network=network.config, backbone=backbone, info=dict(info))


def load_encoder(path: str | os.PathLike[str] = DEFAULT) -> TrainedEncoder:
    """Read an encoder.

    Raises:
        InputError: absent, damaged, or of another format.
    """
    with read_weights(Path(path), _FORM) as (tensors, header):
        config, backbone = json.loads(header["network"]), json.loads(header["backbone"])
        name = digest(json.dumps([config, backbone], sort_keys=True), tensors)
        mean, background = (tensors.pop(key).float() for key in (_MEAN, _BACKGROUND))
        network = PointEncoder(**config)
        network.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
        shapes = mean.shape == (network.dim,) and background.shape[1:] == mean.shape
        if not shapes or not all(value.isfinite().all() for value in (mean, background, *network.state_dict().values())):
            raise InputError(f"{path}: damaged encoder, a value is not finite, or the features have several widths")
        return TrainedEncoder(network.eval(), str(backbone), mean, background, name, json.loads(header.get("info", "{}")))


def is_encoder(path: Path) -> bool:
    """Whether a file is an encoder."""
    try:
        load_encoder(path)
    except InputError:
        return False
    return True
