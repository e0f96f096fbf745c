"""The two trainings of PointDC as tasks of the training loop: distillation of lifted tokens, and learning of pseudo labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.learning.loop import Run, Task
from geoseg_ros.learning.rooms import Room, draw_sample, first_supervoxels
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.pointdc.config import PointDCConfig
from geoseg_ros.nets.base import PointNetwork

Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]
"""What the network takes; row of each point, int64 [P]; super-voxel of each point, counted through all rooms, int64 [P]."""
IGNORED = -1  # label of super-voxels without a part in the loss


class RoomTask(Task):
    """Draws rooms. A sample's points know their super-voxel by its number among those of all rooms."""

    def __init__(self, model: nn.Module, network: PointNetwork, rooms: Sequence[Room], config: PointDCConfig) -> None:
        self.model, self.network, self.rooms, self.config = model, network, rooms, config
        self.steps_per_epoch = max(len(rooms), config.least) / config.batch
        self.first = first_supervoxels(rooms)

    def batch(self, step: Step) -> Batch:
        """See :data:`Batch`. Points that fall out of the network's grid, or have no super-voxel, are left out."""
        clouds, groups = [], []
        for place, item in step.share(len(self.rooms), self.config.batch):
            sample = draw_sample(self.rooms[item], self.config.augment, step.rng(place))
            clouds.append(self.network.prepare(sample.xyz, sample.rgb))
            groups.append(np.where(sample.supervoxel >= 0, sample.supervoxel + self.first[item], -1))
        batch, group = self.network.collate(clouds), torch.from_numpy(np.concatenate(groups))
        use = (batch.inverse >= 0) & (group >= 0)
        return batch.inputs, batch.inverse[use], group[use]


class Distillation(nn.Module):
    """Cross-modal distillation: network and align layer give the token of a point's super-voxel. The align layer is thrown away.

    Args:
        network: with features of width d.
        target: float32 [S, D], unit token of each super-voxel of all rooms, zeros where there is none.
        loss: ``mse``, mean square error of unit vectors, as PointDC; ``cosine``, 1 - cosine, as LogoSP. They differ by the factor 2 / D.
    """

    def __init__(self, network: nn.Module, dim: int, target: NDArray[np.float32], loss: str) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.align = nn.Linear(dim, target.shape[1])
        self.register_buffer("target", torch.from_numpy(target), persistent=False)
        self.target: torch.Tensor

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        inputs, row, group = batch
        target = self.target[group]
        known = target.abs().sum(dim=1) > 0
        found = F.normalize(self.align(self.network(*inputs)), dim=1)[row[known]]
        distance = 1 - (found * target[known]).sum(dim=1)
        total = distance.sum() / known.sum().clamp_min(1)
        return {"token": total if self.loss == "cosine" else total * 2 / target.shape[1]}


class DistillationTask(RoomTask):
    """Trains :class:`Distillation` with Adam."""

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.distill.rate)


class PseudoLabels(nn.Module):
    """Cross-entropy of kappa times the cosines of points and prototypes, against the labels of the points' super-voxels.

    Attributes:
        prototypes: float32 [C, d]; learnt in the warm-up, fixed after it.
        label: int64 [S] of all rooms' super-voxels, ``IGNORED`` where they have no part.
    """

    def __init__(self, network: nn.Module, classes: int, dim: int, supervoxels: int, kappa: float, learnt: bool) -> None:
        super().__init__()
        self.network, self.kappa = network, kappa
        self.prototypes = nn.Parameter(torch.zeros(classes, dim), requires_grad=learnt)
        self.register_buffer("label", torch.full((supervoxels,), IGNORED))
        self.label: torch.Tensor

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        inputs, row, group = batch
        features = F.normalize(self.network(*inputs), dim=1)
        logits = self.kappa * features @ F.normalize(self.prototypes, dim=1).T
        label = self.label[group]
        total = F.cross_entropy(logits[row], label, ignore_index=IGNORED, reduction="sum")
        return {"class": total / (label != IGNORED).sum().clamp_min(1)}


Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Centroids float32 [C, d], and label of each super-voxel of all rooms, int64 [S]."""


class ClusterTask(RoomTask):
    """Trains :class:`PseudoLabels` with SGD.

    Args:
        cluster: finds classes anew by the network as it is. Called with the progress of the training (0 .. 1) before the first step, and
            then every ``every`` epochs.
        every: epochs; 0: before the first step only.
    """

    model: PseudoLabels

    def __init__(
        self,
        model: PseudoLabels,
        network: PointNetwork,
        rooms: Sequence[Room],
        config: PointDCConfig,
        cluster: Callable[[float], Found],
        every: int = 0,
    ) -> None:
        super().__init__(model, network, rooms, config)
        self._cluster, self._every = cluster, every

    def optimiser(self) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, lr=self.config.cluster.rate, momentum=0.9, dampening=0.1, weight_decay=1e-4)

    def begin(self, run: Run) -> None:
        self._renew(run)

    def after_epoch(self, run: Run) -> None:
        if self._every and (run.epoch + 1) % self._every == 0 and run.progress < 1:
            self._renew(run)

    def _renew(self, run: Run) -> None:
        centroids, label = self._cluster(run.progress)
        with torch.no_grad():
            self.model.prototypes.copy_(torch.from_numpy(centroids))
            self.model.label.copy_(torch.from_numpy(label))


def stepped(decay: float, steps_per_epoch: float, every: int = 5) -> Callable[[int, float], float]:
    """Schedule: the rate times ``decay`` every ``every`` epochs."""

    def factor(step: int, progress: float) -> float:
        return float(decay ** (int(step / steps_per_epoch) // every))

    return factor
