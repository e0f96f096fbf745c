"""The training loop.

A :class:`Task` defines what is trained: a module whose forward pass gives named losses, its optimiser, and the batch of each step.
:func:`train` handles budget, learning rate, gradients, moving average, checkpoints, progress and processes. A training of several stages is
several calls with one checkpoint.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.learning.checkpoint import Checkpoint, Tensors, TrainingState, below, load_optimiser, optimiser_state, under
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.schedules import Schedule, constant
from geoseg_ros.learning.steps import Step
from geoseg_ros.settings import Settings, setting

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class LoopConfig(Settings):
    """How a task is trained. It ends after ``epochs`` or ``seconds``, whichever comes first, and makes at least one step.

    Attributes:
        schedule: factor of the learning rate over the training.
    """

    epochs: float | None = setting(None, "passes over the data; 0: nothing is trained; none: limited by seconds", range=(0.0, math.inf))
    seconds: float | None = setting(None, "wall-clock limit; none: limited by epochs", unit="s", range=(0.0, math.inf))
    schedule: Schedule = constant
    clip: float | None = setting(None, "largest norm of the gradient; none: not limited", range=(0.0, math.inf))
    average: float | None = setting(
        None,
        "decay of a moving average of weights and buffers, lower at first: (n + 1) / (n + 10) after n steps; none: no average",
        range=(0.0, 1.0),
    )
    seed: int = setting(0, "of everything random", range=(0, math.inf))
    stage: int = setting(1, "number of this stage in the checkpoint", range=(1, math.inf))
    prefetch: int = setting(1, "batches prepared ahead, each in its own thread; the result does not depend on it", range=(1, 64))


@dataclass
class Run:
    """Progress of a training, for the hooks of a task.

    Attributes:
        step: steps that are done. epoch: of the last step, from 0.
        progress: 0 .. 1, by steps or by time, whichever is further. seconds: spent, breaks not counted.
        losses: named losses of the last step. means: their means over the epoch so far.
        average: copy of the task's model with the averaged weights, in evaluation mode, or None.
    """

    step: int = 0
    epoch: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    average: nn.Module | None = None


class Task(ABC):
    """A training task. A subclass sets the attributes, makes optimiser and batches, and overrides the hooks that it needs.

    Attributes:
        model: ``model(batch)`` gives named losses, scalars whose sum is minimised. It contains everything that is trained. Its state
            between steps is in its ``state_dict``, or in :meth:`state`.
        steps_per_epoch: may have a fraction.
    """

    model: nn.Module
    steps_per_epoch: float

    @abstractmethod
    def optimiser(self) -> torch.optim.Optimizer:
        """Optimiser of the model's parameters, called once; the schedule multiplies the rates that it has."""

    @abstractmethod
    def batch(self, step: Step) -> Any:
        """The batch of a step: tensors, or tuples, lists and dictionaries of them. The loop moves them to the device.

        Called ahead of time in another thread, so it depends on ``step`` alone, and draws from it all that is random.
        """

    def begin(self, run: Run) -> None:
        """Before the first step, with the model on its device; not called by a training that goes on from a checkpoint."""

    def after_step(self, run: Run) -> None:
        """After every step."""

    def after_epoch(self, run: Run) -> None:
        """After every epoch, and after the part of one that a limit in seconds leaves. ``run.means`` are those of the epoch."""

    def after_saving(self, run: Run) -> None:
        """After the checkpoint was written, in the first process."""

    def end(self, run: Run) -> None:
        """After the last step and the last checkpoint; of a checkpoint at the end of this stage, again."""

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and JSON values beyond the model's, the same in every process."""
        return {}, {}

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""


def train(
    task: Task,
    config: LoopConfig,
    fabric: Fabric | None = None,
    checkpoint: Checkpoint | None = None,
    report: Callable[[Run], object] | None = None,
) -> Run:
    """Train a task, or one stage of a training.

    Limited by epochs, on the processor and with one number of threads the result is the same byte for byte: from run to run, and however
    often the training was killed and went on from its checkpoint. The caller's random numbers are left alone.

    Args:
        task: what is trained.
        config: how.
        fabric: where; None: one process on the processor.
        checkpoint: where the state is kept. A stage before the one in it is skipped, with all its hooks.
        report: called after each step.

    Returns:
        the end of the run; of a skipped stage an empty one.

    Raises:
        InputError: no limit, or a checkpoint that does not fit. GeosegError: a loss or the gradient is no longer finite.
    """
    if config.epochs is None and config.seconds is None:
        raise InputError("training: expected a limit, epochs or seconds")
    if checkpoint is not None and checkpoint.found is not None and checkpoint.found.stage > config.stage:
        return Run()
    fabric = fabric or open_fabric()
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        return _Loop(task, config, fabric, checkpoint, report).run_to_the_end()


class _Loop:
    """One call of :func:`train`."""

    def __init__(
        self, task: Task, config: LoopConfig, fabric: Fabric, checkpoint: Checkpoint | None, report: Callable[[Run], object] | None
    ) -> None:
        self.task, self.config, self.fabric, self.checkpoint, self.report = task, config, fabric, checkpoint, report
        self.model, self.optimiser = fabric.setup(task.model, task.optimiser())
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.steps = math.inf if config.epochs is None else math.ceil(config.epochs * task.steps_per_epoch - 1e-9)
        self.run = Run()
        self.sums: dict[str, float] = {}
        self.summed = 0  # steps of this epoch so far
        self.average: AveragedModel | None = None

    def run_to_the_end(self) -> Run:
        run, task = self.run, self.task
        checkpoint, found = self.checkpoint, self.checkpoint.found if self.checkpoint is not None else None
        if found is None or found.stage < self.config.stage:
            task.begin(run)
        if self.config.average is not None:
            self.average = AveragedModel(task.model, multi_avg_fn=_mean_with(self.config.average), use_buffers=True).eval()
            run.average = self.average.module
        if checkpoint is not None and found is not None and found.stage == self.config.stage:
            self._load(found, checkpoint.path)
        before, began = run.seconds, time.monotonic()
        self._measure(before, began)
        self.model.train()
        with closing(self._batches(run.step)) as batches:
            while run.step < self.steps and run.progress < 1:
                self._descend(next(batches))
                run.step += 1
                task.after_step(run)
                if self.average is not None:
                    self.average.update_parameters(task.model)
                self._measure(before, began)
                self._finish_epoch()
                self._save()
                if self.report is not None:
                    self.report(run)
        task.end(run)
        return run

    def _batches(self, first: int) -> Generator[Any, None, None]:
        """The batches from step ``first`` on, prepared ahead."""
        waiting: deque[Future[Any]] = deque()
        following = first
        with ThreadPoolExecutor(self.config.prefetch) as pool:
            try:
                while True:
                    while len(waiting) <= self.config.prefetch and following < self.steps:
                        waiting.append(pool.submit(self.task.batch, self._step(following)))
                        following += 1
                    yield self.fabric.to_device(waiting.popleft().result())
            finally:
                for future in waiting:
                    future.cancel()

    def _step(self, number: int) -> Step:
        return Step(number, self.config.seed, self.config.stage, self.fabric.global_rank, self.fabric.world_size)

    def _descend(self, batch: Any) -> None:
        """One step on the sum of the losses."""
        run, optimiser = self.run, self.optimiser
        factor = self.config.schedule(run.step, run.progress)
        for group, rate in zip(optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        torch.manual_seed(self._step(run.step).global_seed)
        losses = self.model(batch)
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        # without a limit nothing is scaled, and the norm still shows whether the gradient is finite
        limit = math.inf if self.config.clip is None else self.config.clip
        norm = self.fabric.clip_gradients(self.model, optimiser, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None  # it is None for the other way of clipping
        values = torch.stack([norm.detach(), *(loss.detach() for loss in losses.values())]).tolist()  # the one wait for the device
        run.losses = dict(zip(losses, values[1:], strict=True))
        if not all(map(math.isfinite, values)):
            bad = ", ".join(name for name, value in run.losses.items() if not math.isfinite(value))
            raise GeosegError(f"training: {f'the loss is no longer finite ({bad})' if bad else 'the gradient is no longer finite'}")
        optimiser.step()

    def _measure(self, before: float, began: float) -> None:
        """Bring time and progress up to date."""
        run, config = self.run, self.config
        run.seconds = before + time.monotonic() - began
        if config.seconds is not None and self.fabric.world_size > 1:  # one clock decides for all
            run.seconds = self.fabric.broadcast(run.seconds)
        by_time = run.seconds / max(config.seconds, 1e-9) if config.seconds is not None and run.step else 0.0
        run.progress = min(1.0, max(run.step / self.steps if self.steps else 1.0, by_time))

    def _finish_epoch(self) -> None:
        """Add the last step to its epoch, and end the epoch where it or the training is over."""
        run, per_epoch = self.run, self.task.steps_per_epoch
        for name, value in run.losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.summed += 1
        run.epoch = math.floor((run.step - 1) / per_epoch + 1e-9)
        run.means = {name: value / self.summed for name, value in self.sums.items()}
        if math.floor(run.step / per_epoch + 1e-9) > run.epoch or run.progress >= 1:
            self.task.after_epoch(run)
            self.sums, self.summed = {}, 0
            self.model.train()

    def _save(self) -> None:
        """Write the checkpoint where it is due, and at the end."""
        checkpoint, run = self.checkpoint, self.run
        if checkpoint is None or not self.fabric.is_global_zero or not (run.progress >= 1 or checkpoint.due):
            return
        moments, numbers = optimiser_state(self.optimiser)
        further, values = self.task.state()
        parts = {"model": self.task.model.state_dict(), "optimiser": moments, "task": further}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        tensors = {name: value for prefix, part in parts.items() for name, value in below(prefix, part).items()}
        plain = {"optimiser": numbers, "task": values, "epoch": run.epoch, "sums": self.sums, "summed": self.summed}
        checkpoint.write(TrainingState(self.config.stage, run.step, run.seconds, tensors, plain))
        self.task.after_saving(run)
        self.model.train()

    def _load(self, found: TrainingState, path: Path) -> None:
        """Go on from a state that was in the file ``path``."""
        run, values = self.run, found.values
        try:
            self.task.model.load_state_dict(under("model", found.tensors))
            load_optimiser(self.optimiser, under("optimiser", found.tensors), values["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(under("average", found.tensors))
            self.task.load_state(under("task", found.tensors), values["task"])
            run.step, run.seconds, run.epoch = found.step, found.seconds, int(values["epoch"])
            self.sums = {str(name): float(value) for name, value in values["sums"].items()}
            self.summed = int(values["summed"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: damaged training state ({' '.join(str(error).split())[:200]})") from None
        found.tensors.clear()  # they are large


def _mean_with(decay: float) -> Callable[[Any, Any, Any], None]:
    """Update of the averaged tensors by the current ones, in place; what cannot be averaged (counters) is copied."""

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor | int) -> None:
        weight = 1 - min(decay, (float(steps) + 1) / (float(steps) + 10))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    return update
