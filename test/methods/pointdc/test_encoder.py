"""PointDC with the encoder that compiles in place of the sparse network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.learning.rooms import GREY, RoomEncoder
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.pointdc import method
from geoseg_ros.methods.pointdc.config import ClusterConfig, DistillConfig
from geoseg_ros.methods.pointdc.method import new_network
from geoseg_ros.nets import encoder_file
from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.packs.pack import Pack
from geoseg_ros.packs.place import Place
from support.fake_world import FakeBackbone
from support.pointdc_worlds import SMALL, room

CONFIG = replace(SMALL, network="encoder", distill=DistillConfig(epochs=2), cluster=ClusterConfig(warm_up=0, epochs=0, restarts=2))


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> PointEncoder:
    """An encoder in place of the one that ships, and trainings that may begin with it."""
    encoder = PointEncoder(16, 16, drop=0.0)
    encoder_file.save_encoder(tmp_path / "encoder.safetensors", encoder, "hash", torch.zeros(16), {})
    monkeypatch.setattr(encoder_file, "DEFAULT", tmp_path / "encoder.safetensors")
    monkeypatch.setattr(method, "new_network", new_network)
    return encoder


def test_pack_of_a_place_learnt_with_the_encoder(shipped, tmp_path) -> None:
    begun = new_network(CONFIG)
    assert torch.allclose(begun.last.weight, shipped.last.weight, atol=1e-3)
    material = Material("home", scenes=[room(seed)[0] for seed in range(2)])
    method.PointDCMethod().learn(material, Context(FakeBackbone(), settings=CONFIG)).save(tmp_path / "home.pack")
    network = Place.from_pack(Pack.load(tmp_path / "home.pack"), SMALL).network
    assert type(network) is RoomEncoder and not torch.allclose(network.last.weight, shipped.last.weight, atol=1e-3)


def test_grey_means_that_there_is_no_colour(shipped) -> None:
    xyz = np.random.default_rng(0).uniform(0, 1, (100, 3)).astype(np.float32)
    network = new_network(CONFIG)
    grey, none = (network.prepare(xyz, rgb).arrays["features"] for rgb in (np.full((100, 3), GREY, np.uint8), None))
    assert np.array_equal(grey, none) and network.prepare(xyz, np.full((100, 3), 90, np.uint8)).arrays["features"][0, 10] == 1


def test_another_width_than_the_encoders_is_refused(shipped) -> None:
    with pytest.raises(InputError, match="dim: the encoder gives 16 features, got 8"):
        new_network(replace(CONFIG, dim=8))
