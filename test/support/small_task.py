"""A task that trains in milliseconds: a small network with normalisation and dropout learns random vectors."""

from __future__ import annotations

import torch
from torch import nn

from geoseg_ros.learning.loop import LoopConfig, Run, Task, train
from geoseg_ros.learning.schedules import cosine, with_warm_up

ITEMS, BATCH = 10, 4


class Objective(nn.Module):
    """Squared error and a second term; ``dropout`` and ``norm`` make the result depend on global random numbers and on buffers."""

    def __init__(self, dropout: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            middle = nn.BatchNorm1d(8) if norm else nn.LayerNorm(8)
            self.body = nn.Sequential(nn.Linear(3, 8), middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        predicted = self.body(batch[0])
        return {"error": (predicted - batch[1]).square().mean(), "size": 0.01 * predicted.square().mean()}


class SmallTask(Task):
    """``events`` are the hooks that were called, (name, step)."""

    def __init__(self, optimiser: str = "adam", dropout: float = 0.3, norm: bool = True) -> None:
        generator = torch.Generator().manual_seed(7)
        self.inputs, self.targets = torch.randn(ITEMS, 3, generator=generator), torch.randn(ITEMS, 2, generator=generator)
        self.model = Objective(dropout, norm)
        self.steps_per_epoch = ITEMS / BATCH
        self.kind = optimiser
        self.events: list[tuple[str, int]] = []
        self.total = 0.0

    def optimiser(self) -> torch.optim.Optimizer:
        groups = [{"params": list(self.model.body[0].parameters()), "lr": 0.02}, {"params": list(self.model.body[1:].parameters())}]
        if self.kind == "sgd":
            return torch.optim.SGD(groups, lr=0.05, momentum=0.9)
        return torch.optim.AdamW(groups, lr=0.01)

    def batch(self, step):
        share = step.share(ITEMS, BATCH)
        rows = torch.tensor([item for _, item in share])
        noise = torch.stack([torch.randn(3, generator=step.generator(place)) for place, _ in share])
        return self.inputs[rows] + 0.1 * noise, self.targets[rows]

    def begin(self, run: Run) -> None:
        self.events.append(("begin", run.step))

    def after_step(self, run: Run) -> None:
        self.total += sum(run.losses.values())

    def after_epoch(self, run: Run) -> None:
        self.events.append(("epoch", run.step))

    def after_saving(self, run: Run) -> None:
        self.events.append(("saved", run.step))

    def end(self, run: Run) -> None:
        self.events.append(("end", run.step))

    def state(self):
        return {"total": torch.tensor(self.total, dtype=torch.float64)}, {"events": len(self.events)}

    def load_state(self, tensors, values) -> None:
        self.total = float(tensors["total"])


CONFIG = LoopConfig(epochs=6, schedule=with_warm_up(cosine(), 3), clip=0.5, average=0.9, seed=3)  # 15 steps


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def train_and_compare(fabric, path: str) -> float:
    """Train without dropout, in the processes of ``fabric``; the largest difference from the weights in a file of one process."""
    task = SmallTask(dropout=0.0, norm=False)
    train(task, CONFIG, fabric)
    expected = torch.load(path, weights_only=True)
    return max(float((value - expected[name]).abs().max()) for name, value in task.model.state_dict().items())
