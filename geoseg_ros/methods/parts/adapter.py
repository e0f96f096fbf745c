"""The adapter: frozen tokens to features whose nearest neighbours are the same place of another instance.

One bottleneck block (He et al. 2016: 1x1, 3x3, 1x1) for every level of tokens, their results added with learnt shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import normalize

from geoseg_ros.errors import InputError
from geoseg_ros.settings import Settings, setting

_GROUPS = 32


@dataclass(frozen=True)
class AdapterConfig(Settings):
    """The size of an adapter."""

    dims: tuple[int, ...] = setting((128,), "width of the tokens of each level", range=(1, 65536))
    out: int = setting(128, "width of the features; a multiple of 128", range=(128, 65536))


class Adapter(nn.Module):
    """Tokens to features. Where a level is as wide as the features, the untrained adapter gives its tokens back.

    Args:
        config: sizes.

    Raises:
        InputError: a width that cannot be split into groups, or no level.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        if not config.dims or config.out % 128:
            raise InputError(f"adapter: expected levels and a width that is a multiple of 128, got {config.dims} and {config.out}")
        self.config = config
        self.blocks = nn.ModuleList(_Bottleneck(dim, config.out) for dim in config.dims)
        self.mixing = nn.Parameter(torch.zeros(len(config.dims)))

    def forward(self, *levels: torch.Tensor) -> torch.Tensor:
        """Tokens float32 [B, D_i, h, w] of each level, as the backbone gives them -> unit features [B, out, h, w]."""
        shares = torch.softmax(self.mixing, dim=0)
        return normalize(sum(share * block(levelled(x)) for share, block, x in zip(shares, self.blocks, levels, strict=True)), dim=1)


def levelled(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens [B, D, h, w] without the mean of each picture, scaled to length sqrt(D)."""
    centred = tokens - tokens.mean(dim=(2, 3), keepdim=True)
    return normalize(centred, dim=1) * tokens.shape[1] ** 0.5


def adapter_of(config: AdapterConfig, tensors: dict[str, torch.Tensor]) -> Adapter:
    """The adapter with these weights, in evaluation mode. Raises InputError where they do not fit."""
    adapter = Adapter(config)
    try:
        adapter.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"adapter: its weights do not fit ({str(error).splitlines()[0]})") from None
    return adapter.eval()


def parameters(modules: Sequence[nn.Module]) -> int:
    """Number of trained values."""
    return sum(p.numel() for module in modules for p in module.parameters())


class _Bottleneck(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        inner = out // 4
        self.body = nn.Sequential(
            *(nn.Conv2d(dim, inner, 1, bias=False), nn.GroupNorm(_GROUPS, inner), nn.ReLU()),
            *(nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, inner), nn.ReLU()),
            *(nn.Conv2d(inner, out, 1, bias=False), nn.GroupNorm(_GROUPS, out)),
        )
        self.shortcut = nn.Identity() if dim == out else nn.Sequential(nn.Conv2d(dim, out, 1, bias=False), nn.GroupNorm(_GROUPS, out))
        last = self.body[-1]
        assert isinstance(last, nn.GroupNorm)
        nn.init.zeros_(last.weight)  # begins as the shortcut alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.body(x)
