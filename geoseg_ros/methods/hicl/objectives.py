"""The losses of HICL as a task of the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.learning.loop import Task
from geoseg_ros.learning.noisy_labels import LabelledView
from geoseg_ros.learning.rooms import Room, draw_sample
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.hicl.attention import Correlation
from geoseg_ros.methods.hicl.config import HICLConfig
from geoseg_ros.methods.hicl.optimiser import TwoOptimisers
from geoseg_ros.methods.hicl.sampling import sample_by_set
from geoseg_ros.nets.base import PointNetwork


class Batch(NamedTuple):
    """P points of the scenes of a step. A pair is a point and a frame that shows it.

    Attributes:
        inputs: of the network. row: int64 [P], its row of each point.
        labels: float32 [P, C], pairs of each point by label. feature: float32 [P, D], sum of the teacher's unit features over its pairs, or
            [0, D] where no head learns them. pairs: float32 [P], their number.
        sampled: int64 [B, M], points for the transformers. xyz: float32 [B, M, 3], metres.
        aggregate, feedback, own: bool [], whether the sampled points are learnt, whether their output is, and whether the network's own
            labels are.
    """

    inputs: tuple[torch.Tensor, ...]
    row: torch.Tensor
    labels: torch.Tensor
    feature: torch.Tensor
    pairs: torch.Tensor
    sampled: torch.Tensor
    xyz: torch.Tensor
    aggregate: torch.Tensor
    feedback: torch.Tensor
    own: torch.Tensor


@dataclass(frozen=True, eq=False)
class TaughtRoom:
    """Attributes: room; views: of it; label: of each view int64 [K], after refinement; vote: float64 [S, C], share of the votes of each
    class in each super-voxel."""

    room: Room
    views: Sequence[LabelledView]
    label: Sequence[NDArray[np.int64]]
    vote: NDArray[np.float64]


class HICLLosses(nn.Module):
    """The network, the transformers over its features, and the losses.

    Args:
        network: with features of the anchors' width.
        anchors: float32 [C, D], unit; fixed.
    """

    anchors: torch.Tensor

    def __init__(self, network: nn.Module, anchors: NDArray[np.float32], config: HICLConfig) -> None:
        super().__init__()
        width = anchors.shape[1]
        self.network, self.config = network, config
        self.correlation = Correlation(width, config.attention)
        self.spatial = nn.Linear(width, width) if config.spatial else None
        self.register_buffer("anchors", torch.from_numpy(anchors), persistent=False)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Of classes [..., C], of features [..., D]."""
        if self.config.logits == "inner":
            return features @ self.anchors.T
        return self.config.scale * F.normalize(features, dim=-1) @ self.anchors.T

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        features = self.network(*batch.inputs)[batch.row]
        logits = self.logits(features)
        count = batch.labels
        if bool(batch.own):
            count = F.one_hot(logits.argmax(dim=1), logits.shape[1]) * count.sum(dim=1, keepdim=True)
        base = {"label": cross_entropy(logits, count)}
        if self.spatial is not None:
            found = F.normalize(self.spatial(features), dim=1)
            agreement = (batch.pairs - (found * batch.feature).sum(dim=1)).sum() / batch.pairs.sum().clamp_min(1)
            base["spatial"] = self.config.spatial * agreement
        further: dict[str, torch.Tensor] = {}
        sampled = features[batch.sampled]
        if bool(batch.aggregate):
            aggregated = self.correlation(sampled, batch.xyz)
            further["refined"] = cross_entropy(self.logits(aggregated).flatten(0, 1), count[batch.sampled].flatten(0, 1))
            if bool(batch.feedback):
                further["feedback"] = self._feedback(sampled, aggregated)
        else:  # every process has a gradient for every parameter
            idle = [parameter.sum() for parameter in self.correlation.parameters()]
            base["label"] = base["label"] + 0 * torch.stack(idle).sum() if idle else base["label"]
        parts = 1 + len(further)  # the average of what is active, where the base is one
        return {name: value / parts for name, value in {**base, **further}.items()}

    def _feedback(self, sampled: torch.Tensor, aggregated: torch.Tensor) -> torch.Tensor:
        """KL divergence of the network's features from the aggregated ones, which do not learn from it."""
        student, teacher = sampled.flatten(0, 1), aggregated.detach().flatten(0, 1)
        if self.config.attention.distribution == "classes":
            student, teacher = self.logits(student), self.logits(teacher)
        return F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")


def cross_entropy(logits: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of pairs, of which ``count`` [P, C] says how many have each label, and ``logits`` [P, C]; 0 without pairs."""
    return -(count * F.log_softmax(logits, dim=1)).sum() / count.sum().clamp_min(1)


class HICLTask(Task):
    """Trains :class:`HICLLosses`."""

    model: HICLLosses

    def __init__(self, model: HICLLosses, network: PointNetwork, rooms: Sequence[TaughtRoom], config: HICLConfig) -> None:
        self.model, self.network, self.rooms, self.config = model, network, rooms, config
        self.steps_per_epoch = max(len(rooms), config.least) / config.batch

    def optimiser(self) -> torch.optim.Optimizer:
        correlation = list(self.model.correlation.parameters())
        apart = {id(parameter) for parameter in correlation}
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in apart]
        settings = self.config.attention
        return TwoOptimisers(others, self.config.rate, self.config.decay, correlation, settings.rate, settings.decay)

    def batch(self, step: Step) -> Batch:
        """See :class:`Batch`. Points that fall out of the network's grid are left out."""
        clouds, parts = [], []
        for place, item in step.share(len(self.rooms), self.config.batch):
            rng = step.rng(place)
            sample = draw_sample(self.rooms[item].room, self.config.augment, rng)
            clouds.append(self.network.prepare(sample.xyz, sample.rgb))
            use = np.flatnonzero(clouds[-1].inverse >= 0)
            parts.append(self._part(self.rooms[item], sample.point[use], sample.xyz[use], rng))
        batch = self.network.collate(clouds)
        first, most = np.cumsum([0, *(len(count) for count, *_ in parts)]), min(len(rows) for *_, rows, _ in parts)
        epoch, settings = step.number / self.steps_per_epoch, self.config.attention
        own = 0 < self.config.switch <= epoch and step.rng(self.config.batch).random() < 0.5  # the same in every process
        aggregate = epoch >= settings.begin and settings.intra + settings.inter > 0
        joined = [torch.from_numpy(np.concatenate([part[k] for part in parts])) for k in range(3)]
        sampled = torch.from_numpy(np.stack([part[3][:most] + start for part, start in zip(parts, first, strict=False)]))
        xyz = torch.from_numpy(np.stack([part[4][:most] for part in parts]))
        flags = [torch.tensor(bool(flag)) for flag in (aggregate, aggregate and 0 < settings.feedback <= epoch, own)]
        row = batch.inverse[batch.inverse >= 0]
        return Batch(batch.inputs, row, joined[0], joined[1], joined[2], sampled, xyz, flags[0], flags[1], flags[2])

    def _part(
        self, taught: TaughtRoom, point: NDArray[np.int64], xyz: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Of the points [n] of one scene: count [n, C], feature [n or 0, D], pairs [n], sampled rows [M] and their places [M, 3]."""
        classes, width = self.model.anchors.shape
        at = np.full(len(taught.room.xyz), -1)
        at[point] = np.arange(len(point))
        count = np.zeros((len(point), classes), np.float32)
        pairs = np.zeros(len(point), np.float32)
        feature = torch.zeros(len(point) if self.config.spatial else 0, width)
        shown = [k for k, item in enumerate(taught.views) if (at[item.view.row] >= 0).any()]
        for k in rng.permutation(shown)[: self.config.pairs.frames]:
            row, label = at[taught.views[k].view.row], taught.label[k]
            use = (row >= 0) & (label >= 0)
            count[row[use], label[use]] += 1  # a view shows a point once
            pairs[row[use]] += 1
            if self.config.spatial:
                feature.index_add_(0, torch.from_numpy(row[use]), taught.views[k].view.at_points()[torch.from_numpy(use)])
        rows = rng.permutation(sample_by_set(taught.room.supervoxel[point], self.config.attention.points, rng))
        return count, feature.numpy(), pairs, rows, xyz[rows]
