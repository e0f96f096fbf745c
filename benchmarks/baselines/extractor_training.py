"""Pre-training of a point network: it learns to classify families of shapes. With procedural shapes the labels cost nothing.

Augmentation and optimiser are those of the DGCNN classifier that Yang et al. (ICCV 2021) use: anisotropic scale, shift, jitter, label
smoothing, a random number of points, turns about the up axis, SGD with a cosine schedule. Shapes of which only one side is left are added,
because sensors see no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Task, train
from geoseg_ros.learning.schedules import cosine
from geoseg_ros.learning.steps import Step
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.settings import Settings, setting


class LabelledShapes(NamedTuple):
    """Shapes to learn from.

    Attributes:
        points: float32 [n, N, 3], each shape in the unit sphere. normals: float32 [n, N, 3], outward.
        label: int64 [n], the family.
        classes: number of families.
        source: where the shapes are from, in words.
    """

    points: torch.Tensor
    normals: torch.Tensor
    label: torch.Tensor
    classes: int
    source: str


@dataclass(frozen=True)
class PretrainConfig(Settings):
    """One training with SGD (momentum 0.9, weight decay 1e-4, cosine)."""

    epochs: int = setting(250, "passes over the shapes", range=(0, math.inf))
    batch: int = setting(32, "shapes per step", range=(1, 65536))
    subsets: tuple[int, ...] = setting((256, 512, 1024, 2048), "numbers of points that a step may use, drawn at random", range=(1, 1 << 20))
    visible: float = setting(0.5, "share of the shapes of which only the side towards a random viewpoint is kept", range=(0.0, 1.0))
    rate: float = setting(0.1, "learning rate at the start", range=(1e-12, math.inf))
    final_rate: float = setting(1e-3, "learning rate at the end", range=(0.0, math.inf))
    smoothing: float = setting(0.2, "smoothing of the labels", range=(0.0, 1.0))
    neighbours: int = setting(20, "k of the graph", range=(1, 4096))
    seed: int = setting(0, "seed of everything random", range=(0, math.inf))


def augment(points: torch.Tensor, normals: torch.Tensor, count: int, visible: float, generator: torch.Generator) -> torch.Tensor:
    """``count`` points of each shape, disturbed.

    Args:
        points, normals: [B, N, 3], N >= count.
        visible: chance that only points whose normal points towards a random viewpoint are used (repeated where they are too few).

    Returns:
        [B, count, 3].
    """
    batch, total, _ = points.shape

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    direction = F.normalize(torch.randn(batch, 3, generator=generator), dim=1)
    facing = (normals * direction[:, None]).sum(2) > 0
    facing |= (torch.rand(batch, generator=generator) >= visible)[:, None]
    order = (torch.rand(batch, total, generator=generator) + ~facing).argsort(1)  # those that face the viewpoint first, at random
    index = order.gather(1, torch.arange(count) % facing.sum(1, keepdim=True).clamp_min(1))
    chosen = points.gather(1, index[:, :, None].expand(-1, -1, 3))
    angle = uniform(0, 2 * math.pi, batch)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros(batch)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], dim=1).view(batch, 3, 3)
    chosen = chosen @ turn.transpose(1, 2)
    chosen = chosen * uniform(2 / 3, 3 / 2, batch, 1, 3) + uniform(-0.2, 0.2, batch, 1, 3)
    return chosen + (0.01 * torch.randn(chosen.shape, generator=generator)).clamp(-0.02, 0.02)


class _Classification(nn.Module):
    """Cross entropy of the families."""

    def __init__(self, network: Dgcnn, smoothing: float) -> None:
        super().__init__()
        self.network, self.smoothing = network, smoothing

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        points, label = batch
        return {"class": F.cross_entropy(self.network(points).logits, label, label_smoothing=self.smoothing)}


class _Pretraining(Task):
    """The task of :func:`pretrain`."""

    def __init__(self, shapes: LabelledShapes, config: PretrainConfig) -> None:
        self.shapes, self.config = shapes, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = Dgcnn(shapes.classes, config.neighbours, shapes.source)
        self.model = _Classification(self.network, config.smoothing)
        self.steps_per_epoch = max(1, len(shapes.label) // config.batch)

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=self.config.rate, momentum=0.9, weight_decay=1e-4)

    def batch(self, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        shapes, subsets = self.shapes, self.config.subsets
        rows = torch.tensor([item for _, item in step.share(len(shapes.label), self.config.batch)])
        count = min(subsets[int(step.rng().integers(len(subsets)))], shapes.points.shape[1])
        points = augment(shapes.points[rows], shapes.normals[rows], count, self.config.visible, step.generator(step.rank))
        return points, shapes.label[rows]


@torch.inference_mode()
def accuracy(network: Dgcnn, points: torch.Tensor, label: torch.Tensor, batch: int = 32) -> float:
    """Share of point sets [n, N, 3] whose family (int64 [n]) the network names."""
    network.eval()
    guesses = [network(part).logits.argmax(1) for part in points.split(batch)]
    return float((torch.cat(guesses) == label).float().mean())


def pretrain(
    shapes: LabelledShapes,
    held_out: LabelledShapes,
    config: PretrainConfig,
    seconds: float | None = None,
    device: str = "cpu",
    report: Callable[[float], object] | None = None,
) -> tuple[Dgcnn, dict[str, float]]:
    """Train a DGCNN.

    Args:
        shapes: to learn from. held_out: for the scores, other instances of the same families.
        config: settings.
        seconds: wall-clock limit, or None. The learning rate follows whichever of time and epochs is further.
        device: see :func:`~geoseg_ros.learning.fabric.open_fabric`.
        report: called after each step with the progress 0 .. 1.

    Returns:
        the network in evaluation mode on the processor; ``accuracy`` on the held-out shapes, whole and augmented, ``steps``, ``seconds``.
    """
    task = _Pretraining(shapes, config)
    loop = LoopConfig(config.epochs, seconds, cosine(config.final_rate / config.rate), seed=config.seed)
    run = train(task, loop, open_fabric(device), report=None if report is None else lambda run: report(run.progress))
    network = task.network.cpu().eval()
    count = min(1024, held_out.points.shape[1])
    generator = torch.Generator().manual_seed(config.seed + 1)
    disturbed = augment(held_out.points, held_out.normals, count, config.visible, generator)
    scores = {
        "accuracy": accuracy(network, held_out.points[:, :count], held_out.label),
        "accuracy_augmented": accuracy(network, disturbed, held_out.label),
        "steps": float(run.step),
        "seconds": round(run.seconds, 1),
    }
    return network, scores
