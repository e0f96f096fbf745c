"""Stage 0: the point feature extractor learns to tell families of procedural shapes apart. The labels cost nothing.

Augmentation and optimiser are those of the DGCNN classifier that Yang et al. use (anisotropic scale, shift, jitter, label smoothing,
random number of points, turns about the up axis, SGD with a cosine schedule); shapes seen from one side only are added, because sensors
see no more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.simulation.families import NAMES
from geoseg_ros.simulation.shapes import shape

SOURCE = "procedural shapes, families as labels"


@dataclass(frozen=True)
class PretrainConfig:
    """Settings.

    Attributes:
        epochs: passes over the shapes. batch: shapes per step.
        shapes, held_out: instances per family for training and for the score.
        points: of a stored shape. subsets: numbers of points a step may use, drawn at random.
        visible: share of the shapes of which only the side towards a random viewpoint is kept.
        rate, final_rate: of SGD (momentum 0.9, weight decay 1e-4, cosine). smoothing: of the labels.
        neighbours: k of the graph.
        seed: of everything random.
    """

    epochs: int = 250
    batch: int = 32
    shapes: int = 60
    held_out: int = 10
    points: int = 2048
    subsets: tuple[int, ...] = (256, 512, 1024, 2048)
    visible: float = 0.5
    rate: float = 0.1
    final_rate: float = 1e-3
    smoothing: float = 0.2
    neighbours: int = 20
    seed: int = 0


def augment(points: torch.Tensor, normals: torch.Tensor, count: int, visible: float, generator: torch.Generator) -> torch.Tensor:
    """``count`` points of each shape, disturbed.

    Args:
        points, normals: [B, N, 3], N >= count.
        visible: chance that only points whose normal looks at a random viewpoint are used (repeated where they are too few).

    Returns:
        [B, count, 3].
    """
    batch, total, _ = points.shape

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    direction = F.normalize(torch.randn(batch, 3, generator=generator), dim=1)
    seen = (normals * direction[:, None]).sum(2) > 0
    seen |= (torch.rand(batch, generator=generator) >= visible)[:, None]
    order = (torch.rand(batch, total, generator=generator) + ~seen).argsort(1)  # the seen ones first, at random
    index = order.gather(1, torch.arange(count) % seen.sum(1, keepdim=True).clamp_min(1))
    chosen = points.gather(1, index[:, :, None].expand(-1, -1, 3))
    angle = uniform(0, 2 * math.pi, batch)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros(batch)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], dim=1).view(batch, 3, 3)
    chosen = chosen @ turn.transpose(1, 2)
    chosen = chosen * uniform(2 / 3, 3 / 2, batch, 1, 3) + uniform(-0.2, 0.2, batch, 1, 3)
    return chosen + (0.01 * torch.randn(chosen.shape, generator=generator)).clamp(-0.02, 0.02)


def make_shapes(per_family: int, points: int, first_seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points and normals [n, points, 3] and families int64 [n] of ``per_family`` instances of every family."""
    made = [shape(family, first_seed + k, points) for family in range(len(NAMES)) for k in range(per_family)]
    xyz, normal = (torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*made, strict=True))
    return xyz, normal, torch.arange(len(NAMES)).repeat_interleave(per_family)


@torch.inference_mode()
def accuracy(network: Dgcnn, points: torch.Tensor, label: torch.Tensor, batch: int = 32) -> float:
    """Share of point sets [n, N, 3] whose family (int64 [n]) the network names."""
    network.eval()
    guesses = [network(part).logits.argmax(1) for part in points.split(batch)]
    return float((torch.cat(guesses) == label).float().mean())


def pretrain(
    config: PretrainConfig, seconds: float | None = None, device: str = "cpu", report: Callable[[float], object] | None = None
) -> tuple[Dgcnn, dict[str, float]]:
    """Train the extractor.

    Args:
        config: settings.
        seconds: wall-clock limit, or None. The learning rate follows whichever of time and epochs is further.
        report: called after each step with the progress 0 .. 1.

    Returns:
        the network in evaluation mode on the processor; ``accuracy`` on held-out instances, whole and augmented, ``steps``, ``seconds``.
    """
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Dgcnn(len(NAMES), config.neighbours, SOURCE).to(device)
        points, normals, label = make_shapes(config.shapes, config.points, 1_000_000)
        optimiser = torch.optim.SGD(network.parameters(), lr=config.rate, momentum=0.9, weight_decay=1e-4)
        per_epoch = max(1, len(label) // config.batch)
        total, step, progress = config.epochs * per_epoch, 0, 0.0
        began = time.monotonic()
        network.train()
        order: list[int] = []
        while progress < 1:
            if len(order) < config.batch:
                order = torch.randperm(len(label), generator=generator).tolist()
            rows, order = torch.tensor(order[: config.batch]), order[config.batch :]
            count = config.subsets[int(torch.randint(len(config.subsets), (1,), generator=generator))]
            batch = augment(points[rows], normals[rows], min(count, config.points), config.visible, generator).to(device)
            for group in optimiser.param_groups:
                group["lr"] = config.final_rate + (config.rate - config.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))
            loss = F.cross_entropy(network(batch).logits, label[rows].to(device), label_smoothing=config.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
            passed = 0.0 if seconds is None else (time.monotonic() - began) / seconds
            progress = min(1.0, max(step / total, passed))
            if report is not None:
                report(progress)
    network = network.cpu().eval()
    held, held_normals, held_label = make_shapes(config.held_out, config.points, 2_000_000)
    count = min(1024, config.points)
    disturbed = augment(held, held_normals, count, config.visible, torch.Generator().manual_seed(config.seed + 1))
    scores = {
        "accuracy": accuracy(network, held[:, :count], held_label),
        "accuracy_augmented": accuracy(network, disturbed, held_label),
        "steps": float(step),
        "seconds": round(time.monotonic() - began, 1),
    }
    return network, scores
