"""Multi-grain correlation: the closed form against the full matrix, and what each setting does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geoseg_ros.methods.geofree.config import MgcmConfig
from geoseg_ros.methods.geofree.mgcm import Mgcm

V, NP, D = 5, 12, 16


@pytest.fixture
def made(generator):
    tokens, cls = torch.randn(V, NP, D, generator=generator), torch.randn(V, D, generator=generator)

    def make(**changes):
        torch.manual_seed(0)
        return Mgcm(D, replace(MgcmConfig(signal="correlation"), **changes))

    return make, tokens, cls


@pytest.mark.parametrize("images", [V, 2, 1])
def test_closed_form_equals_the_full_matrix(made, images):
    """S^ over all pairs of patches, then the mean over the keys of all images."""
    make, tokens, cls = made
    module, features, vectors = make(), tokens[:images], cls[:images]
    queries = module.phi_q(features) + 0.2 * vectors[:, None]
    matrix = queries.flatten(0, 1) @ module.phi_k(features).flatten(0, 1).T / D**0.5
    torch.testing.assert_close(module.score(features, vectors), matrix.mean(1).view(images, NP), atol=1e-5, rtol=1e-5)


def test_a_further_image_is_scored_from_the_reference_alone(made):
    make, tokens, cls = made
    module = make()
    reference = module.reference(tokens)
    assert reference.shape == (V, D)
    torch.testing.assert_close(module.score(tokens[-1:], cls[-1:], reference)[0], module.score(tokens, cls)[-1], atol=1e-5, rtol=1e-5)


def test_the_global_term_is_constant_over_an_image_as_printed(made):
    make, tokens, cls = made
    score = [make(cls_weight=weight).score(tokens, cls) for weight in (0.0, 1.0)]
    torch.testing.assert_close(*(s - s.mean(1, keepdim=True) for s in score), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(*score)


def test_contrast_takes_the_score_that_comes_with_the_images(made):
    make, tokens, cls = made
    evidence = torch.rand(V, NP)
    assert make(signal="contrast").score(tokens, cls, evidence=evidence) is evidence
    with pytest.raises(ValueError, match="expected images that bring evidence"):
        make(signal="contrast").score(tokens, cls)


def test_channel_grain_starts_as_identity(made):
    make, tokens, _ = made
    module = make()
    assert torch.equal(module.channels(tokens), tokens)
    torch.nn.init.ones_(module.ffn1[2].weight)
    assert not torch.equal(module.channels(tokens), tokens)


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
