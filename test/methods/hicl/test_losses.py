"""The losses of HICL: what they pull where, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from geoseg_ros.learning.rooms import room_of
from geoseg_ros.learning.steps import Step
from geoseg_ros.methods.hicl.attention import Correlation, Layer
from geoseg_ros.methods.hicl.config import AttentionConfig, HICLConfig
from geoseg_ros.methods.hicl.objectives import Batch, HICLLosses, HICLTask, cross_entropy
from geoseg_ros.methods.hicl.optimiser import TwoOptimisers
from geoseg_ros.methods.hicl.training import taught_rooms
from support.hicl_worlds import ANCHORS, SMALL, taught
from support.pointdc_worlds import Pointwise, room


def one_batch(config: HICLConfig = SMALL, number: int = 30) -> tuple[HICLLosses, Batch]:
    """Losses with random weights, and the batch of a step late in the training."""
    made = [room(seed) for seed in range(2)]
    network = Pointwise(16)
    torch.manual_seed(0)
    model = HICLLosses(network, ANCHORS, config)
    rooms = taught_rooms([room_of(scene) for scene, _ in made], taught(made, 0.7), ANCHORS, config)
    return model, HICLTask(model, network, rooms, config).batch(Step(number, seed=3))


def test_a_value_is_pulled_to_the_label_of_a_point_by_the_weight_of_its_attention() -> None:
    """C.2's reading of the gradient: -dL/dv_n = w_mn (T_label - sum_c y_c T_c), exactly, for a layer with identity projections."""
    torch.manual_seed(1)
    width, points, label = 16, 5, 2
    layer, anchors = Layer(width, 1, 1), torch.from_numpy(ANCHORS)
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(width))
        layer.out.bias.zero_()
        layer.perceptron[2].weight.zero_()
        layer.perceptron[2].bias.zero_()
    kept = {}
    layer.mix.register_forward_hook(lambda module, given, made: (made.retain_grad(), kept.update(mix=made))[0])
    out = layer(torch.randn(1, points, width))[0]
    logits = out @ anchors.T
    count = torch.zeros(points, 4)
    count[0, label] = 1  # only point 0 has a label
    cross_entropy(logits, count).backward()
    query, key, _ = kept["mix"].detach()[0].chunk(3, dim=1)
    weight = torch.softmax(query @ key.T / width**0.5, dim=1)[0]
    pull = -kept["mix"].grad[0].chunk(3, dim=1)[2]
    direction = anchors[label] - torch.softmax(logits[0].detach(), dim=0) @ anchors
    assert torch.allclose(pull, weight[:, None] * direction, atol=1e-6)
    assert (pull @ anchors[label] > 0).all()  # every weight is positive: all values move to the label's anchor


def test_without_layers_only_the_base_is_learnt() -> None:
    off = replace(SMALL, attention=replace(SMALL.attention, intra=0, inter=0, begin=0, feedback=1))
    later = replace(SMALL, attention=replace(SMALL.attention, begin=1000))
    (model, batch), (other, same) = one_batch(off), one_batch(later)
    other.spatial.load_state_dict(model.spatial.state_dict())
    assert not batch.aggregate and not list(model.correlation.parameters())
    found, expected = model(batch), other(same)
    assert set(found) == {"label", "spatial"} and {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}
    x = torch.randn(2, 7, 16)
    assert Correlation(16, off.attention)(x, torch.zeros(2, 7, 3)) is x


def test_losses_are_averaged_once_they_are_active() -> None:
    model, batch = one_batch()
    assert batch.aggregate and batch.feedback and set(model(batch)) == {"label", "spatial", "refined", "feedback"}
    early = batch._replace(aggregate=torch.tensor(False), feedback=torch.tensor(False))
    assert model(early)["label"].item() == pytest.approx(3 * model(batch)["label"].item())


def test_feedback_teaches_the_network_and_not_the_transformers() -> None:
    for distribution in ("channels", "classes"):
        model, batch = one_batch(replace(SMALL, attention=replace(SMALL.attention, distribution=distribution)))
        model(batch)["feedback"].backward()
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.correlation.parameters())
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.network.parameters())


def test_anchors_are_no_parameters() -> None:
    model, batch = one_batch()
    torch.stack(list(model(batch).values())).sum().backward()
    assert not model.anchors.requires_grad and "anchors" not in dict(model.named_parameters())
    assert torch.equal(model.anchors, torch.from_numpy(ANCHORS))


def test_a_scene_sees_another_through_the_inter_scene_layers_only() -> None:
    x = torch.randn(2, 6, 16)
    changed = torch.stack([x[0], torch.randn(6, 16)])
    for inter, same in ((0, True), (1, False)):
        torch.manual_seed(0)
        module = Correlation(16, AttentionConfig(intra=1, inter=inter, place=True))
        xyz = torch.rand(2, 6, 3)
        assert torch.allclose(module(x, xyz)[0], module(changed, xyz)[0], atol=1e-6) is same


def test_own_labels_replace_those_of_the_teacher() -> None:
    model, batch = one_batch(replace(SMALL, attention=replace(SMALL.attention, begin=1000)))
    own = batch._replace(own=torch.tensor(True))
    assert model(own)["label"] < model(batch)["label"]
    steps = [one_batch(replace(SMALL, switch=5), number)[1].own.item() for number in (0, *range(20, 28))]
    assert steps[0] is False and {True, False} == set(steps[1:])


def test_a_batch_counts_each_pair_once() -> None:
    _, batch = one_batch()
    assert batch.sampled.shape == (2, 128) and len(batch.sampled.unique()) == 256
    assert torch.equal(batch.labels.sum(dim=1), batch.pairs) and batch.pairs.max() == 3
    assert (batch.feature.norm(dim=1) <= batch.pairs + 1e-4).all()


def test_two_optimisers_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    models = [nn.Linear(3, 4) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    mixed = TwoOptimisers([models[0].weight], 0.1, 1e-2, [models[0].bias], 1e-2, 0.1)
    apart = [
        torch.optim.SGD([models[1].weight], 0.1, momentum=0.9, dampening=0.1, weight_decay=1e-2),
        torch.optim.AdamW([models[1].bias], 1e-2, weight_decay=0.1),
    ]
    for _ in range(6):
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3))).float()
        for model, optimisers in ((models[0], [mixed]), (models[1], apart)):
            model.zero_grad()
            model(x).square().sum().backward()
            for optimiser in optimisers:
                optimiser.step()
    assert torch.allclose(models[0].weight, models[1].weight, atol=1e-6) and torch.allclose(models[0].bias, models[1].bias, atol=1e-6)
