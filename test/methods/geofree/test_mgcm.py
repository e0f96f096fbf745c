"""Multi-grain correlation: the closed form against the full matrix, and what each setting does."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.methods.geofree.config import MgcmConfig
from geoseg_ros.methods.geofree.mgcm import Mgcm

V, NP, D = 5, 12, 16


@pytest.fixture
def made(generator):
    tokens, cls = torch.randn(V, NP, D, generator=generator), torch.randn(V, D, generator=generator)

    def make(**changes):
        torch.manual_seed(0)
        return Mgcm(D, replace(MgcmConfig(), **changes))

    return make, tokens, cls


def full_matrix(module, features, cls):
    """S^ over all pairs of patches, then the mean: what the closed form must equal."""
    config = module.config
    images = len(features)
    z = module.phi_q(cls) if config.cls_through_q else cls
    q = (module.phi_q(features) + config.cls_weight * z[:, None]).flatten(0, 1)
    matrix = q @ module.phi_k(features).flatten(0, 1).T / D**0.5
    matrix = matrix.view(images, NP, images, NP)  # query image, query, key image, key
    rows = []
    for v in range(images):
        others = [u for u in range(images) if u != v or not config.exclude_self or images == 1]
        if config.mean_axis == "query":
            block = matrix[others][:, :, v]  # [others, NP queries, NP keys]
            rows.append((block.mean(1) if config.aggregate == "mean" else block.amax(1)).mean(0))
        else:
            block = matrix[v][:, others]  # [NP queries, others, NP keys]
            rows.append((block.mean(2) if config.aggregate == "mean" else block.amax(2)).mean(1))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("axis", "aggregate", "exclude", "through"),
    itertools.product(("query", "key"), ("mean", "max_per_image"), (True, False), (True, False)),
)
def test_closed_form_equals_the_full_matrix(made, axis, aggregate, exclude, through):
    make, tokens, cls = made
    module = make(mean_axis=axis, aggregate=aggregate, exclude_self=exclude, cls_through_q=through)
    for images in (V, 2, 1):
        score, _ = module.correlate(tokens[:images], cls[:images])
        expected = full_matrix(module, tokens[:images], cls[:images])
        torch.testing.assert_close(score, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aggregate", ["mean", "max_per_image"])
def test_a_further_image_is_scored_from_the_reference_alone(made, aggregate):
    make, tokens, cls = made
    module = make(aggregate=aggregate)
    reference = module.reference(tokens[:-1], cls[:-1])
    inside, _ = module.correlate(tokens, cls)  # the last image, correlated with the others only
    alone, _ = module.correlate(tokens[-1:], cls[-1:], reference)
    torch.testing.assert_close(alone[0], inside[-1], atol=1e-5, rtol=1e-5)


def test_reference_does_not_grow_with_the_patches(made):
    make, tokens, cls = made
    assert make().reference(tokens, cls).tokens.shape == (V, 0, D)
    keep = torch.arange(3).expand(V, 3)
    assert make(aggregate="max_per_image").reference(tokens, cls, keep).tokens.shape == (V, 3, D)


def test_an_image_without_the_object_hardly_matters(made, generator):
    """Adding one of V images moves the others' scores by less than 1/V of their spread, and the masks little."""
    make, _, _ = made
    direction = F.normalize(torch.randn(D, generator=generator), dim=0)
    count = 20
    tokens = 0.1 * torch.randn(count, NP, D, generator=generator)
    tokens[:-1, :4] += 3 * direction  # the object, in all but the last image
    cls = tokens.mean(1)
    module = make()
    with torch.no_grad():
        for linear in (module.phi_q, module.phi_k):
            linear.weight.copy_(torch.eye(D))
            linear.bias.zero_()
    with_all = module.mask(module.correlate(tokens, cls)[0])[:-1]
    without = module.mask(module.correlate(tokens[:-1], cls[:-1])[0])
    assert (with_all - without).abs().max() < 1 / count
    assert with_all[:, :4].min() > 0.5 > with_all[:, 4:].max()  # and the object is what recurs


def test_the_global_term_matters_over_queries_only(made):
    make, tokens, cls = made
    for axis, inert in (("query", False), ("key", True)):
        score = [make(mean_axis=axis, cls_weight=weight).correlate(tokens, cls)[0] for weight in (0.0, 1.0)]
        centred = [s - s.mean(1, keepdim=True) for s in score]
        assert torch.allclose(*centred, atol=1e-5) == inert


def test_channel_grain_starts_as_identity_and_can_be_switched_off(made):
    make, tokens, _ = made
    module = make()
    assert torch.equal(module.channels(tokens), tokens)
    torch.nn.init.ones_(module.ffn1[2].weight)
    assert not torch.equal(module.channels(tokens), tokens)
    off = make(channel_grain=False)
    torch.nn.init.ones_(off.ffn1[2].weight)
    assert torch.equal(off.channels(tokens), tokens)


def test_masks_and_weights(made, generator):
    make, _, _ = made
    score = torch.randn(V, NP, generator=generator)
    module = make()
    mask = module.mask(score)
    torch.testing.assert_close(mask.amax(1), torch.full((V,), torch.sigmoid(torch.tensor(0.35 / 0.15)).item()))
    torch.testing.assert_close(mask.amin(1), torch.full((V,), torch.sigmoid(torch.tensor(-0.65 / 0.15)).item()))
    torch.testing.assert_close(module.mask(7 * score + 3), mask, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(make(squash="sigmoid").mask(score), torch.sigmoid(score))
    weights = module.weights(score)
    torch.testing.assert_close(weights.sum(1), torch.ones(V))
    assert torch.equal(weights.argmax(1), score.argmax(1))
    torch.testing.assert_close(module.weights(7 * score + 3), weights, atol=1e-5, rtol=1e-4)
    raw = make(standardise=False, tau_s=1.0).weights(0.01 * score)
    assert raw.max() < 1.1 / NP < weights.max()  # as printed the weights are flat
    assert torch.isfinite(module.mask(torch.zeros(1, NP))).all() and torch.isfinite(module.weights(torch.zeros(1, NP))).all()


@pytest.mark.parametrize(("axis", "through"), [("query", True), ("query", False), ("key", True)])
def test_flip_changes_the_sign_of_every_score(made, axis, through):
    make, tokens, cls = made
    module = make(mean_axis=axis, cls_through_q=through)
    before, _ = module.correlate(tokens, cls)
    module.flip()
    torch.testing.assert_close(module.correlate(tokens, cls)[0], -before)
