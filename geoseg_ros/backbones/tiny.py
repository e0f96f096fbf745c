"""``geoseg_tiny``: a small convolutional image backbone whose weights ship with the package.

It is trained by :mod:`geoseg_ros.learning.distillation` to reproduce the (centred, projected) tokens of a larger teacher. Fused 3x3
blocks at strides 4 and 8, and at stride 16 bottleneck blocks with channel attention (Hu et al., "Squeeze-and-Excitation Networks",
CVPR 2018), which gives every token the context of the whole picture at little cost. Batch normalisation is folded into the
convolutions for inference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoseg_ros.backbones.base import ConvolutionTokens, ModuleBackbone
from geoseg_ros.backbones.weight_files import digest, read_weights, save_weights
from geoseg_ros.errors import InputError
from geoseg_ros.settings import Settings, setting, with_values

FORMAT = "geoseg_tiny/1"
STRIDE = 16
SHIPPED = Path(__file__).with_name("weights") / "geoseg_tiny.safetensors"


@dataclass(frozen=True)
class TinyConfig(Settings):
    """Shape of the network."""

    widths: tuple[int, int, int, int] = setting((24, 32, 64, 256), "channels at strides 2, 4, 8 and 16", range=(1, 4096))
    depths: tuple[int, int, int] = setting((1, 2, 8), "blocks at strides 4, 8 and 16", range=(0, 100))
    dim: int = setting(128, "width D of a token", range=(1, 4096))


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, and a rectifier where ``relu``."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return torch.relu_(x) if self.relu else x

    def fold(self) -> None:
        """Replace convolution and normalisation by one convolution (evaluation mode only)."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class ChannelAttention(nn.Module):
    """Squeeze and excitation: scale every channel by a function of the mean over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // 4)
        self.excite = nn.Linear(width // 4, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3), dtype=torch.float32).to(x.dtype)  # a sum over all pixels needs more than half precision
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x * weight[:, :, None, None]


class FusedBlock(nn.Module):
    """Residual block: 3x3 to twice the width, 1x1 back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(width, 2 * width, 3), ConvNorm(2 * width, width, 1, relu=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class BottleneckBlock(nn.Module):
    """Residual block: 1x1 to half the width, 3x3, channel attention, 1x1 back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            ConvNorm(width, half, 1), ConvNorm(half, half, 3), ChannelAttention(half), ConvNorm(half, width, 1, relu=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(x + self.body(x))


class GeosegTiny(nn.Module):
    """RGB 0..255 float [V, 3, H, W] (H, W multiples of 16) -> tokens [V, D, H / 16, W / 16]."""

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config or TinyConfig()
        widths, depths = self.config.widths, self.config.depths
        layers: list[nn.Module] = [ConvNorm(3, widths[0], 3, 2)]
        blocks = (FusedBlock, FusedBlock, BottleneckBlock)
        for before, width, depth, block in zip(widths, widths[1:], depths, blocks, strict=False):
            layers.append(ConvNorm(before, width, 3, 2))
            layers.extend(block(width) for _ in range(depth))
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], self.config.dim, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = (images / 127.5).sub_(1.0)
        return self.head(self.body(pixels.to(self.head.weight.dtype)))

    def fold(self) -> GeosegTiny:
        """Fold every batch normalisation into its convolution, in place."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self


@dataclass(frozen=True)
class Projection:
    """The projection from teacher tokens to the student's targets: (token - mean) @ matrix.

    Attributes:
        mean: float32 [C]. matrix: float32 [C, D].
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Project teacher tokens [..., C] to [..., D]."""
        return (tokens - self.mean) @ self.matrix


def channels_last(network: GeosegTiny) -> GeosegTiny:
    """The same network with the memory layout that is fastest on processors and GPUs."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_tiny(path: str | Path, network: GeosegTiny, projection: Projection, info: Mapping[str, object]) -> None:
    """Write an unfolded network and its projection atomically, weights as float16.

    ``info`` is stored as JSON; :class:`TinyBackbone` reads its key ``supervision``.
    """
    tensors = {f"net.{k}": v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    tensors |= {"projection.mean": projection.mean, "projection.matrix": projection.matrix}
    save_weights(path, tensors, FORMAT, config=asdict(network.config), info=dict(info))


def is_tiny(path: Path) -> bool:
    """Whether a file is one of :func:`save_tiny`."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def load_tiny(path: str | Path) -> tuple[GeosegTiny, Projection, dict[str, object], str]:
    """Read a file of :func:`save_tiny`.

    Returns:
        the network (float32, evaluation mode, not folded), its projection, the info, and a hex digest of configuration and weights.

    Raises:
        InputError: absent, damaged, or not such a file.
    """
    with read_weights(path, FORMAT) as (tensors, header):
        network = GeosegTiny(with_values(TinyConfig(), dict(json.loads(header["config"])), f"{path}: config."))
        state = {k.removeprefix("net."): v.float() for k, v in tensors.items() if k.startswith("net.")}
        missing, unexpected = network.load_state_dict(state, strict=False)
        wrong = [k for k in missing if not k.endswith("num_batches_tracked")] + list(unexpected)
        if wrong:
            raise InputError(f"{path}: weights: missing or unknown '{wrong[0]}'")
        projection = Projection(tensors["projection.mean"].float(), tensors["projection.matrix"].float())
        return network.eval(), projection, dict(json.loads(header["info"])), digest(f"{FORMAT} {header['config']}", tensors)


class TinyBackbone(ModuleBackbone):
    """:class:`~geoseg_ros.backbones.base.ImageBackbone` around :class:`GeosegTiny`; the global vector is the mean token."""

    def __init__(self, path: str | Path = SHIPPED, name: str = "geoseg_tiny", device: str | torch.device = "cpu", batch: int = 16) -> None:
        network, _, self.info, self.hash = load_tiny(path)
        self.supervision = str(self.info.get("supervision", "unknown"))
        super().__init__(ConvolutionTokens(channels_last(network.fold())), name, STRIDE, network.config.dim, device, batch)
