import numpy as np
import pytest
import torch

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.evidence import cloud_evidence, voxel_evidence
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.references import Contrast
from geoseg_ros.projection.proposal_views import DrawnProposals, keep_proposals, look_at_proposals
from geoseg_ros.projection.views import ViewConfig
from support.fake_world import table


@pytest.fixture(scope="module")
def seen(fake_backbone, fake_bank):
    cloud, truth = table(3, ("red", "green", "blue"))
    scene = analyse_cloud(cloud)
    views = look_at_proposals(cloud, scene, fake_backbone, ViewConfig(views=1)).unit(fake_bank.mean)
    return cloud, truth, scene, views


def test_a_coloured_cloud_is_looked_at_in_colour_and_shaded(seen):
    _, _, scene, views = seen
    count = len(scene.proposals)
    assert views.domain is Domain.COLOUR and views.grid[0] == 2
    assert views.tokens.shape[:2] == views.weight.shape == (count, 2 * 8 * 8)
    assert views.index.shape == (count, 2, 128, 128) and views.index.max() < len(scene.xyz)
    assert (views.weight.sum(1) > 0).all()
    assert torch.allclose(views.tokens.norm(dim=-1), torch.ones(count, 128), atol=1e-4)
    kept = keep_proposals(views, 16)
    assert kept.tokens.shape == (count, 32, views.tokens.shape[-1]) and len(kept) == count
    assert torch.equal(kept.shaded().tokens, kept.tokens[:, 16:]) and torch.equal(kept.first(16).tokens, kept.tokens[:, :16])
    assert torch.equal(DrawnProposals.join([kept[:1], kept[1:]], 32, kept.tokens.shape[-1]).size, views.size)


def test_a_cloud_without_colour_and_a_config_without_colour_give_shaded_views(seen, fake_backbone, fake_bank):
    cloud, _, scene, _ = seen
    bare = Cloud(cloud.xyz, None)
    first = look_at_proposals(bare, scene, fake_backbone, ViewConfig(views=2)).unit(fake_bank.mean)
    second = look_at_proposals(cloud, scene, fake_backbone, ViewConfig(views=2, colour=False)).unit(fake_bank.mean)
    assert first.domain is second.domain is Domain.SHADED
    assert first.grid == (2, 8, 8)
    assert torch.equal(first.tokens, second.tokens)
    assert keep_proposals(first, 16).tokens.shape[1] == 16


def test_sizes_are_those_of_upright_boxes_in_metres(seen):
    _, truth, scene, views = seen
    height, length, width = views.size.T
    assert (length >= width).all() and (views.size > 0).all() and (height < 1).all()
    low, high = (np.array([f(scene.xyz[p][:, 1]) for p in scene.proposals]) for f in (np.min, np.max))
    assert np.allclose(height, high - low, atol=0.03)  # up is -y in this world, but for the table's slope


def test_thin_proposals_are_judged_by_what_they_show(seen, fake_backbone, fake_bank):
    rod = np.stack([np.zeros(300), np.linspace(-0.5, 0.5, 300), np.full(300, 2.0)], 1).astype(np.float32)
    scene = analyse_cloud(Cloud(rod))
    scene.proposals[:] = [np.arange(len(scene.xyz))]
    views = look_at_proposals(Cloud(rod), scene, fake_backbone, ViewConfig(views=1)).unit(fake_bank.mean)
    assert views.weight.max() < 0.5  # no token is half covered
    assert views.weight.sum() > 0


def test_evidence_follows_the_proposals(seen, fake_packs):
    _, truth, scene, views = seen
    contrast = Contrast([Concept.from_pack(fake_packs[name]).references for name in ("red", "blue")], 3)
    evidence = cloud_evidence(scene, views, contrast)
    voxel_truth = np.zeros(len(scene.xyz), np.uint8)
    voxel_truth[scene.inverse] = truth
    red, blue = evidence.voxel[:, voxel_truth == 1], evidence.voxel[:, voxel_truth == 3]
    assert np.median(red[0]) > np.median(red[1]) and np.median(blue[1]) > np.median(blue[0])
    held = np.zeros(len(scene.xyz), bool)
    for members in scene.proposals:
        held[members] = True
    assert np.isneginf(evidence.voxel[:, ~held]).all() and np.isfinite(evidence.voxel[:, held]).all()
    assert 3 <= evidence.tries <= len(scene.proposals)
    for score, chosen in zip(evidence.proposal, evidence.distinct, strict=True):
        assert score[chosen[0]] == score.max() and (np.diff(score[chosen]) <= 0).all()
        members = np.concatenate([scene.proposals[p] for p in chosen])
        assert len(np.unique(members)) > 0.5 * len(members)


def test_no_proposals_no_views(fake_backbone, fake_bank):
    cloud = Cloud(np.zeros((0, 3), np.float32))
    assert look_at_proposals(cloud, analyse_cloud(cloud), fake_backbone, ViewConfig()) is None


def test_up_is_the_normal_of_the_floor_in_body_and_optical_frames(seen):
    _, _, scene, _ = seen
    assert scene.up @ [0, -1, 0] > 0.99
    x, y = np.meshgrid(np.linspace(-2, 2, 60), np.linspace(1, 5, 60))
    rng = np.random.default_rng(0)
    floor = np.stack([x.ravel(), y.ravel(), -1 + rng.normal(0, 0.002, x.size)], 1).astype(np.float32)
    assert analyse_cloud(Cloud(floor)).up @ [0, 0, 1] > 0.99
    wall = floor[:, [0, 2, 1]] * [1, -1, 1]
    assert analyse_cloud(Cloud(wall.astype(np.float32)[:0])).up.tolist() == [0, 0, 1]


def test_what_touches_the_target_is_judged_by_its_own_proposals():
    target, neighbour = np.arange(6), np.arange(6, 10)
    both, crumb = np.arange(10), np.arange(10, 12)
    score = np.array([[0.3, 0.5, -0.4, 0.1]], np.float32)
    found = voxel_evidence([both, target, neighbour, crumb], score, 13)
    assert found[0].tolist() == pytest.approx([0.5] * 6 + [-0.4] * 4 + [0.1] * 2 + [-np.inf])
    found = voxel_evidence([both, target, crumb], score[:, [0, 1, 3]], 13)  # the rest has no proposal: it is taken for the target's
    assert found[0].tolist() == pytest.approx([0.5] * 6 + [0.3] * 4 + [0.1] * 2 + [-np.inf])
    whole = voxel_evidence([both, target, neighbour], np.array([[0.6, 0.5, -0.4]], np.float32), 10)
    assert (whole == np.float32(0.6)).all()  # a whole that is better than its parts
