"""The interface of every image backbone."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class ImageBackbone(Protocol):
    """Frozen image network.

    Attributes:
        name: as given by the user, e.g. ``geoseg_tiny``.
        stride: pixels per token side; image sides must be multiples of it.
        dim: width D of a token.
        hash: hex digest of weights and preprocessing; a concept pack made with another one is refused.
        supervision: description of the labels that the network was trained with.
    """

    name: str
    stride: int
    dim: int
    hash: str
    supervision: str

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patch features of uint8 RGB images [V, H, W, 3].

        Returns:
            float32 tokens [V, H / stride, W / stride, D] and the global vector [V, D] (the class token where the
            network has one, else the mean token). Not normalised.
        """
        ...


class TokenModule(nn.Module):
    """Pixels in, tokens out, as one torch module that can be exported: float32 [V, H, W, 3], RGB 0..255 -> float32 tokens
    [V, H / stride, W / stride, D] and global vectors [V, D].

    Attributes:
        network: takes the prepared pixels; it may have another precision. Everything around it stays float32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def precision(self) -> torch.dtype:
        """Of the network's weights."""
        return next(self.network.parameters()).dtype


class ConvolutionTokens(TokenModule):
    """:class:`TokenModule` around a network that takes float32 [V, 3, H, W], RGB 0..255, and gives tokens [V, D, H / stride, W / stride];
    the global vector is the mean token."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.network(images.permute(0, 3, 1, 2)).float().permute(0, 2, 3, 1)
        return tokens, tokens.mean((1, 2))


@runtime_checkable
class TorchBackbone(ImageBackbone, Protocol):
    """A backbone whose network is PyTorch's. Attributes: module: the whole of it, on the backbone's device."""

    module: TokenModule


class ModuleBackbone:
    """Base class of PyTorch backbones: :meth:`ImageBackbone.tokens` by a module, in batches.

    Args:
        module: in evaluation mode.
        name: as given by the user.
        stride, dim: of its tokens.
        device: torch device.
        batch: images per batch.
    """

    def __init__(self, module: TokenModule, name: str, stride: int, dim: int, device: str | torch.device, batch: int) -> None:
        self.name, self.stride, self.dim, self.batch = name, stride, dim, batch
        self.device = torch.device(device)
        self.module = module.requires_grad_(False).eval().to(self.device)

    def tokens(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ImageBackbone.tokens`."""
        check_images(images, self.stride)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).split(self.batch)
        with torch.inference_mode():
            parts = [self.module(part.to(self.device, torch.float32)) for part in pixels]
        tokens, vectors = (torch.cat(p) for p in zip(*parts, strict=True))
        return tokens, vectors


def check_images(images: NDArray[np.uint8], stride: int) -> None:
    """Raise ValueError unless ``images`` is uint8 [V >= 1, H, W, 3] with sides that are multiples of ``stride``."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[0] == 0:
        raise ValueError(f"images: expected uint8 [V, H, W, 3] with V >= 1, got {images.dtype} {list(images.shape)}")
    height, width = images.shape[1:3]
    if height % stride or width % stride or not height or not width:
        raise ValueError(f"images: sides must be multiples of {stride}, got {height} x {width}")
