"""Training of the co-segmentation network on one or more sets.

The stages follow from the learning rates of GeoFree-CoSeg: 1. the 2D branch alone on L_s, omitted if the masks are given; 2. the 3D branch,
samplers, graph, fusion and heads with frozen images; 3. everything. A step uses one set; prototypes of the other sets are negatives. The
loop is :mod:`geoseg_ros.learning.loop`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.learning.affinity import evenly
from geoseg_ros.learning.checkpoint import Checkpoint, Tensors, below, under
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, Task, train
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.geofree.bank import Bank, build_bank
from geoseg_ros.methods.geofree.config import FitConfig, StageConfig
from geoseg_ros.methods.geofree.inputs import ImageTokens, stack
from geoseg_ros.methods.geofree.model import CosegNetwork, ImagePrototypes
from geoseg_ros.methods.geofree.objective import image_step, joint_step
from geoseg_ros.methods.geofree.predict import with_presence_scores
from geoseg_ros.methods.geofree.training_history import History, check_collapse
from geoseg_ros.methods.geofree.training_sets import TrainingSet, apply_control, check_sets, digest
from geoseg_ros.nets.dgcnn import Dgcnn

SAVE_EVERY = 60.0  # seconds between two states of a training that can be resumed
CHECKED = 8  # clouds and images of each set that the collapse checks use


@dataclass(frozen=True)
class Fitted:
    """Result of a training.

    Attributes:
        network: in evaluation mode.
        banks: bank of each set, by its name.
        history: losses and checks of the training.
    """

    network: CosegNetwork
    banks: dict[str, Bank]
    history: History


def fit(
    sets: Sequence[TrainingSet],
    config: FitConfig,
    extractor: Dgcnn,
    seconds: float | None = None,
    device: str = "cpu",
    report: Callable[[float], object] | None = None,
    state: Path | None = None,
    save_every: float = SAVE_EVERY,
) -> Fitted:
    """Train one network on one set, as in the paper, or on several sets.

    On the processor the result is determined by ``config.seed``, unless ``seconds`` limits the training. The presence score of a concept is
    computed against the other concepts that were trained with it.

    Args:
        sets: training sets.
        config: settings of the training.
        extractor: DGCNN; a frozen copy is used.
        seconds: wall-clock limit of all stages, or None. Each stage has its share of it, and makes at least one step.
        device: see :func:`~geoseg_ros.learning.fabric.open_fabric`.
        report: called after each step with the progress 0 .. 1.
        state: file with the state of the training, from which an interrupted training resumes with the same result. The caller removes it.
        save_every: seconds between two states.

    Raises:
        InputError: sets or settings that cannot work; a state that is damaged or of another training.
        GeosegError: the loss is no longer finite.
    """
    check_sets(sets, config)
    given, config = apply_control(sets, config)
    fabric = open_fabric(device)
    shared = SharedState(given, config, extractor, fabric.device)
    checkpoint = None if state is None else Checkpoint(state, digest(given, config, extractor), save_every)
    stages: list[Stage] = [JointStage(shared, 2, config.stage2), JointStage(shared, 3, config.stage3)]
    if config.network.mgcm.signal != "contrast":  # there the masks are given
        stages.insert(0, ImageStage(shared))
    shares, done = sum(task.stage.share for task in stages), 0.0
    for task in stages:
        share = task.stage.share / shares
        limit = None if seconds is None else share * seconds
        loop = LoopConfig(task.stage.epochs, limit, clip=config.clip, seed=config.seed, stage=task.number)
        progress = None if report is None else _part(report, done, share)
        train(task, loop, fabric, checkpoint, progress)
        done += share
    if report is not None:
        report(1.0)
    network = shared.network.eval()
    return Fitted(network, _banks(network, given), shared.history)


def _part(report: Callable[[float], object], done: float, share: float) -> Callable[[Run], object]:
    """Reports the progress of a stage, whose share of the training is ``share``, after ``done`` of the training."""
    return lambda run: report(min(1.0, done + share * run.progress))


def _banks(network: CosegNetwork, sets: Sequence[TrainingSet]) -> dict[str, Bank]:
    """The bank of each set, on the processor, with presence scores. The prototypes of the other sets are among its negatives."""
    banks = {s.name: build_bank(network, s.clouds, s.images) for s in sets}
    objects = {name: bank.object[None] for name, bank in banks.items()}
    for s in sets:
        foreign = [objects[name] for name in objects if name != s.name]
        bank = replace(banks[s.name], negatives=torch.cat([banks[s.name].negatives, *foreign]))
        banks[s.name] = with_presence_scores(network, bank, s.clouds, s.images, s.without_clouds, s.without_images).to("cpu")
    return banks


class SharedState:
    """State that all stages of a training share: the network, the sets on the device, prototypes and history.

    Attributes:
        points: of each set by name, float32 [n, N, 3], or [n, N, 3 + D2] with tokens of views.
        images: of each set by name.
        prototypes: mean prototypes of each set by name, from its last step.
        before: seconds that the earlier stages took.
    """

    def __init__(self, sets: Sequence[TrainingSet], config: FitConfig, extractor: Dgcnn, device: torch.device) -> None:
        self.config, self.device = config, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = CosegNetwork(sets[0].images.tokens.shape[2], config.network, deepcopy(extractor))
        self.network = network.to(device)
        self.names = [s.name for s in sets]
        self.points = {s.name: stack(s.clouds).to(device) for s in sets}
        self.images = {s.name: s.images.to(device) for s in sets}
        self.prototypes: dict[str, ImagePrototypes] = {}
        self.history = History()
        self.before = 0.0

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """See :meth:`geoseg_ros.learning.loop.Task.state`."""
        tensors: Tensors = {}
        for at, pooled in enumerate(self.prototypes.values()):
            tensors |= below(f"prototypes.{at}", pooled._asdict())
        values = {"history": self.history.plain(), "prototypes": list(self.prototypes), "before": self.before}
        return tensors, values

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """See :meth:`geoseg_ros.learning.loop.Task.load_state`."""
        self.history, self.before = History.of(values["history"]), float(values["before"])
        for at, name in enumerate(values["prototypes"]):
            parts = under(f"prototypes.{at}", tensors)
            self.prototypes[str(name)] = ImagePrototypes(*(parts[part].to(self.device) for part in ImagePrototypes._fields))

    def check(self, stage: int, epoch: int) -> None:
        """Check every set for a collapse."""
        for name in self.names:
            images, points = self.images[name], self.points[name]
            some = images.select(evenly(range(len(images)), CHECKED))
            points = points[evenly(range(len(points)), CHECKED)]
            self.history.checks.append((stage, epoch, name, check_collapse(self.network, points, some)))


class Stage(Task):
    """The common part of the stages."""

    def __init__(self, shared: SharedState, number: int, stage: StageConfig) -> None:
        self.shared, self.number, self.stage = shared, number, stage
        self.network, self.config = shared.network, shared.config

    def after_step(self, run: Run) -> None:
        self.network.constrain()

    def after_epoch(self, run: Run) -> None:
        shared, total = self.shared, sum(run.means.values())
        place = {"stage": self.number, "epoch": run.epoch, "seconds": shared.before + run.seconds}
        shared.history.epochs.append({**place, "total": total, **run.means})

    def end(self, run: Run) -> None:
        self.shared.before += run.seconds

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return self.shared.state()

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        self.shared.load_state(tensors, values)


class _ImageObjective(nn.Module):
    """Computes L_s of a group of images."""

    def __init__(self, network: CosegNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: tuple[ImageTokens]) -> dict[str, torch.Tensor]:
        return image_step(self.network, batch[0])


class ImageStage(Stage):
    """Stage 1: the 2D branch alone. A step takes one group of images of one set."""

    def __init__(self, shared: SharedState) -> None:
        super().__init__(shared, 1, shared.config.stage1)
        self.model = _ImageObjective(self.network)
        self.steps_per_epoch = len(shared.names)

    def optimiser(self) -> torch.optim.Optimizer:
        rate, decay = self.stage.image_rate, self.config.weight_decay
        return torch.optim.Adam(list(self.network.mgcm.parameters()), lr=rate, weight_decay=decay, betas=(0.9, 0.99))

    def batch(self, step: Step) -> tuple[ImageTokens]:
        names = self.shared.names
        epoch, at = divmod(step.number, len(names))
        images = self.shared.images[names[int(step.shuffled(epoch, len(names))[at])]]
        return (images.select(_draw(len(images), self.config.group, step.generator())),)


class _JointBatch(NamedTuple):
    """Some clouds of a set, points [B, N, 3] or wider, and some of its images or None; the randomness of the step."""

    name: str
    points: torch.Tensor
    images: ImageTokens | None
    generator: torch.Generator


class _JointObjective(nn.Module):
    """The losses of stages 2 and 3; keeps the prototypes of the set for the steps of the others."""

    def __init__(self, shared: SharedState, train_images: bool) -> None:
        super().__init__()
        self.network, self.train_images = shared.network, train_images
        self.prototypes = shared.prototypes

    def forward(self, batch: _JointBatch) -> dict[str, torch.Tensor]:
        foreign = [pooled for name, pooled in self.prototypes.items() if name != batch.name]
        negatives = ImagePrototypes(*(torch.cat(parts) for parts in zip(*foreign, strict=True))) if foreign else None
        result = joint_step(self.network, batch.points, batch.images, batch.generator, self.train_images, negatives)
        if result.pooled is not None:
            means = (F.normalize(F.normalize(x.detach(), dim=1).mean(0, keepdim=True), dim=1) for x in result.pooled)
            self.prototypes[batch.name] = ImagePrototypes(*means)
        return result.terms


class JointStage(Stage):
    """Stage 2 or 3. A step takes some clouds of one set, and as many of its images as configured."""

    def __init__(self, shared: SharedState, number: int, stage: StageConfig) -> None:
        super().__init__(shared, number, stage)
        self.model = _JointObjective(shared, number == 3)
        loss = self.config.network.loss
        self.needs_images = self.network.fused or loss.sem != 0 or loss.obj != 0 or number == 3
        self.parts = {name: self._parts(len(points)) for name, points in shared.points.items()}
        self.steps_per_epoch = sum(self.parts.values())
        self.checked = -1  # last epoch of this stage that was checked

    def _parts(self, count: int) -> int:
        """Batches of a pass over ``count`` clouds: of nearly equal size, at least 2 clouds each."""
        return max(1, min(-(-count // self.config.batch), count // 2))

    def optimiser(self) -> torch.optim.Optimizer:
        network, stage, config = self.network, self.stage, self.config
        network.mgcm.requires_grad_(stage.image_rate > 0)
        image_side = {id(p) for p in network.mgcm.parameters()}
        others = [p for p in network.parameters() if p.requires_grad and id(p) not in image_side]
        groups = [{"params": others, "lr": stage.rate}]
        if stage.image_rate > 0:
            groups.append({"params": list(network.mgcm.parameters()), "lr": stage.image_rate})
        return torch.optim.Adam(groups, lr=stage.rate, weight_decay=config.weight_decay)

    def batch(self, step: Step) -> _JointBatch:
        epoch, at = divmod(step.number, int(self.steps_per_epoch))
        plan = [(name, part) for name, parts in self.parts.items() for part in range(parts)]
        name, part = plan[int(step.shuffled(epoch, len(plan))[at])]
        whole, images, generator = self.shared.points[name], self.shared.images[name], step.generator()
        rows = torch.tensor(step.shuffled(epoch, len(whole))).tensor_split(self.parts[name])[part]
        points = whole[rows.to(whole.device)]
        if self.config.rotate:
            points = turned_about_z(points, torch.rand(len(points), generator=generator).to(points.device) * 2 * math.pi)
        chosen = images.select(_draw(len(images), self.config.images, generator)) if self.needs_images else None
        return _JointBatch(name, points, chosen, generator)

    def after_epoch(self, run: Run) -> None:
        super().after_epoch(run)
        if (run.epoch + 1) % self.config.check_every == 0:
            self._check(run.epoch)

    def end(self, run: Run) -> None:
        super().end(run)
        if run.step and self.checked < run.epoch:
            self._check(run.epoch)
        self.network.mgcm.requires_grad_(True)

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        super().load_state(tensors, values)
        self.checked = max((epoch for at, epoch, _, _ in self.shared.history.checks if at == self.number), default=-1)

    def _check(self, epoch: int) -> None:
        self.shared.check(self.number, epoch)
        self.checked = epoch


def _draw(high: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` different indices below ``high``, or all where they are fewer, in random order."""
    return torch.randperm(high, generator=generator)[:count]


def turned_about_z(points: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Points [B, N, 3] turned about z by angles [B] in radians; further channels stay as they are."""
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    x, y = points[:, :, 0], points[:, :, 1]
    return torch.cat([torch.stack([c * x - s * y, s * x + c * y], dim=2), points[:, :, 2:]], dim=2)
