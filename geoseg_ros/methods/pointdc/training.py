"""The training of PointDC: distillation, warm-up, iterations; and the classes at its end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import Checkpoint
from geoseg_ros.learning.clustering import choose_count, kmeans, nearest_centroid, unit_rows
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, train
from geoseg_ros.learning.rooms import Room, first_supervoxels, group_means, mean_token, target_of, view_features
from geoseg_ros.methods.pointdc.config import PointDCConfig
from geoseg_ros.methods.pointdc.grouping import grown, spectral_embedding
from geoseg_ros.methods.pointdc.objectives import (
    IGNORED,
    ClusterTask,
    Distillation,
    DistillationTask,
    Found,
    PseudoLabels,
    stepped,
)
from geoseg_ros.nets.base import PointNetwork, point_features

STAGES = ("distillation", "warm-up", "iterations")
SHARES = (0.7, 0.1, 0.2)  # of the time, where it is limited
FINAL_RESTARTS = 20  # starts of the last clustering


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of a training.

    Attributes:
        network: in evaluation mode, on the processor; its weights have half precision.
        mean: float32 [D], removed from tokens; zeros where they are not centred.
        centroids: float32 [C, d], unit.
        label: int64 per super-voxel of all rooms, its class 0 .. C - 1.
        similarity: float32, cosine to the centroid of its class.
        feature: float32 [S, d], of the super-voxels.
        used: bool [S], those that are large enough to take part in clustering.
        view_label, view_similarity: as ``label`` and ``similarity``, int64 and float32, of the super-voxels that views have by themselves.
        losses: mean loss of the last epoch of each stage.
        seconds: of each stage.
    """

    network: PointNetwork
    mean: NDArray[np.float32]
    centroids: NDArray[np.float32]
    label: NDArray[np.int64]
    similarity: NDArray[np.float32]
    feature: NDArray[np.float32]
    used: NDArray[np.bool_]
    view_label: NDArray[np.int64]
    view_similarity: NDArray[np.float32]
    losses: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains a network on rooms.

    Args:
        network: a :class:`PointNetwork` and ``torch.nn.Module`` with features of width ``config.dim``.
        rooms: at least one, with tokens.
        config: settings.
        device: of the training, see :func:`~geoseg_ros.learning.fabric.open_fabric`.
        progress: called with (stage, percent done, 100).

    Raises:
        InputError: no room has tokens, or the rooms have fewer super-voxels than there shall be classes.
    """

    def __init__(
        self,
        network: PointNetwork,
        rooms: Sequence[Room],
        config: PointDCConfig,
        device: str = "cpu",
        progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
    ) -> None:
        self.network, self.rooms, self.config, self._progress = network, rooms, config, progress
        self.mean = mean_token(rooms) if config.centred else np.zeros(rooms[0].token.shape[1], np.float32)
        self.size = np.concatenate([room.size for room in rooms])
        known = np.concatenate([room.known for room in rooms])
        if not known.any():
            raise InputError("pointdc: no frame shows any point of the scenes")
        self.target = target_of(np.concatenate([room.token for room in rooms]), self.mean) * known[:, None].astype(np.float32)
        self._used = self.size >= config.min_supervoxel
        if not self._used.any():
            raise InputError(f"pointdc: no super-voxel has {config.min_supervoxel} points")
        if config.classes > self._used.sum():
            raise InputError(f"classes: expected 1 to {self._used.sum()}, as many as there are super-voxels, got {config.classes}")
        self._fabric = open_fabric(device)
        self._losses: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self.classes = config.classes

    def fit(self, minutes: float | None = None, folder: str | os.PathLike[str] | None = None) -> Fitted:
        """Train all stages.

        Args:
            minutes: about how long the three stages may take; None: as many epochs as the settings say.
            folder: where the state is kept, in a file for each training, from which the same training resumes. The caller removes it.
        """
        checkpoint = None
        if folder is not None:
            digest = self._digest(minutes)
            checkpoint = Checkpoint(Path(folder) / f"training-{digest[:12]}.safetensors", digest)
        seconds = None if minutes is None else 60 * minutes
        if not self.classes:
            self.classes = choose_count(self.target[self._used & self.target.any(axis=1)], self.config.most)
        self.distil(seconds, checkpoint)
        self.learn_classes(2, True, seconds, checkpoint)
        self.learn_classes(3, False, seconds, checkpoint)
        return self.result()

    def distil(self, seconds: float | None = None, checkpoint: Checkpoint | None = None) -> None:
        """Stage 1: the network learns the tokens of the super-voxels. ``seconds``: of all stages together."""
        with torch.random.fork_rng(devices=[]):  # the align layer begins with random weights
            torch.manual_seed(self.config.seed)
            model = Distillation(_module(self.network), self.config.dim, self.target, self.config.distill.loss)
        task = DistillationTask(model, self.network, self.rooms, self.config)
        self._train(task, 1, self.config.distill.epochs, seconds, checkpoint)

    def learn_classes(self, stage: int, learnt: bool, seconds: float | None = None, checkpoint: Checkpoint | None = None) -> None:
        """Stage 2, the warm-up with learnt prototypes, or stage 3 with fixed ones that are found anew."""
        settings = self.config.cluster
        total = int(first_supervoxels(self.rooms)[-1])
        model = PseudoLabels(_module(self.network), self.classes, self.config.dim, total, settings.kappa, learnt)
        task = ClusterTask(model, self.network, self.rooms, self.config, self.found_classes, 0 if learnt else settings.every)
        self._train(task, stage, settings.warm_up if learnt else settings.epochs, seconds, checkpoint)

    def _train(
        self, task: DistillationTask | ClusterTask, stage: int, epochs: float, seconds: float | None, checkpoint: Checkpoint | None
    ) -> None:
        name = STAGES[stage - 1]

        def report(run: Run) -> None:
            self._progress(name, round(100 * run.progress), 100)
            self._losses[name] = sum(run.means.values())

        decay = 1.0 if stage == 1 else self.config.cluster.decay
        loop = LoopConfig(
            epochs=epochs,
            seconds=None if seconds is None else seconds * SHARES[stage - 1],
            schedule=stepped(decay, task.steps_per_epoch),
            seed=self.config.seed,
            stage=stage,
        )
        run = train(task, loop, self._fabric, checkpoint, report)
        self._seconds[name] = run.seconds

    def features(self) -> NDArray[np.float32]:
        """Unit feature of each super-voxel of all rooms, float32 [S, d], by the network as it is."""
        module = _module(self.network)
        device, was = next(module.parameters()).device, module.training
        module.eval()
        found = []
        for room in self.rooms:
            found.append(group_means(point_features(self.network, room.xyz, room.rgb, device), room.supervoxel, len(room.token)))
        module.train(was)
        return np.concatenate(found)

    def found_classes(self, progress: float = 0.0) -> Found:
        """Classes by the network as it is: centroids, and the label of each super-voxel; those too small have none.

        Args:
            progress: of the training, by which super-voxels have grown where they do.
        """
        rows, place = self._grown(self.features(), progress)
        part = np.bincount(place, self._used, len(rows)) > 0
        centroids, label = self._grouped(rows, part, self.config.cluster.restarts)
        return centroids, np.where(self._used, label[place], IGNORED)

    def _grouped(self, rows: NDArray[np.float32], part: NDArray[np.bool_], restarts: int) -> Found:
        """Centroids float32 [C, d] of the rows that take ``part``, bool [n], and the label int64 [n] of each row, 0 for the others."""
        label = np.zeros(len(rows), np.int64)
        if self.config.cluster.grouping == "features":
            found = kmeans(rows[part], self.classes, restarts=restarts, seed=self.config.seed)
            label[part] = found.label
            return found.centroids, label
        embedding = spectral_embedding(rows[part], self.config.cluster.groups)
        label[part] = kmeans(embedding, self.classes, restarts=restarts, seed=self.config.seed, spherical=False).label
        sums = np.zeros((self.classes, rows.shape[1]))
        np.add.at(sums, label[part], rows[part])
        return unit_rows(sums), label

    def _grown(self, feature: NDArray[np.float32], progress: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features of the grown super-voxels of all rooms, and the grown super-voxel of each super-voxel."""
        settings = self.config.cluster
        if not settings.grow_from:
            return feature, np.arange(len(feature))
        target = round(settings.grow_from + progress * (settings.grow_to - settings.grow_from))
        first = first_supervoxels(self.rooms)
        places, count = [], 0
        for room, at, end in zip(self.rooms, first, first[1:], strict=False):
            rgb, xyz, normal = (_means(values, room.supervoxel, len(room.token)) for values in (room.rgb / 255, room.xyz, room.normal))
            own = grown(feature[at:end], rgb, xyz, normal, room.size, target)
            places.append(own + count)
            count += int(own.max()) + 1
        place = np.concatenate(places)
        sums = np.zeros((count, feature.shape[1]))
        np.add.at(sums, place, feature * self.size[:, None])
        return unit_rows(sums), place

    def result(self) -> Fitted:
        """The classes at the end: k-means of the features of the network in half precision, as the pack keeps it."""
        module = _module(self.network).cpu().eval()
        with torch.no_grad():
            for value in module.state_dict().values():
                if value.is_floating_point():
                    value.copy_(value.half().float())
        feature = self.features()
        centroids, _ = self._grouped(feature, self._used, FINAL_RESTARTS)
        label, similarity = nearest_centroid(feature, centroids)
        views = nearest_centroid(self._view_features(), centroids)
        return Fitted(self.network, self.mean, centroids, label, similarity, feature, self._used, *views, self._losses, self._seconds)

    def _view_features(self) -> NDArray[np.float32]:
        """Unit features of the views' own super-voxels, float32 [., d], found as in live clouds; those too small are left out."""
        found = [np.zeros((0, self.config.dim), np.float32)]
        for view in (view for room in self.rooms for view in room.views):
            found.append(view_features(self.network, view)[view.size >= self.config.min_supervoxel])
        return np.concatenate(found)

    def _digest(self, minutes: float | None) -> str:
        """Hexadecimal SHA-256 of all that a training depends on but its device."""
        found = hashlib.sha256(json.dumps([asdict(self.config), minutes], sort_keys=True).encode())
        for room in self.rooms:
            for array in (room.xyz, room.rgb, room.supervoxel, room.token):
                found.update(np.ascontiguousarray(array).tobytes())
            for view in room.views:
                found.update(view.xyz.tobytes() + view.supervoxel.tobytes())
        for name, value in sorted(_module(self.network).state_dict().items()):
            found.update(name.encode() + value.cpu().numpy().tobytes())
        return found.hexdigest()


def _means(values: NDArray[np.floating], group: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean of rows [M, 3] in each of ``count`` groups, float64."""
    number = np.maximum(np.bincount(group, minlength=count), 1)
    return np.stack([np.bincount(group, column, count) for column in values.T], axis=1) / number[:, None]


def _module(network: PointNetwork) -> nn.Module:
    assert isinstance(network, nn.Module)
    return network
