"""The network as a whole: shapes, hand-over between stages, bank, and what a prediction may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.methods.geofree.bank import Bank, build_bank
from geoseg_ros.methods.geofree.inputs import stack
from geoseg_ros.methods.geofree.model import Foreground, GraphColumns, patch_columns
from geoseg_ros.methods.geofree.objective import image_step, joint_step
from geoseg_ros.methods.geofree.predict import predict_clouds, predict_images, with_presence_scores
from support.network_worlds import CONFIG, DIM, POINTS, clouds, images, network

WITH = {
    "intended": CONFIG,
    "released": replace(CONFIG, sampler=replace(CONFIG.sampler, mutual="released")),
    "unimodal": replace(CONFIG, sfe=replace(CONFIG.sfe, fused=False)),
}


def test_shapes(generator):
    made, tokens, points = network(), images(4), stack(clouds(3))
    seen = made.images(tokens.tokens, tokens.cls)
    assert seen.channels.shape == (4, 36, DIM) and seen.score.shape == seen.mask.shape == seen.weights.shape == (4, 36)
    assert seen.projected.shape == seen.refined.shape == (4, 36, 16)
    features = made.clouds(points)
    assert features.foreground.shape == features.background.shape == (3, POINTS, 256) and features.projected.shape == (3, POINTS, 16)
    columns = patch_columns(seen, torch.tensor([[0, 1], [2, 3], [1, 0]]))
    assert columns.projected.shape == (3, 72, 16) and columns.blocks == 2
    torch.testing.assert_close(columns.refined[1, 36:], seen.refined[3])
    assert made.fused_clouds(features, columns).features.shape == (3, POINTS, 256)
    assert made.enhanced_images(seen, features.projected[[0, 1, 2, 0]], 1).shape == (4, 36, DIM)
    samples = made.samples(Foreground(features.foreground), features.background, points)
    assert all(s.shape == (3, 16, 3) for s in samples)
    assert samples.projected_o.norm(dim=2).max() <= 1 + 1e-5  # in the hull of points of the unit sphere
    extracted = made.extract(samples)
    torch.testing.assert_close(extracted[2].embedding, made.extractor(samples.projected_o).embedding, atol=1e-5, rtol=1e-4)


def test_before_training_the_fusion_changes_nothing():
    """The hand-over from stage to stage: enhanced features equal those of the branch alone."""
    made, tokens, points = network(awake=False), images(4), stack(clouds(3))
    seen, features = made.images(tokens.tokens, tokens.cls), made.clouds(points)
    columns = patch_columns(seen, torch.tensor([[0, 1], [2, 3], [1, 0]]))
    assert torch.equal(made.fused_clouds(features, columns).features, features.foreground)
    enhanced = made.enhanced_images(seen, features.projected[[0, 1, 2, 0]], 1)
    assert torch.equal(enhanced, tokens.tokens)
    torch.testing.assert_close(made.images(enhanced, tokens.cls).mask, seen.mask)
    awake = network()
    assert not torch.equal(awake.fused_clouds(awake.clouds(points), columns).features, awake.clouds(points).foreground)


@pytest.mark.parametrize("name", sorted(WITH))
def test_every_part_that_should_learn_gets_a_gradient(name, generator):
    made = network(WITH[name]).train()
    assert not made.extractor.training
    step = joint_step(made, stack(clouds(4)), images(4), generator, train_images=True)
    assert set(step.terms) == {"point", "object", "samp", "rep", "sem", "obj", "sal", "cooc"}
    torch.stack(list(step.terms.values())).sum().backward()
    asleep = {n for n, p in made.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    unused = {"unimodal": ("to_", "enhance_", "space.point", "space.refine")}
    # a bias before a normalisation or a softmax has no effect
    assert not {n for n in asleep if not n.startswith(unused.get(name, ())) and not n.endswith("bias")}
    assert all(p.grad is None for p in made.extractor.parameters())


def test_stages(generator):
    made = network().train()
    assert set(image_step(made, images(4))) == {"sal", "cooc"}
    assert set(image_step(made, images(1))) == {"sal"}
    points = stack(clouds(3))
    step = joint_step(made, points, images(4), generator, train_images=False)
    assert set(step.terms) == {"point", "object", "samp", "rep", "sem", "obj"}
    (step.terms["sem"] + step.terms["obj"]).backward()
    assert made.mgcm.phi_q.weight.grad is None or made.mgcm.phi_q.weight.grad.abs().max() < 1  # through the patches only
    assert made.enhance_patches.mlp[3].weight.grad is None  # the prototypes are detached in stage 2
    assert made.head_semantic[0].weight.grad.any()
    alone = joint_step(made, points, None, generator, train_images=False)
    assert set(alone.terms) == {"point", "object", "samp", "rep"} and alone.pooled is None


def test_foreign_prototypes_are_more_negatives(generator):
    made = network().eval()
    points, tokens = stack(clouds(3)), images(4)

    def semantic(config, foreign):
        made.config = config
        with torch.no_grad():
            step = joint_step(made, points, tokens, torch.Generator().manual_seed(0), False, foreign)
        return step.terms["sem"].item(), step.pooled

    plain, pooled = semantic(CONFIG, None)
    assert semantic(CONFIG, pooled)[0] > plain
    assert semantic(replace(CONFIG, loss=replace(CONFIG.loss, cross_concept=False)), pooled)[0] == plain


def test_settings_of_the_objective_change_it(generator):
    """Every setting of a step that could be ignored unnoticed."""
    points, tokens = stack(clouds(4)), images(4)

    def terms(**changes):
        made = network(**changes)
        with torch.no_grad():
            return joint_step(made, points, tokens, torch.Generator().manual_seed(0), True).terms

    plain = terms()

    def changed(part, **values):
        after = terms(**{part: replace(getattr(CONFIG, part), **values)})
        return {name for name in plain if not torch.equal(plain[name], after[name])}

    assert changed("loss", po_pool="gap") == {"obj"}
    assert changed("loss", anchor="image") == {"sem", "obj"}
    assert changed("loss", tau=0.2) == {"sem", "obj"}
    assert changed("loss", tau_object=0.3) == {"object"}
    assert changed("loss", tau_point=0.3) == {"point"}
    assert changed("loss", positives=50, negatives=70) == {"point"}
    assert changed("loss", samp_alpha=10.0) == changed("loss", gamma=0.1) == {"samp"}
    assert changed("loss", rep_margin=0.1) == {"rep"}
    assert changed("loss", saliency="mean") == changed("loss", sal=0.1) == {"sal"}
    assert changed("loss", s_coarse=0.0) == {"sal", "cooc"}
    for part, values in [
        ("gcsf", {"k": 2}),
        ("gcsf", {"epsilon": 0.5}),
        ("gcsf", {"tau_z": 1.0}),
        ("gcsf", {"mask_mode": "paper"}),
        ("gcsf", {"r_img": 1}),
        ("sfe", {"prior_mode": "paper"}),
        ("sfe", {"alpha": 0.0}),
        ("sfe", {"scale": 0.1}),
        ("sfe", {"fused": False}),
        ("mgcm", {"tau_s": 1.0}),
        ("mgcm", {"squash": "sigmoid"}),
        ("sampler", {"mutual": "released"}),
        ("sampler", {"partners": 1}),
        ("sampler", {"key_points": 12}),
        ("sampler", {"group": 3}),
    ]:
        assert changed(part, **values), (part, values)


@pytest.fixture(params=sorted(WITH))
def trained(request):
    made = network(WITH[request.param])
    return request.param, made, build_bank(made, clouds(5), images(6))


def test_bank_is_small_and_survives_a_file(trained):
    _, made, bank = trained
    patches = made.config.bank.patches
    assert bank.patches.shape == (6, min(36, patches), 16) and bank.key_points.shape == (5, 24, 16)
    assert bank.partners_o.shape == (5, 24, 256) and bank.coarse_mean.shape == (6, DIM)
    assert bank.object.norm() == pytest.approx(1, abs=1e-5) and bank.negatives.shape == (6, 8)
    tensors = bank.tensors()
    assert all(t.dtype == torch.float16 for t in tensors.values())
    again = Bank.from_tensors(tensors)
    torch.testing.assert_close(again.key_points, bank.key_points, atol=1e-2, rtol=1e-2)
    prediction, stored = (predict_images(made, images(2), b).mask for b in (bank, again))
    np.testing.assert_allclose(prediction, stored, atol=0.05)


def test_bank_is_bounded():
    config = replace(CONFIG, bank=replace(CONFIG.bank, images=3, clouds=4, patches=7))
    made = network(config)
    bank = build_bank(made, clouds(9), images(8), batch=4)
    assert bank.patches.shape[:2] == (3, 7) and len(bank.key_points) == 4


def test_predictions_depend_on_nothing_but_their_item(trained):
    _, made, bank = trained
    items = clouds(3, seed=50)
    together = predict_clouds(made, items, bank)
    for k, item in enumerate(items):
        alone = predict_clouds(made, [item], bank)[0]
        assert alone.presence == pytest.approx(together[k].presence, abs=1e-4)
        assert (alone.mask == together[k].mask).mean() > 0.98  # sums in another order may move a sample
        assert alone.score.shape == (300,) and alone.mask.dtype == bool and alone.p == 1.0
    photos = images(5, seed=9)
    masks = predict_images(made, photos, bank)
    assert masks.mask.shape == (5, 6, 6) and masks.mask.min() >= 0 and masks.mask.max() <= 1
    one = predict_images(made, photos.select([3]), bank)
    np.testing.assert_allclose(one.mask[0], masks.mask[3], atol=1e-5)
    np.testing.assert_allclose(one.presence[0], masks.presence[3], atol=1e-5)


def test_a_bank_without_one_modality_leaves_the_other_alone():
    made = network()
    bank = build_bank(made, clouds(5), images(6))
    blind = replace(bank, patches=bank.patches[:0], patches_refined=bank.patches_refined[:0])
    nobody = replace(bank, partners_o=bank.partners_o[:0], partners_b=bank.partners_b[:0])
    assert np.isfinite(predict_clouds(made, clouds(1, 50), nobody)[0].score).all()
    assert predict_clouds(made, clouds(1, 50), bank)[0].fused and not predict_clouds(made, clouds(1, 50), blind)[0].fused
    deaf = replace(bank, key_points=bank.key_points[:0])
    alone = predict_images(made, images(2, 9), deaf)
    assert not alone.fused and predict_images(made, images(2, 9), bank).fused
    assert not np.allclose(alone.mask, predict_images(made, images(2, 9), bank).mask)


def test_presence_is_calibrated_by_null_items():
    made = network()
    bank = build_bank(made, clouds(5), images(6))
    null = images(12, seed=3)
    null = replace(null, tokens=torch.roll(null.tokens, 5, dims=2))  # the direction of another object
    ready = with_presence_scores(made, bank, clouds(5), images(6), clouds(4, seed=80), null)
    assert [len(x) for x in (ready.own_clouds, ready.own_images, ready.null_clouds, ready.null_images)] == [5, 6, 4, 12]
    again = predict_images(made, null, ready)
    np.testing.assert_allclose(again.presence, ready.null_images.numpy(), atol=1e-5)
    assert again.p.min() > 0 and np.median(again.p) > 0.3
    assert predict_clouds(made, clouds(1, 50), ready)[0].p < 1.01


def test_invalid_points_are_background():
    made = network()
    bank = build_bank(made, clouds(4), images(4))
    item = clouds(1)[0]
    holed = replace(item, rows=item.rows + 7, size=item.size + 7)
    score = predict_clouds(made, [holed], bank)[0].score
    assert (score[:7] == -1).all() and len(score) == 307
    np.testing.assert_array_equal(score[7:], predict_clouds(made, [item], bank)[0].score)


def test_columns_of_the_bank_and_of_a_step_mean_the_same():
    """One image in full is the same column set whether drawn in a step or taken from the bank."""
    made = network()
    seen = made.images(images(3).tokens, images(3).cls)
    features = made.clouds(stack(clouds(2)))
    drawn = patch_columns(seen, torch.tensor([[1], [1]]))
    banked = GraphColumns(seen.projected[1:2].expand(2, -1, -1), seen.refined[1:2].expand(2, -1, -1), 1, seen.mask[1:2].expand(2, -1))
    torch.testing.assert_close(made.fused_clouds(features, drawn).features, made.fused_clouds(features, banked).features)
