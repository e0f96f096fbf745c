"""Training of an encoder of clouds: it learns to say, from the points alone, the image tokens that frames gave to them.

Loss: 1 - cosine of a point's feature and the token of its super-voxel (LogoSP, Zhang et al., CVPR 2025), the mean token of all rooms
removed, as the mean of photographs is from theirs: so features and tokens of pictures can be compared. Each step shows whole rooms, single
depth images and single turns of a LiDAR; the colour of about half of them is hidden.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import Checkpoint
from geoseg_ros.learning.clustering import unit_rows
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, Task, train
from geoseg_ros.learning.schedules import cosine, with_warm_up
from geoseg_ros.learning.sensor_clouds import LearningRoom, SampleConfig, SensorCloud, draw_cloud
from geoseg_ros.learning.steps import Step
from geoseg_ros.nets.base import PreparedCloud, point_features
from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.settings import Settings, section, setting

Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]
"""What the encoder takes; row of each point, int64 [P]; super-voxel of each point, counted through all rooms, int64 [P]."""


@dataclass(frozen=True)
class EncoderConfig(Settings):
    """One training of the encoder; it ends after ``epochs`` or ``minutes``, whichever comes first, and one of the two must be given."""

    epochs: float | None = setting(None, "passes over the rooms", range=(1e-6, math.inf))
    minutes: float | None = setting(None, "wall-clock limit", unit="min", range=(1e-6, math.inf))
    batch: int = setting(4, "clouds per step", range=(1, 65536))
    points: int = setting(2048, "points of a cloud that have a part in the loss", range=(1, 1_000_000))
    rate: float = setting(4e-3, "peak learning rate of AdamW, which follows a cosine to 0", range=(0.0, math.inf))
    warm_up: int = setting(30, "steps of linear warm-up", range=(1, math.inf))
    weight_decay: float = setting(0.01, "weight decay of AdamW", range=(0.0, math.inf))
    average: float = setting(0.99, "decay of the moving average of the weights, which is what is kept", range=(0.0, 1.0))
    sample: SampleConfig = section(SampleConfig, "random changes of a cloud")
    seed: int = setting(0, "of everything random", range=(0, 2**63 - 1))


@dataclass(frozen=True, eq=False)
class Trained:
    """Attributes: encoder: in evaluation mode, on the processor. steps: that were made. minutes: of them. loss: mean of the last epoch."""

    encoder: PointEncoder
    steps: int
    minutes: float
    loss: float


def mean_token(rooms: Sequence[LearningRoom]) -> NDArray[np.float32]:
    """float32 [D], over the super-voxels of all rooms that a frame shows. Drawn or rendered rooms have another one than photographs."""
    tokens = np.concatenate([room.token[room.known] for room in rooms])
    return np.asarray(tokens.astype(np.float64).mean(axis=0), np.float32)


def targets(rooms: Sequence[LearningRoom], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit token without ``mean`` [D] of each super-voxel of all rooms, float32 [S, D]; zeros where no frame shows any."""
    return np.concatenate([unit_rows(room.token - mean) * room.known[:, None].astype(np.float32) for room in rooms])


class CloudDistillation(nn.Module):
    """The encoder and its loss; see :data:`Batch`. ``target``: float32 [S, D], of :func:`targets`."""

    def __init__(self, encoder: PointEncoder, target: NDArray[np.float32]) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("target", torch.from_numpy(target), persistent=False)
        self.target: torch.Tensor

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        inputs, row, group = batch
        found = F.normalize(self.encoder(*inputs)[row], dim=1)
        return {"token": 1 - (found * self.target[group]).sum() / max(len(row), 1)}


class EncoderTask(Task):
    """Draws clouds of rooms. Points of small super-voxels are drawn more often, by the root of their size: walls would be nearly all."""

    model: CloudDistillation

    def __init__(self, encoder: PointEncoder, rooms: Sequence[LearningRoom], mean: NDArray[np.float32], config: EncoderConfig) -> None:
        self.model = CloudDistillation(encoder, targets(rooms, mean))
        self.encoder, self.rooms, self.config = encoder, rooms, config
        self.steps_per_epoch = len(rooms) / config.batch
        self.first = np.cumsum([0, *(len(room.token) for room in rooms)])
        self.average: CloudDistillation | None = None
        self.loss = math.nan

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self.config.rate, weight_decay=self.config.weight_decay)

    def batch(self, step: Step) -> Batch:
        """See :data:`Batch`."""
        clouds: list[PreparedCloud] = []
        rows, groups, start = [], [], 0
        for place, item in step.share(len(self.rooms), self.config.batch):
            rng, room = step.rng(place), self.rooms[item]
            cloud = draw_cloud(room, self.config.sample, rng)
            prepared = self.encoder.prepare(cloud.xyz, cloud.rgb)
            point = self._drawn(cloud, np.append(room.known, False)[cloud.supervoxel] & (prepared.inverse >= 0), rng)
            clouds.append(prepared)
            rows.append(prepared.inverse[point] + start)
            groups.append(cloud.supervoxel[point] + self.first[item])
            start += prepared.rows
        inputs = self.encoder.collate(clouds).inputs
        return inputs, torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(groups))

    def _drawn(self, cloud: SensorCloud, use: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        point = np.flatnonzero(use)
        group = cloud.supervoxel[point]
        chance = np.cumsum(1 / np.sqrt(np.bincount(group)[group])) if len(point) else np.zeros(0)
        count = self.config.points if len(point) else 0
        drawn = np.searchsorted(chance, rng.uniform(0, chance[-1], count)) if count else np.zeros(0, np.int64)
        return point[np.minimum(drawn, len(point) - 1)] if count else point

    def after_epoch(self, run: Run) -> None:
        self.loss = run.means["token"]

    def end(self, run: Run) -> None:
        assert isinstance(run.average, CloudDistillation)
        self.average = run.average


def train_encoder(
    encoder: PointEncoder,
    rooms: Sequence[LearningRoom],
    mean: NDArray[np.float32],
    config: EncoderConfig,
    state: Path | None = None,
    report: Callable[[Run], object] | None = None,
    device: str = "cpu",
) -> Trained:
    """Train an encoder, which is changed.

    Args:
        encoder: with features as wide as the tokens; it may have been trained before.
        rooms: at least one, all lifted with one backbone.
        mean: float32 [D], removed from tokens.
        config: settings.
        state: file from which a training that was interrupted goes on; the caller removes it.
        report: called after each step, in the first process.
        device: see :func:`~geoseg_ros.learning.fabric.open_fabric`.

    Raises:
        InputError: no room, no limit, tokens of several backbones or of another width than the features.
    """
    if config.epochs is None and config.minutes is None:
        raise InputError("encoder: expected epochs or minutes")
    if not rooms or len({room.backbone for room in rooms}) > 1 or rooms[0].token.shape[1] != encoder.dim:
        raise InputError(f"encoder: expected rooms with tokens of {encoder.dim} numbers from one backbone")
    task = EncoderTask(encoder, rooms, mean, config)
    checkpoint = None if state is None else Checkpoint(state, _digest(encoder, task.model.target, config))
    loop = LoopConfig(
        epochs=config.epochs,
        seconds=None if config.minutes is None else 60 * config.minutes,
        schedule=with_warm_up(cosine(), config.warm_up),
        clip=1.0,
        average=config.average,
        seed=config.seed,
    )
    run = train(task, loop, open_fabric(device), checkpoint, report)
    assert task.average is not None
    return Trained(task.average.encoder.cpu().eval(), run.step, run.seconds / 60, task.loss)


def _digest(encoder: PointEncoder, target: torch.Tensor, config: EncoderConfig) -> str:
    found = hashlib.sha256(json.dumps([asdict(config), encoder.config], sort_keys=True).encode())
    found.update(target.numpy().tobytes())
    for name, value in sorted(encoder.state_dict().items()):
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()


def agreement(encoder: PointEncoder, rooms: Sequence[LearningRoom], mean: NDArray[np.float32]) -> dict[str, float]:
    """Mean cosine of features and targets on whole clouds, by kind of sensor, and "... without colour"; each super-voxel that a cloud shows
    counts the same."""
    sums: dict[str, list[float]] = {}
    for room in rooms:
        target = targets([room], mean)
        for cloud in room.clouds:
            use = np.append(room.known, False)[cloud.supervoxel]
            group = cloud.supervoxel[use]
            seen = np.unique(group)
            for colour in (True, False) if cloud.rgb is not None else (False,):
                feature = point_features(encoder, cloud.xyz, cloud.rgb if colour else None)[use].numpy()
                cosines = np.einsum("nd,nd->n", feature, target[group])
                mean_cosine = (np.bincount(group, cosines) / np.maximum(np.bincount(group), 1))[seen].mean()
                sums.setdefault(f"{cloud.kind}{'' if colour else ' without colour'}", []).append(float(mean_cosine))
    return {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
