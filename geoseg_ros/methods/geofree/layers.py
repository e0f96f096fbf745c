"""Layers that several parts share."""

from __future__ import annotations

from torch import nn


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts as the zero map: the last of a residual branch, so that the branch adds nothing before training."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
