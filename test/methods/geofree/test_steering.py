"""The preset ``views``: images decide about points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.bank import build_bank
from geoseg_ros.methods.geofree.config import GcsfConfig, MgcmConfig
from geoseg_ros.methods.geofree.fusion import SharedSpace, similarity
from geoseg_ros.methods.geofree.inputs import comparable, prepare_cloud, stack
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, patch_columns
from geoseg_ros.methods.geofree.objective import joint_step
from geoseg_ros.methods.geofree.predict import best_of_groups, nearest_score, predict_clouds
from geoseg_ros.methods.geofree.samplers import SoftProjection, draw_by_score
from support.network_worlds import CONFIG, DIM, POINTS, cloud, clouds, extractor, images

SCORES = replace(
    CONFIG,
    sampler=replace(CONFIG.sampler, choose="scores"),
    gcsf=GcsfConfig(width=DIM, k=5, points="views"),
    mgcm=MgcmConfig(signal="contrast"),
)
THING, REST = torch.eye(DIM)[0], torch.eye(DIM)[1]


def shown_images(count=4, seed=0):
    """Pictures whose middle shows ``THING``, before ``REST``, and the evidence for it."""
    found = images(count, seed)
    inside = (found.tokens[:, :, 0] > 0.7).float()
    tokens = inside[:, :, None] * THING + (1 - inside[:, :, None]) * REST + 0.02 * found.tokens
    return replace(found, tokens=comparable(tokens, None), evidence=inside)


def cloud_in_views(seed, obj=THING, rest=REST):
    """A cloud whose ball looks like ``object`` and whose floor looks like ``rest``; bool of the ball."""
    xyz, ball = cloud(seed)
    tokens = np.where(ball[:, None], obj.numpy(), rest.numpy()) + np.random.default_rng(seed).normal(0, 0.02, (len(xyz), DIM))
    return prepare_cloud(xyz, POINTS, comparable(torch.from_numpy(tokens.astype(np.float32)), None).numpy()), ball


def made_network(config=SCORES):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return CosegNetwork(DIM, config, extractor()).eval()


def test_views_are_comparable_with_patches_before_training(generator):
    tokens = torch.randn(2, 7, 96, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        space = SharedSpace(9, 96, GcsfConfig(width=96, points="views"))
    assert not any(name.startswith("point.") for name, _ in space.named_parameters())
    projected, refined = space.patches(tokens, torch.full((2, 7), 1 / 7))
    points = space.points(torch.randn(2, 7, 9, generator=generator), tokens)
    torch.testing.assert_close(similarity(points, refined), similarity(tokens, tokens), atol=0.05, rtol=0)  # the LayerNorm takes a mean
    assert torch.equal(points, projected) and (similarity(points, refined).argmax(2) == torch.arange(7)).all()
    with pytest.raises(ValueError, match="tokens of views"):
        space.points(torch.randn(2, 7, 9))


def test_points_are_drawn_by_their_score():
    share = torch.tensor([[0.9, 0.01, 0.8, 0.01, 0.5]]).log()
    assert set(draw_by_score(share, 2, None)[0].tolist()) == {0, 2}
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_by_score(share, 1, generator)[0, 0] for _ in range(600)])
    frequency = torch.bincount(drawn, minlength=5) / 600
    torch.testing.assert_close(frequency, share.exp()[0] / share.exp().sum(), atol=0.06, rtol=0)
    assert all(len(set(draw_by_score(share, 4, generator)[0].tolist())) == 4 for _ in range(20))


def test_scores_get_a_gradient_through_the_projection(generator):
    points = torch.randn(1, 20, 3, generator=generator)
    log_share = torch.zeros(1, 20, requires_grad=True)
    project = SoftProjection(5, 1e-2)
    torch.testing.assert_close(project(points[:, :4], points, log_share), project(points[:, :4], points))
    project(points[:, :4], points, log_share).square().sum().backward()
    assert log_share.grad.abs().max() > 0
    far = torch.full((1, 20), -50.0)
    far[0, 3] = 0.0
    torch.testing.assert_close(project(points[:, 3:4], points, far), points[:, 3:4])


def test_pictures_decide_which_points_are_marked():
    """Nothing is trained. A ball that looks like what the pictures show is found; with pictures of the floor's look, the floor is."""
    made = made_network()
    made_clouds = [cloud_in_views(seed) for seed in range(3)]
    prepared = [c for c, _ in made_clouds]
    right = shown_images()
    swapped = replace(right, evidence=1 - right.evidence)
    for pictures, inverted in ((right, False), (swapped, True)):
        bank = build_bank(made, prepared, pictures)
        for prediction, (_, ball) in zip(predict_clouds(made, prepared, bank), made_clouds, strict=True):
            truth = ~ball if inverted else ball
            found = prediction.mask
            assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_what_does_not_show_the_target_speaks_against_points():
    """The pictures show neither look of the cloud; of two equal strangers the one that is known to be something else is left out."""
    made = made_network()
    other, rival = torch.eye(DIM)[2], torch.eye(DIM)[3]
    prepared, ball = cloud_in_views(0, THING, 0.6 * THING + 0.8 * rival)
    features = made.clouds(stack([prepared]))
    pictures = replace(shown_images(), against=comparable((rival + 0.05 * other).expand(2, 36, DIM).clone(), None))
    seen = made.images(pictures.tokens, pictures.cls, evidence=pictures.evidence)
    own = patch_columns(seen, torch.tensor([[0, 1]]))
    against = made.against(pictures.against)
    joined = patch_columns(seen, torch.tensor([[0, 1]]), against)
    assert joined.blocks == 4 and joined.mask.shape == joined.projected.shape[:2] and not joined.mask[:, own.mask.shape[1] :].any()
    alone, together = made.fused_clouds(features, own).evidence[0], made.fused_clouds(features, joined).evidence[0]
    floor = torch.from_numpy(~ball[prepared.index])
    assert alone[floor].mean() > 0.3 and together[floor].mean() < 0.1 < 0.5 * together[~floor].mean()
    bank = build_bank(made, [prepared, cloud_in_views(1)[0]], pictures)
    assert bank.columns(1).blocks == 6 and not bank.patches_mask[4:].any()
    banked = patch_columns(seen, torch.tensor([[0, 1, 2, 3]]), against)
    expected, found = (made.fused_clouds(features, columns).evidence for columns in (banked, bank.columns(1)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_training_steps_with_scores_move_the_scores():
    made = made_network().train()
    points = stack([cloud_in_views(seed)[0] for seed in range(4)])
    step = joint_step(made, points, shown_images(), torch.Generator().manual_seed(0), True)
    torch.stack(list(step.terms.values())).sum().backward()
    for part in (made.sampler_o.score, made.sampler_b.score, made.space.patch, made.cloud_object):
        assert max(float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None) > 0
    again = joint_step(made, points, shown_images(), torch.Generator().manual_seed(0), True)
    assert torch.equal(step.samples.simplified_o, again.samples.simplified_o)
    sets = [set(map(tuple, s[0].detach().round(decimals=5).tolist())) for s in step.samples[:2]]
    assert len(sets[0]) == len(sets[1]) == CONFIG.sampler.samples  # points of the cloud, each once


def test_the_evidence_decides_alone_before_training():
    made = made_network()
    features = torch.randn(2, POINTS, 256, generator=torch.Generator().manual_seed(0))
    evidence = torch.rand(2, POINTS, generator=torch.Generator().manual_seed(1))
    assert torch.equal(made.point_scores(Foreground(features, evidence), features), evidence)
    torch.nn.init.ones_(made.sampler_o.score[1].bias)
    torch.testing.assert_close(made.point_scores(Foreground(features, evidence), features), evidence + 0.1)


def test_without_images_the_samplers_score_the_points():
    made = made_network()
    torch.nn.init.ones_(made.sampler_o.score[1].weight)
    features = torch.randn(2, POINTS, 256, generator=torch.Generator().manual_seed(0))
    expected = (made.sampler_o.score(features) - made.sampler_b.score(features))[:, :, 0]
    assert torch.equal(made.point_scores(Foreground(features), features), expected) and expected.std() > 0


def test_score_of_the_nearest_point():
    seen = np.array([[0, 0, 0], [1, 0, 0]], np.float32)
    points = np.array([[0.2, 0, 0], [0.9, 0.1, 0]], np.float32)
    np.testing.assert_array_equal(nearest_score(points, seen, np.array([0.5, -0.25], np.float32)), np.array([0.5, -0.25], np.float32))


def test_a_point_takes_the_best_mean_of_its_groups():
    score = np.array([1, 0, 0.5, 0.1, -1], np.float32)
    groups = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
    np.testing.assert_allclose(best_of_groups(score, groups), [0.5, 0.5, 0.4, 0.4, -1])  # the last one is in no group
    assert best_of_groups(score, groups[:0]) is score


def test_decode_of_proposals_marks_them_whole():
    """Half of the ball looks like the floor; its proposal is marked all the same."""
    xyz, ball = cloud(0)
    half = ball & (np.arange(len(ball)) % 2 == 0)
    tokens = np.where(half[:, None], THING.numpy(), REST.numpy())
    prepared = prepare_cloud(xyz, POINTS, comparable(torch.from_numpy(tokens), None).numpy())
    prepared = replace(prepared, groups=np.stack([ball[prepared.index], ~ball[prepared.index]]))
    found = {}
    for decode, item in (("scores", replace(prepared, groups=None)), ("proposals", prepared)):
        made = made_network()
        mask = predict_clouds(made, [item], build_bank(made, [prepared, cloud_in_views(1)[0]], shown_images()))[0].mask
        found[decode] = (mask & ball).sum() / (mask | ball).sum()
    assert found["scores"] < 0.7 < 0.9 < found["proposals"]


def test_points_that_no_view_shows_are_not_taken_but_decided():
    xyz, ball = cloud(0)
    seen = np.tile(np.arange(len(xyz), dtype=np.float32)[:, None], (1, 4))
    seen[~ball] = np.nan
    made = prepare_cloud(xyz, 64, seen)
    assert ball[made.index].all() and len(made.rows) == len(xyz)
    np.testing.assert_array_equal(made.view_tokens[:, 0], made.index)
    assert stack([made, made]).shape == (2, 64, 7) and stack(clouds(2)).shape == (2, POINTS, 3)
    seen[40:] = np.nan
    with pytest.raises(InputError, match="at least 32 points that views show, got 0"):
        prepare_cloud(xyz, 64, seen)
