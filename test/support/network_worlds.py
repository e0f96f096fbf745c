"""A small network and a set it can learn: clouds of a plane and a ball, tokens with one direction that recurs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from geoseg_ros.methods.geofree.config import GcsfConfig, MgcmConfig, NetworkConfig, SamplerConfig
from geoseg_ros.methods.geofree.inputs import ImageTokens, frame_saliency, prepare_cloud
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.nets.dgcnn import Dgcnn

DIM, GRID, POINTS = 12, (6, 6), 96
CONFIG = NetworkConfig(
    mgcm=MgcmConfig(signal="correlation"),
    gcsf=GcsfConfig(width=16, k=5, points="coordinates"),
    sampler=SamplerConfig(points=POINTS, samples=16, partners=2, key_points=24, choose="pool"),
    contrast=8,
)


def cloud(seed, turned=False):
    """float32 [300, 3] of a floor with a ball, and bool [300] of the ball."""
    rng = np.random.default_rng(seed)
    floor = np.stack([*rng.uniform(-1, 1, (2, 180)), rng.normal(0, 0.01, 180)], 1)
    direction = rng.normal(size=(120, 3))
    ball = 0.3 * direction / np.linalg.norm(direction, axis=1, keepdims=True) + [*rng.uniform(-0.4, 0.4, 2), 0.35]
    return np.concatenate([floor, ball]).astype(np.float32), np.arange(300) >= 180


def images(count, seed=0):
    """Tokens in which the middle four patches share one direction."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.3 * torch.randn(count, *GRID, DIM, generator=generator)
    tokens[:, 2:4, 2:4] += torch.eye(DIM)[0]
    return ImageTokens(tokens.flatten(1, 2), tokens.mean((1, 2)), frame_saliency(tokens), GRID)


def clouds(count, seed=0):
    return [prepare_cloud(cloud(seed + k)[0], POINTS) for k in range(count)]


def extractor():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dgcnn(3, neighbours=6).eval()


def network(config=CONFIG, awake=True, **changes):
    """A network whose zero-initialised parts are not zero any more, so that every path shows."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = CosegNetwork(DIM, replace(config, **changes), extractor())
        if awake:
            for module in (made.to_points, made.to_patches, made.enhance_points, made.enhance_patches, made.mgcm):
                for parameter in module.parameters():
                    if not parameter.any():
                        torch.nn.init.normal_(parameter, std=0.3)
            for sampler in (made.sampler_o, made.sampler_b):
                torch.nn.init.constant_(sampler.mutual.norm.weight, 0.5)
    return made.eval()
