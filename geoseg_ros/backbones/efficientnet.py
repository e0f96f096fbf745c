"""``geoseg_base``: the trunk of EfficientNet-Lite2 with tokens of two of its layers, whose weights ship with the package.

EfficientNet (Tan and Le, ICML 2019) in the "lite" form without channel attention and with clipped rectifiers: inverted residual blocks,
here the first 20. The last stage keeps stride 16 and is dilated instead, so that one pass gives dense tokens (atrous convolution, as
in DeepLab: Chen et al., TPAMI 2018). Batch normalisation is folded into the convolutions before the weights are stored.

Tokens are the outputs of the :data:`TAPS`, projected by a linear head that ``tools/make_geoseg_base.py`` fits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.backbones.base import ConvolutionTokens, ModuleBackbone
from geoseg_ros.backbones.weight_files import digest, read_weights, save_weights

FORMAT = "geoseg_base/1"
STRIDE = 16
DIM = 128
SHIPPED = Path(__file__).with_name("weights") / "geoseg_base.safetensors"

STEM = 32  # channels at stride 2
STAGES = (  # blocks, channels, side of the depthwise kernel, stride, expansion; the last stage's stride becomes its dilation
    (1, 16, 3, 1, 1),
    (3, 24, 3, 2, 6),
    (3, 48, 5, 2, 6),
    (4, 88, 3, 2, 6),
    (4, 120, 5, 1, 6),
    (5, 208, 5, 2, 6),
)
TAPS = (14, 19)  # blocks whose outputs become tokens: the last ones of 120 and of 208 channels


class Convolution(nn.Conv2d):
    """Convolution whose borders are filled as TensorFlow's SAME does for even sides: at stride 2 one row more below than above."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> None:
        missing = dilation * (size - 1) - (stride - 1)
        before, after = missing // 2, missing - missing // 2
        super().__init__(inputs, outputs, size, stride, before if before == after else 0, dilation, groups)
        self.border = (before, after, before, after) if before != after else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if self.border is None else F.pad(x, self.border))


class InvertedResidual(nn.Module):
    """1x1 to a larger width, depthwise, 1x1 to the output width without a rectifier; the input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Convolution(inputs, width, 1) if expansion > 1 else None
        self.depthwise = Convolution(width, width, size, stride, width, dilation)
        self.project = Convolution(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """RGB 0..255 float [V, 3, H, W] (H, W multiples of 16) -> outputs of :data:`TAPS`, each [V, C, H / 16, W / 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2)
        blocks, width, reached = [], STEM, 2
        for count, outputs, size, stride, expansion in STAGES:
            dense = stride > 1 and reached == STRIDE
            for number in range(count):
                step = stride if number == 0 and not dense else 1
                dilation = stride if number and dense else 1  # the first block, which would have reduced the grid, is not dilated
                blocks.append(InvertedResidual(width, outputs, size, step, expansion, dilation))
                width, reached = outputs, reached * step
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(blocks[tap].project.out_channels for tap in TAPS)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = F.relu6(self.stem((images / 127.5 - 1.0).to(self.stem.weight.dtype)))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                found.append(x)
        return found


class GeosegBase(nn.Module):
    """RGB 0..255 float [V, 3, H, W] (H, W multiples of 16) -> tokens [V, 128, H / 16, W / 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Conv2d(sum(self.trunk.widths), DIM, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat(self.trunk(images), 1))


def save_base(path: str | Path, network: GeosegBase, info: Mapping[str, object]) -> None:
    """Write a network atomically, weights as float16. ``info`` is stored as JSON; :class:`BaseBackbone` reads its key ``supervision``."""
    save_weights(path, network.state_dict(), FORMAT, info=dict(sorted(info.items())))


def load_base(path: str | Path) -> tuple[GeosegBase, dict[str, object], str]:
    """Read a file of :func:`save_base`.

    Returns:
        the network (float32, evaluation mode), the info, and a hex digest of the weights.

    Raises:
        InputError: absent, damaged, or not such a file.
    """
    with read_weights(path, FORMAT) as (tensors, header):
        network = GeosegBase()
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
        return network.eval(), dict(json.loads(header["info"])), digest(FORMAT, tensors)


class BaseBackbone(ModuleBackbone):
    """:class:`~geoseg_ros.backbones.base.ImageBackbone` around :class:`GeosegBase`; the global vector is the mean token."""

    def __init__(self, path: str | Path = SHIPPED, name: str = "geoseg_base", device: str | torch.device = "cpu", batch: int = 8) -> None:
        network, self.info, self.hash = load_base(path)
        self.supervision = str(self.info.get("supervision", "unknown"))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fastest on processors and GPUs
        super().__init__(ConvolutionTokens(network), name, STRIDE, DIM, device, batch)
