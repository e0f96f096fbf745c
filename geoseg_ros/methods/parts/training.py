"""Training of the adapter on pseudo labels between pairs of pictures (3D-SC, after DIY-SC): a sparse contrastive and a dense loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from geoseg_ros.errors import InputError
from geoseg_ros.learning.loop import LoopConfig, Run, Task, train
from geoseg_ros.learning.schedules import one_cycle
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.parts.adapter import Adapter, AdapterConfig
from geoseg_ros.progress import Progress, silent
from geoseg_ros.settings import Settings, setting

_HOTTEST = 100.0  # largest scale of the cosines in the contrastive loss


@dataclass(frozen=True)
class AdapterTraining(Settings):
    """How the adapter is trained: one pair of pictures a step."""

    steps: int = setting(1500, "steps, each on one pair", range=(1, 10_000_000))
    labels: int = setting(50, "pseudo labels of each pair and step", range=(2, 10_000))
    rate: float = setting(1e-3, "largest learning rate, reached after 30 % of the steps", range=(0.0, 1.0))
    decay: float = setting(1e-3, "weight decay", range=(0.0, 1.0))
    dropout: float = setting(0.2, "share of the channels of the tokens that are hidden in a step", range=(0.0, 0.95))
    grid: int = setting(30, "cells along a side that features are compared on", range=(4, 256))
    temperature: float = setting(0.02, "of the soft-argmax", range=(1e-4, 10.0))
    window: float = setting(0.25, "side of the window around the best cell that the soft-argmax sees, share of the grid", range=(0.01, 1.0))
    noise: float = setting(0.05, "spread that is added to the labels, share of the object's extent", range=(0.0, 1.0))
    dense: float = setting(1.0, "weight of the dense loss, which is in cells", range=(0.0, 1000.0))
    seed: int = setting(0, "of everything random", range=(0, 2**31))


PRESETS: Mapping[str, AdapterTraining] = {
    "small": AdapterTraining(),
    "paper": AdapterTraining(steps=200_000, rate=5e-3, grid=60),
}


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """Two pictures and K >= 2 pseudo labels.

    Attributes:
        first, second: float32 [h, w, D], tokens of the pictures, as the backbone gives them.
        first_at, second_at: float64 [K, 2], row and column of each label as shares of the side, 0 to 1.
        extents: longer sides of the boxes around the objects, shares of the side.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    first_at: NDArray[np.float64]
    second_at: NDArray[np.float64]
    extents: tuple[float, float]


def train_adapter(
    pairs: Sequence[LabelledPair], config: AdapterTraining | None = None, adapter: AdapterConfig | None = None, progress: Progress = silent
) -> Adapter:
    """Learn an adapter from pseudo labels.

    Args:
        pairs: with at least 2 labels each; all tokens of one width.
        config: how. adapter: sizes; None: one level, features as wide as the tokens, rounded up to a multiple of 128.
        progress: called with every step.

    Raises:
        InputError: no pair, or one without labels.
    """
    config = config or AdapterTraining()
    if not pairs or min(len(pair.first_at) for pair in pairs) < 2:
        raise InputError("adapter: expected pairs of pictures with at least 2 pseudo labels each")
    dim = pairs[0].first.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Adapter(adapter or AdapterConfig((dim,), -(-dim // 128) * 128))
    task = _AdapterTask(pairs, config, model)

    def report(run: Run) -> None:
        progress("adapter", run.step, config.steps)

    train(task, LoopConfig(epochs=1, schedule=one_cycle(), seed=config.seed), report=report)
    return model.eval()


class _AdapterTask(Task):
    def __init__(self, pairs: Sequence[LabelledPair], config: AdapterTraining, adapter: Adapter) -> None:
        self.pairs, self.config = pairs, config
        self.model: nn.Module = _Objective(adapter, config)
        self.steps_per_epoch = config.steps

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self.config.rate, weight_decay=self.config.decay)

    def batch(self, step: Step) -> Any:
        """Tokens [1, D, h, w] of both pictures, places [K, 2] in cells, the noisy places [K, 2] of the second."""
        rng, grid = step.rng(), self.config.grid
        pair = self.pairs[step.share(len(self.pairs), 1)[0][1]]
        tokens, places, extents = [pair.first, pair.second], [pair.first_at, pair.second_at], list(pair.extents)
        if rng.random() < 0.5:
            tokens, places, extents = tokens[::-1], places[::-1], extents[::-1]
        rows = rng.permutation(len(places[0]))[: self.config.labels]
        cells = [torch.from_numpy((at[rows] * grid - 0.5).astype(np.float32)) for at in places]
        noise = rng.normal(0, self.config.noise * extents[1] * grid, (len(rows), 2)).astype(np.float32)
        first, second = (torch.from_numpy(np.ascontiguousarray(t.transpose(2, 0, 1)[None])) for t in tokens)
        return first, second, cells[0], cells[1], cells[1] + torch.from_numpy(noise)


class _Objective(nn.Module):
    def __init__(self, adapter: Adapter, config: AdapterTraining) -> None:
        super().__init__()
        self.adapter, self.config = adapter, config
        self.dropout = nn.Dropout2d(config.dropout)
        self.scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))  # as in CLIP

    def forward(self, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        first, second, at, to, noisy = batch
        grid = (self.config.grid, self.config.grid)
        maps = [interpolate(self.adapter(self.dropout(t)), grid, mode="bilinear", align_corners=False)[0] for t in (first, second)]
        source, target = (values_at(features, places) for features, places in zip(maps, (at, to), strict=True))
        scale = self.scale.exp().clamp(max=_HOTTEST)
        sparse = contrastive(source, target, scale)
        found = window_soft_argmax(source, maps[1], self.config.temperature, self.config.window)
        dense = torch.linalg.vector_norm(found - noisy, dim=1).mean()
        return {"sparse": sparse, "dense": self.config.dense * dense}


def contrastive(source: torch.Tensor, target: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Cross-entropy both ways of K matched features [K, D] against one another (Radford et al. 2021)."""
    logits = scale * source @ target.T
    own = torch.arange(len(source), device=source.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def window_soft_argmax(query: torch.Tensor, features: torch.Tensor, temperature: float, window: float) -> torch.Tensor:
    """Where on a map a feature is, between its cells: the soft-argmax over a window around the best cell; the rest counts nothing.

    Args:
        query: unit [K, D]. features: unit [D, h, w].
        window: side, share of the map's.

    Returns:
        float32 [K, 2], row and column.
    """
    height, width = features.shape[1:]
    score = query @ features.flatten(1)
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    row, column = row.to(score.device), column.to(score.device)
    best = score.argmax(dim=1)
    half = max(1, round(window * max(height, width)) // 2)
    near = ((row - row[best][:, None]).abs() <= half) & ((column - column[best][:, None]).abs() <= half)
    weight = torch.softmax((score / temperature).masked_fill(~near, -torch.inf), dim=1)
    return torch.stack([weight @ row.to(score.dtype), weight @ column.to(score.dtype)], dim=1)


def values_at(features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Unit features [K, D] of a map [D, h, w] at places [K, 2] (row, column), between its cells by bilinear interpolation."""
    size = places.new_tensor(features.shape[1:])
    where = (2 * places + 1) / size - 1
    found = nn.functional.grid_sample(features[None], where.flip(1)[None, None], align_corners=False, padding_mode="border")[0, :, 0].T
    return nn.functional.normalize(found, dim=1)
