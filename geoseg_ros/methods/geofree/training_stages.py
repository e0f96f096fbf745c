"""The three stages of a training of the co-segmentation network, as tasks of the training loop.

As read in the learning rates of GeoFree-CoSeg: 1. the 2D branch alone on L_s; 2. the 3D branch, samplers, graph, fusion and heads on frozen
images; 3. everything. Each step takes one set, and the prototypes of the others are negatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.learning.checkpoint import Tensors, below, under
from geoseg_ros.learning.loop import Run, Task
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.geofree.bank import spread
from geoseg_ros.methods.geofree.collapse_checks import check_collapse, turned_about_z
from geoseg_ros.methods.geofree.inputs import ImageTokens, stack
from geoseg_ros.methods.geofree.model import CosegNetwork, Pooled
from geoseg_ros.methods.geofree.objective import image_step, joint_step
from geoseg_ros.methods.geofree.training_config import FitConfig, StageConfig
from geoseg_ros.methods.geofree.training_history import History
from geoseg_ros.methods.geofree.training_sets import TrainingSet
from geoseg_ros.nets.dgcnn import Dgcnn

CHECKED = 8  # clouds and images of each set that the collapse checks use


class SharedState:
    """What all stages of a training share: the network, the sets on the device, and what is remembered.

    Attributes:
        points, images: of each set by name; points float32 [n, N, 3] or wider.
        prototypes: of each set by name, as of its last step.
        best: criterion and weights of the best network so far, where the configuration chooses by criterion.
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
        self.prototypes: dict[str, Pooled] = {}
        self.history = History()
        self.best: tuple[float, Tensors] = (-math.inf, {})
        self.before = 0.0

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """See :meth:`geoseg_ros.learning.loop.Task.state`."""
        tensors = below("best", self.best[1])
        for at, pooled in enumerate(self.prototypes.values()):
            tensors |= below(f"prototypes.{at}", pooled._asdict())
        values = {"history": self.history.plain(), "best": self.best[0], "prototypes": list(self.prototypes), "before": self.before}
        return tensors, values

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """See :meth:`geoseg_ros.learning.loop.Task.load_state`."""
        self.best = float(values["best"]), {name: value.to(self.device) for name, value in under("best", tensors).items()}
        self.history, self.before = History.of(values["history"]), float(values["before"])
        for at, name in enumerate(values["prototypes"]):
            parts = under(f"prototypes.{at}", tensors)
            self.prototypes[str(name)] = Pooled(*(parts[part].to(self.device) for part in Pooled._fields))

    def check(self, stage: int, epoch: int) -> None:
        """Check for a collapse; keep the weights if they are the best by the criterion."""
        found = []
        for name in self.names:
            images, points = self.images[name], self.points[name]
            some = images.select(spread(len(images), CHECKED))
            found.append(check_collapse(self.network, points[spread(len(points), CHECKED)], some))
            self.history.checks.append((stage, epoch, name, found[-1]))
        if self.config.checkpoint == "last":
            self.history.kept = (stage, epoch)
            return
        score = sum(c.criterion for c in found) / len(found)
        if score > self.best[0]:
            self.best = score, {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.history.kept = (stage, epoch)


class Stage(Task):
    """What stages have in common."""

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
    """L_s of a group of images."""

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

    def begin(self, run: Run) -> None:
        self.shared.history.flipped = self._saliency_sign(), False

    def end(self, run: Run) -> None:
        super().end(run)
        history = self.shared.history
        history.flipped = history.flipped[0], self._saliency_sign()
        history.kept = 1, len(history.epochs)

    def _saliency_sign(self) -> bool:
        """Invert the masks if the images are less salient inside than outside; whether it did."""
        mgcm = self.network.mgcm
        if self.config.sign == "none" or self.config.network.mgcm.signal == "contrast":
            return False
        gain = 0.0
        with torch.inference_mode():
            for images in self.shared.images.values():
                group = images.select(spread(len(images), self.config.group))
                score, _ = mgcm.correlate(mgcm.channels(group.tokens), group.cls, evidence=group.evidence)
                mask = mgcm.mask(score)
                inside, outside = ((group.saliency * m).sum(1) / m.sum(1).clamp_min(1e-6) for m in (mask, 1 - mask))
                gain += float((inside - outside).mean())
        if gain < 0:
            mgcm.flip()
        return gain < 0


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
        negatives = Pooled(*(torch.cat(parts) for parts in zip(*foreign, strict=True))) if foreign else None
        result = joint_step(self.network, batch.points, batch.images, batch.generator, self.train_images, negatives)
        if result.pooled is not None:
            means = (F.normalize(F.normalize(x.detach(), dim=1).mean(0, keepdim=True), dim=1) for x in result.pooled)
            self.prototypes[batch.name] = Pooled(*means)
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
        between = {id(p) for part in network.between() for p in part.parameters()} if config.fusion_rate != 1 else set()
        others = [p for p in network.parameters() if p.requires_grad and id(p) not in image_side | between]
        groups = [{"params": others, "lr": stage.rate}]
        if between:
            groups.append({"params": [p for p in network.parameters() if id(p) in between], "lr": config.fusion_rate * stage.rate})
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
