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
_FORM, _MEAN = "geoseg_encoder/1", "mean"


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """An encoder and what its features mean.

    Attributes:
        network: in evaluation mode, on the processor.
        backbone: hash of the image backbone whose tokens it gives.
        mean: float32 [D], removed from tokens before they were learnt.
        hash: of weights and settings.
        info: how it was trained; JSON values.
    """

    network: PointEncoder
    backbone: str
    mean: torch.Tensor
    hash: str
    info: Mapping[str, Any]


def save_encoder(path: str | os.PathLike[str], network: PointEncoder, backbone: str, mean: torch.Tensor, info: Mapping[str, Any]) -> None:
    """Write an encoder in half precision, atomically; arguments as in :class:`TrainedEncoder`."""
    save_weights(Path(path), {**network.state_dict(), _MEAN: mean}, _FORM, network=network.config, backbone=backbone, info=dict(info))


def load_encoder(path: str | os.PathLike[str] = DEFAULT) -> TrainedEncoder:
    """Read an encoder.

    Raises:
        InputError: absent, damaged, or of another format.
    """
    with read_weights(Path(path), _FORM) as (tensors, header):
        mean, config, backbone = tensors.pop(_MEAN).float(), json.loads(header["network"]), json.loads(header["backbone"])
        name = digest(json.dumps([config, backbone, mean.tolist()], sort_keys=True), tensors)
        network = PointEncoder(**config)
        network.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
        if mean.shape != (network.dim,) or not all(v.isfinite().all() for v in (mean, *network.state_dict().values())):
            raise InputError(f"{path}: damaged encoder, a value is not finite or the mean token has another width")
        return TrainedEncoder(network.eval(), str(backbone), mean, name, json.loads(header.get("info", "{}")))


def is_encoder(path: Path) -> bool:
    """Whether a file is an encoder."""
    try:
        load_encoder(path)
    except InputError:
        return False
    return True
