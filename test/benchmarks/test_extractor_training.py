"""The point network that learns to tell shapes apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.baselines.extractor_training import PretrainConfig, accuracy, augment, pretrain
from benchmarks.baselines.shapes import SOURCE, ShapesConfig, make_shapes, pretraining_shapes
from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import read_tensors, write_tensors
from geoseg_ros.methods.geofree.pack import load_extractor, save_extractor
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.simulation.families import NAMES

pytestmark = pytest.mark.train

SMALL = PretrainConfig(epochs=3, batch=21, subsets=(24, 32), neighbours=4, rate=0.02)
SHAPES = pretraining_shapes(ShapesConfig(instances=3, held_out=1, points=48))


def test_augmentation(generator):
    points, normals, *_ = make_shapes(1, 200, 0)
    whole = augment(points, normals, 80, 0.0, generator)
    assert whole.shape == (len(NAMES), 80, 3) and torch.isfinite(whole).all()
    assert torch.equal(
        augment(points, normals, 80, 0.0, torch.Generator().manual_seed(3)),
        augment(points, normals, 80, 0.0, torch.Generator().manual_seed(3)),
    )
    # with a view, all points of a sphere lie on one side of its middle
    ball = torch.nn.functional.normalize(torch.randn(4, 400, 3, generator=generator), dim=2)
    half = augment(ball, ball, 100, 1.0, generator)
    full = augment(ball, ball, 100, 0.0, generator)

    def spread(x):
        return torch.linalg.svdvals(x - x.mean(1, keepdim=True))[:, -1]

    assert spread(half).mean() < 0.75 * spread(full).mean()


def test_pretraining_learns_and_repeats():
    network, scores = pretrain(*SHAPES, SMALL)
    again, _ = pretrain(*SHAPES, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True))
    assert network.source == SOURCE and not network.training and network.classes == len(NAMES)
    assert scores["steps"] == 9 and 0 <= scores["accuracy"] <= 1
    longer, _ = pretrain(*SHAPES, replace(SMALL, epochs=25, visible=0.0))
    assert accuracy(longer, SHAPES[0].points, SHAPES[0].label) > 3 / len(NAMES)


def test_pretraining_keeps_its_time():
    seen = []
    _, scores = pretrain(*SHAPES, replace(SMALL, epochs=10_000), seconds=0.5, report=seen.append)
    assert 1 <= scores["steps"] < 500 and seen[-1] == 1.0 and seen == sorted(seen)


def test_an_extractor_survives_its_file(tmp_path):
    network = Dgcnn(3, neighbours=5).eval()
    save_extractor(tmp_path / "e.safetensors", network, {"accuracy": 0.5})
    again = load_extractor(tmp_path / "e.safetensors")
    points = torch.randn(2, 30, 3)
    assert torch.equal(again(points).embedding, network(points).embedding) and again.neighbours == 5 and again.source == "none"


def test_wrong_weights_are_refused(tmp_path):
    network = tmp_path / "dgcnn.safetensors"
    save_extractor(network, Dgcnn(4, 5, "a test"))
    assert load_extractor(network).source == "a test"
    tensors, head = read_tensors(network, "dgcnn")
    for change in ({"classes": 5}, {"classes": "many"}, {"neighbours": None}):
        write_tensors(network, "dgcnn", tensors, head | change)
        with pytest.raises(InputError, match="damaged dgcnn weights") as error:
            load_extractor(network)
        assert "\n" not in str(error.value)
