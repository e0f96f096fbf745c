"""GeoFree networks with random weights that are nowhere zero, and banks for them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.config import GcsfConfig, NetworkConfig, SamplerConfig
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.nets.dgcnn import Dgcnn

DIM = 24
SMALL = NetworkConfig(gcsf=GcsfConfig(width=16, k=5), sampler=SamplerConfig(points=64, samples=16, partners=2, key_points=12), contrast=8)


def awake(config=SMALL, dim=DIM, neighbours=6, **gcsf):
    """A network in which every path shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CosegNetwork(dim, replace(config, gcsf=replace(config.gcsf, **gcsf)), Dgcnn(3, neighbours)).eval()
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


@torch.no_grad()
def a_bank(network, images=3, patches=20, clouds=4):
    """A bank of random images and clouds."""
    generator = torch.Generator().manual_seed(2)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    config, width = network.config, network.sampler_o.encoder.dim
    projected, refined = network.space.patches(random(images, patches, network.dim), torch.full((images, patches), 1 / patches))
    keys, dim = config.sampler.key_points, network.dim
    return Bank(
        coarse_mean=random(images, dim),
        coarse_tokens=torch.zeros(images, 0, dim),
        final_mean=random(images, dim),
        final_tokens=torch.zeros(images, 0, dim),
        patches=projected,
        patches_refined=refined,
        patches_mask=torch.ones(images, patches),
        key_points=random(clouds, keys, config.gcsf.width),
        partners_o=random(clouds, keys, width).relu(),
        partners_b=random(clouds, keys, width).relu(),
        object=F.normalize(random(config.contrast), dim=0),
        negatives=F.normalize(random(5, config.contrast), dim=1),
        **{name: torch.zeros(0) for name in ("own_clouds", "own_images", "null_clouds", "null_images")},
    )


def sphere(count, clouds=1, seed=0):
    """Points [clouds, count, 3] in the unit sphere."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(clouds, count, 3, generator=generator), dim=2) * torch.rand(clouds, count, 1, generator=generator).sqrt()
