"""Small rooms whose tokens say what is what, and a network that trains in seconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from geoseg_ros.learning.rooms import AugmentConfig
from geoseg_ros.methods.pointdc.config import ClusterConfig, DistillConfig, PointDCConfig
from geoseg_ros.nets.sparse_unet import SparseUNet
from geoseg_ros.projection.lifted_scene import LiftedScene
from support.fake_world import FakeBackbone

COLOURS = np.array([[90, 90, 90], [230, 230, 220], [200, 40, 40], [40, 60, 200]], np.uint8)  # floor, wall, red, blue
SMALL = PointDCConfig(
    classes=4,
    dim=16,
    batch=2,
    least=0,
    min_supervoxel=5,
    augment=AugmentConfig(crop=1500, no_colour=0.0),
    distill=DistillConfig(epochs=15, rate=1e-2),
    cluster=ClusterConfig(warm_up=1, epochs=2, every=1, restarts=3),
)


def room(seed: int = 0, known: float = 0.9) -> tuple[LiftedScene, np.ndarray]:
    """A floor, a wall, and red and blue boxes on voxels of 5 cm, and the class of each voxel, 0 .. 3; super-voxels are tiles of one class.
    Its tokens are those that :class:`~support.fake_world.FakeBackbone` gives to its colours."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(0, 2, 0.05), np.arange(0, 2, 0.05), indexing="ij"), -1).reshape(-1, 2)
    floor = np.column_stack([grid, np.zeros(len(grid))])
    wall = np.column_stack([grid[:, 0], np.full(len(grid), 2.0), grid[:, 1] + 0.05])
    parts, truth = [floor, wall], [np.zeros(len(floor), int), np.ones(len(wall), int)]
    side = np.stack(np.meshgrid(*[np.arange(0, 0.35, 0.05)] * 2, indexing="ij"), -1).reshape(-1, 2)
    for k in range(6):
        corner = np.array([0.1 + 0.65 * (k % 3), 0.2 + 0.8 * (k // 3), 0.05]) + np.append(rng.uniform(0, 0.15, 2), 0)
        height = 0.3 if k % 2 else 0.6
        top = np.column_stack([side, np.full(len(side), height)])
        front = np.column_stack([side[:, 0], np.zeros(len(side)), side[:, 1] * height / 0.3])
        parts.append(np.concatenate([top, front]) + corner)
        truth.append(np.full(2 * len(side), 2 + k % 2))
    xyz, label = np.concatenate(parts).astype(np.float32), np.concatenate(truth)
    tile = np.floor(xyz / 0.4).astype(int) @ np.array([1, 100, 10_000]) * 4 + label
    superpoint = np.unique(tile, return_inverse=True)[1].astype(np.int64)
    views = (rng.random(len(xyz)) < known).astype(np.int32)
    normal = np.zeros_like(xyz)
    normal[:, 2] = 1
    noise = rng.integers(-8, 9, xyz.shape)
    rgb = np.clip(COLOURS[label] + noise, 0, 255).astype(np.uint8)
    tokens = FakeBackbone().tokens(np.tile(rgb[:, None, None], (1, 16, 16, 1)))[1].numpy()
    tokens = (tokens * (views > 0)[:, None]).astype(np.float16)
    inverse, up = np.zeros(0, np.int64), np.array([0.0, 0.0, 1.0])
    return LiftedScene(xyz, rgb, normal, tokens, views, superpoint, inverse, 0.05, up, FakeBackbone.hash, f"room {seed}"), label


def photograph() -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB [128, 128, 3]: a quarter of each class, and the class of each pixel, 0 .. 3."""
    label = np.kron(np.array([[0, 1], [2, 3]]), np.ones((64, 64), int))
    return COLOURS[label], label


class Pointwise(SparseUNet):
    """The sparse network with its convolutions left out: a feature depends on the colour of its voxel alone."""

    def __init__(self, dim: int = 16, voxel: float = 0.05) -> None:
        nn.Module.__init__(self)
        self.channels, self.dim, self.voxel = 6, dim, voxel
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(3, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, dim))

    @property
    def config(self):
        return {"dim": self.dim, "voxel": self.voxel}

    def forward(self, coords: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.body(features[:, :3])


def purity(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of rows whose found class has mostly their own true class."""
    table = np.zeros((found.max() + 1, truth.max() + 1))
    np.add.at(table, (found, truth), 1)
    return float(table.max(axis=1).sum() / len(truth))
