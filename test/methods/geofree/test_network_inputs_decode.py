"""Tokens, prepared clouds, and the two ways from samples to points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.inputs import frame_saliency, image_tokens, prepare_cloud, stack
from geoseg_ros.methods.geofree.predict import spread_samples
from geoseg_ros.methods.geofree.training_history import competitive_score
from support.fake_world import FakeBackbone, picture


def test_tokens_of_photographs_of_any_size():
    photos = [picture(k, ("red",), size)[0] for k, size in enumerate([(96, 128), (128, 96), (64, 64)])]
    tokens = image_tokens(FakeBackbone(), photos, side=100, batch=2)
    assert tokens.grid == (6, 6) and tokens.tokens.shape == (3, 36, 27) and tokens.cls.shape == (3, 27)
    assert len(tokens.select([0, 2])) == 2 and torch.equal(tokens.select([2]).tokens[0], tokens.tokens[2])
    one = image_tokens(FakeBackbone(), photos[2:], side=100)
    torch.testing.assert_close(one.tokens[0], tokens.tokens[2])
    with pytest.raises(InputError, match="at least one"):
        image_tokens(FakeBackbone(), [])


def test_saliency_is_what_the_frame_does_not_show(generator):
    tokens = 0.05 * torch.randn(2, 8, 8, 6, generator=generator) + torch.eye(6)[1]
    tokens[:, 3:5, 3:6] += 2 * torch.eye(6)[0]
    saliency = frame_saliency(tokens)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[3:5, 3:6] = True
    assert saliency.shape == (2, 64) and saliency.amin() == 0 and saliency.amax() == 1
    assert (saliency[:, inside.flatten()].amin(1) > saliency[:, ~inside.flatten()].amax(1)).all()
    # the mean token as a witness would say the opposite
    commonness = torch.cosine_similarity(tokens.flatten(1, 2), tokens.mean((1, 2))[:, None], dim=2)
    assert (commonness[:, inside.flatten()].mean(1) < commonness[:, ~inside.flatten()].mean(1)).all()


def test_clouds_are_centred_scaled_and_keep_their_rows():
    rng = np.random.default_rng(0)
    xyz = (rng.normal(size=(500, 3)) * 3 + 50).astype(np.float32)
    xyz[::7] = np.nan
    made = prepare_cloud(xyz, 128)
    assert made.points.shape == (128, 3) and made.size == 500 and np.isfinite(made.whole).all()
    np.testing.assert_array_equal(made.rows, np.flatnonzero(np.isfinite(xyz[:, 0])))
    assert np.linalg.norm(made.whole, axis=1).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(made.points, made.whole[np.searchsorted(made.rows, made.index)])
    again = prepare_cloud((xyz * 2 - 7).astype(np.float32), 128)  # neither place nor scale matters
    np.testing.assert_allclose(again.points, made.points, atol=1e-4)
    assert stack([made, again]).shape == (2, 128, 3)
    assert prepare_cloud(xyz[:60], 128).points.shape == (128, 3)  # fewer points than wanted: repeated
    with pytest.raises(InputError, match="at least 32 valid points, got 30"):
        prepare_cloud(xyz[:35], 128)


def test_many_points_are_thinned_first():
    xyz = np.random.default_rng(1).normal(size=(70_000, 3)).astype(np.float32)
    made = prepare_cloud(xyz, 64)
    assert len(made.whole) == 70_000 and (made.index % 4 == 0).all() and len(np.unique(made.index)) == 64


@pytest.fixture
def scene():
    """A ball on the left, a floor on the right; samples of each."""
    rng = np.random.default_rng(2)
    ball, floor = rng.normal(0, 0.1, (150, 3)) - [0.6, 0, 0], rng.normal(0, 0.1, (350, 3)) + [0.6, 0, 0]
    points = np.concatenate([ball, floor]).astype(np.float32)
    return points, np.arange(500) < 150, rng


def test_competitive_decode_follows_the_nearer_samples(scene):
    points, truth, rng = scene
    score = competitive_score(points, points[:150:5], points[150::12])
    assert score.dtype == np.float32 and score.min() >= -1 and score.max() <= 1
    np.testing.assert_array_equal(score > 0, truth)
    np.testing.assert_allclose(competitive_score(points, points[150::12], points[:150:5]), -score, atol=1e-6)
    order = rng.permutation(500)
    np.testing.assert_allclose(competitive_score(points[order], points[:150:5], points[150::12]), score[order], atol=1e-6)


def test_competitive_decode_stands_some_wrong_samples(scene):
    points, truth, _ = scene
    wrong = np.concatenate([points[:150:5], points[150:350:29]])  # a fifth of the foreground samples lies on the floor
    found = competitive_score(points, wrong, points[150::6]) > 0
    overlap = (found & truth).sum() / (found | truth).sum()
    spread = spread_samples(points, points, np.concatenate([np.arange(0, 150, 5), np.arange(150, 350, 29)])) > 0
    assert overlap > 0.85 > (spread & truth).sum() / (spread | truth).sum()
    crowded = np.repeat(points[:1], 30, axis=0)  # one place many times is one place
    np.testing.assert_allclose(competitive_score(points, crowded, points[150::12]), competitive_score(points, points[:1], points[150::12]))


def test_spread_decode_equals_its_definition(scene):
    points, _, _ = scene
    seen, matched = np.arange(0, 500, 2), np.array([3, 10, 10, 60])
    score = spread_samples(points, points[seen], matched)
    sampled = points[seen]
    chosen = {int(j) for m in matched for j in np.argsort(((sampled - sampled[m]) ** 2).sum(1))[:20]}
    expected = [int(np.argmin(((sampled - p) ** 2).sum(1))) in chosen for p in points]
    np.testing.assert_array_equal(score > 0, expected)
    assert set(np.unique(score)) == {-1.0, 1.0}
