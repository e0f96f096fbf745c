"""The settings that may let images decide about points: each does what it says, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.bank import build_bank
from geoseg_ros.methods.geofree.config import GcsfConfig, MgcmConfig, NetworkConfig, SfeConfig
from geoseg_ros.methods.geofree.decode import best_of_groups, nearest_score
from geoseg_ros.methods.geofree.gcsf import SharedSpace, log_association, similarity
from geoseg_ros.methods.geofree.inputs import comparable, prepare_cloud, stack
from geoseg_ros.methods.geofree.mgcm import Mgcm
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, draw_columns, join_columns
from geoseg_ros.methods.geofree.objective import joint_step
from geoseg_ros.methods.geofree.predict import predict_clouds
from geoseg_ros.methods.geofree.samplers import SoftProjection, draw_by_score
from geoseg_ros.methods.geofree.sfe import GraphAttention
from geoseg_ros.settings import with_values
from support.network_worlds import CONFIG, DIM, POINTS, cloud, clouds, extractor, images, network

SCORES = replace(
    CONFIG,
    sampler=replace(CONFIG.sampler, choose="scores"),
    gcsf=GcsfConfig(width=DIM, k=5, points="views", evidence="rows"),
    mgcm=MgcmConfig(signal="contrast"),
    decode="scores",
)
THING, REST = torch.eye(DIM)[0], torch.eye(DIM)[1]


def shown_images(count=4, seed=0):
    """Pictures whose middle shows ``THING``, before ``REST``, and the evidence for it."""
    found = images(count, seed)
    inside = (found.tokens[:, :, 0] > 0.7).float()
    tokens = inside[:, :, None] * THING + (1 - inside[:, :, None]) * REST + 0.02 * found.tokens
    return replace(found, tokens=comparable(tokens, None), evidence=inside)


def seen_cloud(seed, thing=THING, rest=REST):
    """A cloud whose ball looks like ``thing`` and whose floor looks like ``rest``; bool of the ball."""
    xyz, ball = cloud(seed)
    tokens = np.where(ball[:, None], thing.numpy(), rest.numpy()) + np.random.default_rng(seed).normal(0, 0.02, (len(xyz), DIM))
    return prepare_cloud(xyz, POINTS, comparable(torch.from_numpy(tokens.astype(np.float32)), None).numpy()), ball


def made_network(config=SCORES):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return CosegNetwork(DIM, config, extractor()).eval()


@pytest.fixture
def scores(generator):
    return 2 * torch.rand(2, 6, 40, generator=generator) - 1


def test_without_epsilon_only_the_kept_edges_are_left(scores):
    config = GcsfConfig(width=16, k=5, epsilon=0.0)
    z = log_association(scores, 2, config).exp()
    assert ((z > 1e-20).sum(2) == 10).all()
    kept = scores.unflatten(2, (2, 20)).topk(5, dim=3).values.flatten(2)
    torch.testing.assert_close(z.sort(2, descending=True).values[:, :, :10], (kept / 0.1).softmax(2).sort(2, descending=True).values)
    module = GraphAttention(16, SfeConfig(start="random"))
    rows = torch.randn(2, 6, 16, requires_grad=True)
    module(rows, torch.randn(2, 40, 16), log_association(scores, 2, config)).sum().backward()
    assert torch.isfinite(module.alpha.grad) and torch.isfinite(rows.grad).all()


def test_evidence_is_a_prior_of_the_edges(scores):
    config = GcsfConfig(width=16, k=5, evidence="edges")
    plain = log_association(scores, 2, config)
    mask = torch.linspace(0.1, 0.9, 40).expand(2, -1)
    torch.testing.assert_close(log_association(scores, 2, config, mask), (plain + mask.log()[:, None]).log_softmax(2))
    assert torch.isfinite(log_association(scores, 2, config, torch.zeros(2, 40))).all()
    assert torch.equal(log_association(scores, 2, replace(config, evidence="rows"), mask), plain)


def test_views_are_comparable_with_patches_before_training(generator):
    tokens = torch.randn(2, 7, 96, generator=generator)
    space = SharedSpace(9, 96, GcsfConfig(width=96, points="views"))
    assert not any(name.startswith("point.") for name, _ in space.named_parameters())
    projected, refined = space.patches(tokens, torch.full((2, 7), 1 / 7))
    points = space.points(torch.randn(2, 7, 9, generator=generator), tokens)
    torch.testing.assert_close(similarity(points, refined), similarity(tokens, tokens), atol=0.05, rtol=0)  # the LayerNorm takes a mean
    assert torch.equal(points, projected) and (similarity(points, refined).argmax(2) == torch.arange(7)).all()
    both = SharedSpace(9, 96, GcsfConfig(width=16, points="both"))
    features = torch.randn(2, 7, 9)
    torch.testing.assert_close(both.points(features, tokens), both.patch(tokens) + both.point(features))
    with pytest.raises(ValueError, match="tokens of views"):
        space.points(features)


def test_centred_features_have_no_common_part(generator):
    space = SharedSpace(9, DIM, GcsfConfig(width=16, centre=True))
    features = 5 + 0.1 * torch.randn(2, 30, 9, generator=generator)
    patches, _ = space.patches(3 + torch.randn(2, 20, DIM, generator=generator), torch.full((2, 20), 0.05))
    for centred in (space.points(features), patches):
        torch.testing.assert_close(centred.mean(1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    plain = SharedSpace(9, DIM, GcsfConfig(width=16)).points(features)

    def alike(x):
        return similarity(x, x).mean()

    assert alike(plain) > 0.5 > alike(space.points(features))


def test_attention_by_the_cosine_equals_its_formula(generator):
    torch.manual_seed(0)
    module = GraphAttention(16, SfeConfig(attention="cosine", alpha=0.5))
    rows, columns = torch.randn(1, 6, 16, generator=generator), torch.randn(1, 20, 16, generator=generator)
    log_z = torch.randn(1, 6, 20, generator=generator).log_softmax(2)
    q, k, v = (x.unflatten(2, (4, 4)) for x in (module.query(rows), module.key(columns), module.value(columns)))
    cosine = torch.cosine_similarity(q[:, :, None], k[:, None], dim=4).permute(0, 3, 1, 2)
    expected = torch.einsum("bhrc,bchd->brhd", (2 * cosine + 0.5 * log_z[:, None]).softmax(3), v).flatten(2)
    torch.testing.assert_close(module.attend(rows, columns, log_z), expected, atol=1e-5, rtol=1e-4)


def test_identity_projections_compare_as_the_graph_does(generator):
    """One head: the logits of the attention are the similarities of the graph, times sqrt(d)."""
    module = GraphAttention(16, SfeConfig(heads=1, attention="cosine", compare="identity", alpha=0.0))
    rows, columns = torch.randn(2, 6, 16, generator=generator), torch.randn(2, 20, 16, generator=generator)
    expected = (4 * similarity(rows, columns)).softmax(2) @ module.value(columns)
    torch.testing.assert_close(module.attend(rows, columns, torch.zeros(2, 6, 20)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["dot", "cosine"])
def test_share_of_the_attention_on_foreground(generator, attention):
    """sum_j A~_ij M_j: a mean of M, weighed by rows of A~ that sum to one and have the graph as their prior."""
    torch.manual_seed(0)
    module = GraphAttention(16, SfeConfig(attention=attention, alpha=0.5))
    rows, columns = torch.randn(2, 6, 16, generator=generator), torch.randn(2, 20, 16, generator=generator)
    log_z = torch.randn(2, 6, 20, generator=generator).log_softmax(2)
    mask = torch.rand(2, 20, generator=generator)
    found = module.share(rows, columns, log_z, mask)
    assert found.shape == (2, 6) and (mask.amin(1, keepdim=True) <= found).all() and (found <= mask.amax(1, keepdim=True)).all()
    weights = torch.stack([module.share(rows, columns, log_z, column.expand(2, -1)) for column in torch.eye(20)], 2)  # A~ [2, 6, 20]
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 6))
    torch.testing.assert_close((weights @ mask[:, :, None])[:, :, 0], found)
    barred = log_z.clone()
    barred[:, :, 10:] = -1e4
    assert module.share(rows, columns, barred, (torch.arange(20) >= 10).float().expand(2, -1)).abs().max() < 1e-6


def test_evidence_through_the_attention_is_that_of_the_graph_where_attention_does_not_tell_patches_apart():
    """With constant queries and alpha = 1 the corrected attention is Z, so the points get what the rows of the graph give them."""
    prepared, _ = seen_cloud(0)
    generator = torch.Generator().manual_seed(0)
    pictures = replace(images(4), evidence=torch.rand(4, 36, generator=generator))
    evidence, gradient = {}, {}
    for way in ("rows", "attention"):
        made = made_network(replace(SCORES, gcsf=replace(SCORES.gcsf, evidence=way)))
        seen = made.images(pictures.tokens, pictures.cls, evidence=pictures.evidence)
        columns, features = draw_columns(seen, torch.tensor([[0, 1]])), made.clouds(stack([prepared]))
        found = made.fused_clouds(features, columns).evidence
        found.square().sum().backward()
        gradient[way] = made.to_points.query.weight.grad
        for parameter in made.to_points.query.parameters():
            torch.nn.init.zeros_(parameter)
        evidence[way] = found.detach(), made.fused_clouds(features, columns).evidence.detach()
    torch.testing.assert_close(evidence["attention"][1], evidence["rows"][0], atol=1e-5, rtol=1e-4)
    assert (evidence["attention"][0] - evidence["rows"][0]).abs().max() > 1e-3
    assert gradient["rows"] is None and gradient["attention"].abs().max() > 0  # now attention can be learnt from it


def test_a_random_start_takes_something_and_a_standardised_residual_nothing_that_all_rows_share(generator):
    rows, columns = torch.randn(2, 6, 16, generator=generator), torch.randn(2, 20, 16, generator=generator)
    uniform = torch.full((2, 6, 20), 1 / 20).log()
    torch.manual_seed(0)
    plain, standardised = (GraphAttention(16, SfeConfig(fusion="graph", start="random", residual=r)) for r in ("plain", "standardised"))
    assert plain(rows, columns, uniform).abs().max() > 0.01
    # with a uniform graph every row gets one and the same vector
    torch.testing.assert_close(standardised(rows, columns, uniform), standardised.ffn(rows), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(plain(rows, columns, uniform), plain.ffn(rows), atol=1e-2)
    peaked = (10 * torch.randn(2, 6, 20, generator=generator)).log_softmax(2)
    assert (standardised(rows, columns, peaked) - standardised.ffn(rows)).abs().max() > 0.05


def test_the_contrast_as_the_signal_of_the_images():
    found = shown_images()
    module = Mgcm(DIM, MgcmConfig(signal="contrast"))
    score, _ = module.correlate(found.tokens, found.cls, evidence=found.evidence)
    assert torch.equal(score, found.evidence) and torch.equal(module.mask(score) > 0.5, found.evidence > 0.5)
    both = Mgcm(DIM, MgcmConfig(signal="both"))
    alone, _ = Mgcm(DIM, MgcmConfig()).correlate(found.tokens, found.cls)
    mixed, _ = both.correlate(found.tokens, found.cls, evidence=found.evidence)
    assert mixed.mean(1).abs().max() < 1e-4 and not torch.allclose(mixed, alone)
    with pytest.raises(ValueError, match="bring evidence"):
        module.correlate(found.tokens, found.cls)


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


@pytest.mark.parametrize("evidence", ["rows", "attention"])
def test_pictures_decide_which_points_are_marked(evidence):
    """Nothing is trained. A ball that looks like what the pictures show is found; with pictures of the floor's look, the floor is."""
    sfe = replace(SCORES.sfe, attention="cosine", compare="identity")
    made = made_network(replace(SCORES, gcsf=replace(SCORES.gcsf, evidence=evidence), sfe=sfe))
    made_clouds = [seen_cloud(seed) for seed in range(3)]
    prepared = [c for c, _ in made_clouds]
    right = shown_images()
    swapped = replace(right, evidence=1 - right.evidence)
    for pictures, inverted in ((right, False), (swapped, True)):
        bank = build_bank(made, prepared, pictures)
        for prediction, (_, ball) in zip(predict_clouds(made, prepared, bank), made_clouds, strict=True):
            truth = ~ball if inverted else ball
            found = prediction.mask
            assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_what_is_not_the_thing_speaks_against_points():
    """The pictures show neither look of the cloud; of two equal strangers the one that is known to be something else is left out."""
    made = made_network()
    other, rival = torch.eye(DIM)[2], torch.eye(DIM)[3]
    prepared, ball = seen_cloud(0, THING, 0.6 * THING + 0.8 * rival)
    features = made.clouds(stack([prepared]))
    pictures = replace(shown_images(), against=comparable((rival + 0.05 * other).expand(2, 36, DIM).clone(), None))
    seen = made.images(pictures.tokens, pictures.cls, evidence=pictures.evidence)
    own = draw_columns(seen, torch.tensor([[0, 1]]))
    against = made.against(pictures.against)
    joined = join_columns(own, against)
    assert joined.blocks == 4 and joined.mask.shape == joined.projected.shape[:2] and not joined.mask[:, own.mask.shape[1] :].any()
    alone, together = made.fused_clouds(features, own).evidence[0], made.fused_clouds(features, joined).evidence[0]
    floor = torch.from_numpy(~ball[prepared.index])
    assert alone[floor].mean() > 0.3 and together[floor].mean() < 0.1 < 0.5 * together[~floor].mean()
    bank = build_bank(made, [prepared, seen_cloud(1)[0]], pictures)
    assert bank.columns(1).blocks == 6 and not bank.patches_mask[4:].any()
    banked = draw_columns(seen, torch.tensor([[0, 1, 2, 3]]), against)
    expected, found = (made.fused_clouds(features, columns).evidence for columns in (banked, bank.columns(1)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_training_steps_with_scores_move_the_scores():
    made = made_network().train()
    points = stack([seen_cloud(seed)[0] for seed in range(4)])
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


def test_the_score_of_points_without_evidence_is_the_samplers():
    made = made_network(replace(SCORES, gcsf=replace(SCORES.gcsf, evidence="none")))
    features = torch.randn(2, POINTS, 256, generator=torch.Generator().manual_seed(0))
    plain, wrapped = made.point_mask(features, features), made.point_mask(Foreground(features), features)
    assert torch.equal(plain, wrapped) and plain.shape == (2, POINTS) and 0 <= plain.min() < 0.02 and 0.9 < plain.max() <= 1


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
    for decode in ("scores", "proposals"):
        made = made_network(replace(SCORES, decode=decode))
        mask = predict_clouds(made, [prepared], build_bank(made, [prepared, seen_cloud(1)[0]], shown_images()))[0].mask
        found[decode] = (mask & ball).sum() / (mask | ball).sum()
    assert found["scores"] < 0.7 < 0.9 < found["proposals"]


def test_points_that_no_view_shows_are_not_taken_but_decided():
    xyz, ball = cloud(0)
    seen = np.tile(np.arange(len(xyz), dtype=np.float32)[:, None], (1, 4))
    seen[~ball] = np.nan
    made = prepare_cloud(xyz, 64, seen)
    assert ball[made.index].all() and len(made.rows) == len(xyz)
    np.testing.assert_array_equal(made.seen[:, 0], made.index)
    assert stack([made, made]).shape == (2, 64, 7) and stack(clouds(2)).shape == (2, POINTS, 3)
    seen[40:] = np.nan
    with pytest.raises(InputError, match="at least 32 points that views show, got 0"):
        prepare_cloud(xyz, 64, seen)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (NetworkConfig(), {"decode": "scores"}, "decode: scores needs sampler.choose = scores"),
        (NetworkConfig(), {"gcsf.evidence": "rows"}, "gcsf.evidence: rows needs sampler.choose = scores"),
        (NetworkConfig(), {"gcsf.evidence": "attention"}, "gcsf.evidence: attention needs sampler.choose = scores"),
        (
            SCORES,
            {"gcsf.evidence": "attention", "sfe.fusion": "graph"},
            "attention needs sfe.fusion = attention, got graph",
        ),
        (SCORES, {"sampler.samples": 49}, "expected at most half of 96 points"),
    ],
)
def test_settings_that_do_not_go_together(config, values, message):
    with pytest.raises(InputError, match=message):
        with_values(config, values)


def test_the_paper_preset_takes_none_of_it():
    from geoseg_ros.methods.geofree.config import preset

    for name in ("paper", "default"):
        config = preset(name)
        assert (config.gcsf.points, config.gcsf.evidence, config.gcsf.centre) == ("coordinates", "none", False)
        assert config.sampler.choose == "pool"
        assert (config.sfe.start, config.sfe.attention, config.sfe.residual, config.mgcm.signal) == ("zero", "dot", "plain", "correlation")
    assert network().config.gcsf.points == "coordinates"
