"""SGD for one part of a model and AdamW for the other, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class TwoOptimisers(torch.optim.Optimizer):
    """SGD with momentum and dampening (Sutskever et al., ICML 2013, as PyTorch writes it), and AdamW (Loshchilov & Hutter, ICLR 2019).

    Args:
        descended: parameters of SGD, with its ``rate`` and weight ``decay``.
        adapted: parameters of AdamW, with theirs.
    """

    def __init__(
        self,
        descended: Iterable[nn.Parameter],
        rate: float,
        decay: float,
        adapted: Iterable[nn.Parameter],
        adapted_rate: float,
        adapted_decay: float,
        momentum: float = 0.9,
        dampening: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.momentum, self.dampening, self.betas = momentum, dampening, betas
        groups = [{"params": list(descended), "lr": rate, "weight_decay": decay, "adapted": False}]
        others = list(adapted)
        if others:
            groups.append({"params": others, "lr": adapted_rate, "weight_decay": adapted_decay, "adapted": True})
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay as they are."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._adapt if group["adapted"] else self._descend)(parameter, self.state[parameter], group)

    def _descend(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
        if "momentum" not in state:
            state["momentum"] = gradient.clone()
        else:
            state["momentum"].mul_(self.momentum).add_(gradient, alpha=1 - self.dampening)
        parameter.add_(state["momentum"], alpha=-group["lr"])

    def _adapt(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        if "count" not in state:
            state |= {"count": torch.zeros(()), "first": torch.zeros_like(parameter), "second": torch.zeros_like(parameter)}
        state["count"] += 1
        count, (one, two) = float(state["count"]), self.betas
        state["first"].lerp_(parameter.grad, 1 - one)
        state["second"].mul_(two).addcmul_(parameter.grad, parameter.grad, value=1 - two)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        size = (state["second"] / (1 - two**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["first"], size, value=-group["lr"] / (1 - one**count))
