"""The training of HICL, and what is known at its end."""

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
from geoseg_ros.learning.clustering import kmeans, unit_rows
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, train
from geoseg_ros.learning.noisy_labels import label_view, refined
from geoseg_ros.learning.rooms import Room, group_means
from geoseg_ros.learning.schedules import cosine
from geoseg_ros.learning.taught import Taught
from geoseg_ros.methods.hicl.config import HICLConfig
from geoseg_ros.methods.hicl.objectives import HICLLosses, HICLTask, TaughtRoom
from geoseg_ros.nets.base import PointNetwork, point_features


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of a training.

    Attributes:
        network: in evaluation mode, on the processor; its weights have half precision.
        cosine: float32 [S, C], of the super-voxels of all rooms and the anchors.
        vote: float64 [S, C], share of the teacher's votes of each class.
        losses: mean of each in the last epoch. seconds: of the training.
    """

    network: PointNetwork
    cosine: NDArray[np.float32]
    vote: NDArray[np.float64]
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def taught_rooms(rooms: Sequence[Room], taught: Taught, anchors: NDArray[np.float32], config: HICLConfig) -> list[TaughtRoom]:
    """Rooms with labels from the teacher, refined as the settings say.

    Raises:
        InputError: no view says anything of any point.
    """
    found = []
    for room, views in zip(rooms, taught.views, strict=True):
        labelled = [label_view(view, anchors, taught.scale, config.pairs.least) for view in views]
        label, vote = refined(labelled, room.supervoxel, len(anchors), config.pairs.refine)
        found.append(TaughtRoom(room, labelled, label, vote))
    if not any((label >= 0).any() for item in found for label in item.label):
        raise InputError("hicl: the teacher says nothing of any point of the scenes")
    return found


def prototypes(rooms: Sequence[Room], taught: Taught, count: int, seed: int) -> NDArray[np.float32]:
    """Anchors of a teacher without text, float32 [C, D]: k-means of what it says of super-voxels, their mean over all removed before.

    Raises:
        InputError: fewer super-voxels than there shall be classes.
    """
    means, sizes = [], []
    for room, views in zip(rooms, taught.views, strict=True):
        total, number = torch.zeros(len(room.token), taught.anchors.shape[1]), np.zeros(len(room.token), np.int64)
        for view in views:
            group = room.supervoxel[view.row]
            total.index_add_(0, torch.from_numpy(group), view.at_points())
            number += np.bincount(group, minlength=len(number))
        means.append(total.numpy()[number > 0] / number[number > 0, None])
        sizes.append(number[number > 0])
    rows, size = np.concatenate(means), np.concatenate(sizes)
    if not 2 <= count <= len(rows):
        raise InputError(f"classes: expected 2 to {len(rows)} for a teacher without text, as many as there are super-voxels, got {count}")
    mean = np.average(rows, axis=0, weights=size)
    found = kmeans(rows - mean, count, size, restarts=10, seed=seed).label
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, found, rows * size[:, None])
    return unit_rows(sums)


class Trainer:
    """Trains a network on taught rooms.

    Args:
        network: a :class:`PointNetwork` and ``torch.nn.Module`` with features of the anchors' width.
        rooms: at least one.
        anchors: float32 [C, D], unit.
        config: settings.
        device: of the training, see :func:`~geoseg_ros.learning.fabric.open_fabric`.
        progress: called with (stage, percent done, 100).
    """

    def __init__(
        self,
        network: PointNetwork,
        rooms: Sequence[TaughtRoom],
        anchors: NDArray[np.float32],
        config: HICLConfig,
        device: str = "cpu",
        progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
    ) -> None:
        self.network, self.rooms, self.anchors, self.config, self._progress = network, rooms, anchors, config, progress
        self._fabric = open_fabric(device)

    def fit(self, minutes: float | None = None, folder: str | os.PathLike[str] | None = None) -> Fitted:
        """Train.

        Args:
            minutes: about how long it may take; None: as many epochs as the settings say.
            folder: where the state is kept, from which the same training resumes. The caller removes it.
        """
        checkpoint = None
        if folder is not None:
            digest = self._digest(minutes)
            checkpoint = Checkpoint(Path(folder) / f"training-{digest[:12]}.safetensors", digest)
        assert isinstance(self.network, nn.Module)
        with torch.random.fork_rng(devices=[]):  # transformers and spatial head begin with random weights
            torch.manual_seed(self.config.seed)
            model = HICLLosses(self.network, self.anchors, self.config)
        losses: dict[str, float] = {}

        def report(run: Run) -> None:
            self._progress("training", round(100 * run.progress), 100)
            losses.update(run.means)

        loop = LoopConfig(
            epochs=self.config.epochs,
            seconds=None if minutes is None else 60 * minutes,
            schedule=cosine(),
            clip=1.0,
            seed=self.config.seed,
        )
        run = train(HICLTask(model, self.network, self.rooms, self.config), loop, self._fabric, checkpoint, report)
        return self._result(losses, run.seconds)

    def _result(self, losses: dict[str, float], seconds: float) -> Fitted:
        assert isinstance(self.network, nn.Module)
        module = self.network.cpu().eval()
        with torch.no_grad():
            for value in module.state_dict().values():
                if value.is_floating_point():
                    value.copy_(value.half().float())  # as the pack keeps it
        found = np.concatenate([cosines(self.network, item.room, self.anchors) for item in self.rooms])
        return Fitted(self.network, found, np.concatenate([item.vote for item in self.rooms]), losses, seconds)

    def _digest(self, minutes: float | None) -> str:
        """Hexadecimal SHA-256 of all that a training depends on but its device."""
        found = hashlib.sha256(json.dumps([asdict(self.config), minutes], sort_keys=True).encode() + self.anchors.tobytes())
        for item in self.rooms:
            features = [view.view.features.numpy() for view in item.views] if self.config.spatial else []
            for array in (item.room.xyz, item.room.rgb, item.room.supervoxel, *item.label, *features):
                found.update(np.ascontiguousarray(array).tobytes())
        assert isinstance(self.network, nn.Module)
        for name, value in sorted(self.network.state_dict().items()):
            found.update(name.encode() + value.cpu().numpy().tobytes())
        return found.hexdigest()


def cosines(network: PointNetwork, room: Room, anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [S, C], of the unit mean feature of each super-voxel and the anchors, by the network as it is."""
    feature = group_means(point_features(network, room.xyz, room.rgb), room.supervoxel, len(room.token))
    return feature @ anchors.T
