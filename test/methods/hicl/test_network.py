"""The network that HICL trains: the encoder that ships, which has learnt what clouds look like, with a new last layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.learning.rooms import room_network, room_of
from geoseg_ros.methods.hicl.method import new_network
from geoseg_ros.methods.hicl.training import Trainer, cosines, taught_rooms
from geoseg_ros.nets.encoder_file import load_encoder
from geoseg_ros.settings import with_values
from support.hicl_worlds import ANCHORS, SMALL, taught
from support.pointdc_worlds import room


def test_the_encoder_keeps_what_it_knows_but_its_last_layer() -> None:
    made, again, other = (room_network("encoder", 16, 0.1, seed, fresh=True).state_dict() for seed in (0, 0, 1))
    for name, value in load_encoder().network.state_dict().items():
        if name.startswith("last."):
            assert made[name].shape[0] == 16 and torch.equal(made[name], again[name]) and not torch.equal(made[name], other[name])
        else:
            assert torch.equal(made[name], value)
    assert room_network("encoder", 128, 0.1, 0).state_dict().keys() == made.keys()


@pytest.mark.train
def test_a_short_training_reaches_a_room_that_was_never_seen() -> None:
    """30 steps with labels of which 26 % are wrong."""
    rooms, (held, truth) = [room(seed) for seed in range(3)], room(9)
    lifted, said = [room_of(scene) for scene, _ in rooms], taught(rooms, 0.65)
    config = with_values(SMALL, {"voxel": held.voxel, "attention.intra": 0, "attention.inter": 0})
    trainer = Trainer(new_network(config, 16), taught_rooms(lifted, said, ANCHORS, config), ANCHORS, config)
    found = cosines(trainer.fit().network, room_of(held), ANCHORS).argmax(axis=1)[held.superpoint]
    assert np.mean(found == truth) > 0.95
