"""What a teacher says of the small rooms, and settings that train in seconds."""

from __future__ import annotations

import numpy as np
import torch

from geoseg_ros.learning.rooms import AugmentConfig
from geoseg_ros.learning.taught import Taught, TaughtView
from geoseg_ros.methods.hicl.config import AttentionConfig, HICLConfig
from geoseg_ros.projection.lifted_scene import LiftedScene

NAMES = ("floor", "wall", "red box", "blue box")
ANCHORS = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))[0][:4].astype(np.float32)
SMALL = HICLConfig(
    batch=2,
    least=0,
    epochs=20,
    rate=0.1,
    attention=AttentionConfig(intra=1, inter=1, points=128, heads=4, begin=4, feedback=8),
    augment=AugmentConfig(crop=1500, no_colour=0.0),
)


def views(scene: LiftedScene, label: np.ndarray, accuracy: float = 1.0, count: int = 3, seed: int = 0) -> list[TaughtView]:
    """Views of 60 % of the points each, whose features are the anchors of the labels, some of them wrong, and a little noise."""
    rng, made = np.random.default_rng(seed), []
    for k in range(count):
        row = np.sort(rng.permutation(len(scene))[: int(0.6 * len(scene))])
        said = np.where(rng.random(len(row)) < accuracy, label[row], rng.integers(0, 4, len(row)))
        features = torch.from_numpy(ANCHORS[said] + rng.normal(0, 0.05, (len(row), 16))).half()[None]
        place = np.column_stack([(np.arange(len(row)) + 0.5) / len(row) * 2 - 1, np.zeros(len(row))]).astype(np.float32)
        made.append(TaughtView(row, place, np.full(len(row), 1.0 + k, np.float32), features))
    return made


def taught(rooms: list[tuple[LiftedScene, np.ndarray]], accuracy: float = 1.0, named: bool = True) -> Taught:
    """What the teacher says of rooms."""
    said = [views(scene, label, accuracy, seed=k) for k, (scene, label) in enumerate(rooms)]
    anchors = ANCHORS if named else np.zeros((0, 16), np.float32)
    return Taught(("fake", "0" * 64), "none", "none", 10.0, NAMES if named else (), anchors, said)
