"""A trainer that knows only the common interface trains either network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.nets.sparse_unet import SparseUNet
from support.point_clouds import labelled_corner


@pytest.mark.parametrize(("kind", "size", "steps"), [(SparseUNet, {"channels": 3}, 25), (PointEncoder, {"width": 32}, 60)])
def test_floor_walls_and_boxes_are_told_apart_in_rooms_not_seen(kind, size, steps):
    torch.manual_seed(0)
    network = kind(**size, dim=16, voxel=0.1)
    head = torch.nn.Linear(network.dim, 3)
    optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], 3e-3)
    rooms = [labelled_corner(seed) for seed in range(16)]
    clouds = [network.prepare(xyz) for xyz, _ in rooms]
    for step in range(steps):
        chosen = [(4 * step + k) % 12 for k in range(4)]
        batch = network.collate([clouds[k] for k in chosen])
        label = torch.cat([torch.from_numpy(rooms[k][1]) for k in chosen])
        loss = F.cross_entropy(head(network(*batch.inputs))[batch.inverse], label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.inference_mode():
        batch = network.collate(clouds[12:])
        found = head(network(*batch.inputs)).argmax(1)[batch.inverse]
    label = torch.cat([torch.from_numpy(rooms[k][1]) for k in range(12, 16)])
    assert float((found == label).float().mean()) > 0.85
