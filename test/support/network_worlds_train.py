"""Sets that train in a second: clouds of a floor and a ball, tokens with one direction that recurs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from geoseg_ros.methods.geofree.config import FitConfig, preset
from geoseg_ros.methods.geofree.inputs import ImageTokens, frame_saliency, prepare_cloud
from geoseg_ros.methods.geofree.training_sets import TrainingSet
from geoseg_ros.nets.dgcnn import Dgcnn

POINTS = 64
PAPER = preset("paper").network
NETWORK = replace(
    PAPER,
    gcsf=replace(PAPER.gcsf, width=16, k=5),
    sampler=replace(PAPER.sampler, points=POINTS, samples=12, partners=2, key_points=16, mutual="intended"),
    contrast=8,
    loss=replace(PAPER.loss, cross_concept=True),
)
FIT = FitConfig(NETWORK, batch=4, images=4, check_every=2)
FIT = replace(
    FIT, stage1=replace(FIT.stage1, epochs=4), stage2=replace(FIT.stage2, epochs=4), stage3=replace(FIT.stage3, epochs=2, image_rate=1e-5)
)


def cloud(seed):
    """float32 [200, 3]: a floor, and a ball that stands somewhere on it."""
    rng = np.random.default_rng(seed)
    floor = np.stack([*rng.uniform(-1, 1, (2, 120)), rng.normal(0, 0.01, 120)], 1)
    direction = rng.normal(size=(80, 3))
    ball = 0.3 * direction / np.linalg.norm(direction, axis=1, keepdims=True) + [*rng.uniform(-0.4, 0.4, 2), 0.35]
    return np.concatenate([floor, ball]).astype(np.float32)


def images(count, seed=0, dim=10):
    """Tokens of 5 x 5 patches whose middle has a direction of its own, which ``seed`` chooses."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.3 * torch.randn(count, 5, 5, dim, generator=generator)
    tokens[:, 2, 1:4] += 2 * torch.eye(dim)[seed % dim]
    return ImageTokens(tokens.flatten(1, 2), tokens.mean((1, 2)), frame_saliency(tokens), (5, 5))


def small_set(name, seed=0, dim=10, clouds=4):
    return TrainingSet(name, [prepare_cloud(cloud(100 * seed + k), POINTS) for k in range(clouds)], images(4, seed, dim))


def extractor():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dgcnn(3, neighbours=5).eval()


LONG = replace(FIT, stage2=replace(FIT.stage2, epochs=6))


def sets():
    """Two of them."""
    return [small_set(name, seed) for seed, name in enumerate("ab")]
