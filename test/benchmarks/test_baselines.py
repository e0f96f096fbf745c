"""Baselines on objects that they must find, must not find, or must find nothing in."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from benchmarks.baselines import baselines, proposals, scosparc, superpoints, tokens
from geoseg_ros.evaluate import trivial
from geoseg_ros.evaluate.items import CosegSet, Item, NamedMethod, transductive
from geoseg_ros.evaluate.methods import Tools, contrast
from geoseg_ros.evaluate.metrics import iou
from geoseg_ros.evaluate.score import figures
from geoseg_ros.evaluate.trivial import PerCloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from support.evaluate_worlds import image_item, square, table_cloud
from support.fake_world import COLOURS, CONFIG, picture, table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tools(fake_backbone, fake_bank):
    return Tools(fake_backbone, fake_bank, CONFIG)


@pytest.fixture(scope="module")
def red() -> CosegSet:
    """Pictures and tables with something red among other objects, and some without; a blue rival that is in half of the pictures."""
    images, clouds = [], []
    for k in range(4):
        rgb, truth = picture(50 + k, ("red", "green", "blue")[: 2 + k % 2])
        images.append(Item(f"image{k}", rgb, truth))
        cloud, label = table(50 + k, ("red", "green", "cyan"))
        clouds.append(Item(f"cloud{k}", cloud, label == 1))
    rgb, truth = picture(60, ("green", "yellow"))
    images.append(Item("other image", rgb, np.zeros_like(truth)))
    cloud, label = table(60, ("green", "yellow"))
    clouds.append(Item("other cloud", cloud, np.zeros(len(cloud), bool)))

    def concept(name: str, start: int) -> Material:
        return Material(
            name,
            [picture(start + k, (name, "green", "yellow")[: 1 + k % 3])[0] for k in range(6)],
            [table(start + k, (name, "green", "cyan"))[0] for k in range(4)],
            [picture(start + 30 + k, ("green", "yellow"))[0] for k in range(4)],
            [table(start + 30 + k, ("green", "cyan", "yellow"))[0] for k in range(3)],
        )

    return CosegSet("red", "colours", concept("red", 0), (concept("blue", 500),), images, clouds, "everything")


def method(tools: Tools, name: str) -> NamedMethod:
    return next(m for m in [contrast(tools), *baselines(tools)] if m.name == name)


@pytest.mark.parametrize("name", ["contrast", "contrast, clouds only", "folder MIL, clouds only"])
def test_methods_that_know_the_concept_find_it(tools, red, name) -> None:
    answers = method(tools, name).run(red, 0)
    assert answers.clouds is not None
    result = figures(red.clouds, answers.clouds)
    assert result["iou"] > 0.8 and result["auroc"] == 1.0 and result["false_found"] == 0.0
    if name == "contrast":
        assert answers.images is not None and figures(red.images, answers.images)["iou"] > 0.5


@pytest.mark.parametrize("name", ["late fusion, 2-means", "late fusion, contrast"])
def test_late_fusion_finds_the_object_in_clouds(tools, red, name) -> None:
    answers = method(tools, name).run(red, 0)
    assert answers.clouds is not None and answers.images is not None
    clouds = figures(red.clouds, answers.clouds)
    assert clouds["found"] == 1.0 and clouds["iou"] > figures(red.clouds, trivial.everything(red, 0).clouds or [])["iou"]


def test_superpoints_of_the_concept_are_found(red) -> None:
    answers = superpoints.superpoint_groups(red, 0)
    assert answers.clouds is not None
    result = figures(red.clouds, answers.clouds)
    assert result["iou"] > 0.6 and result["false_found"] == 0.0


def test_without_material_there_is_no_answer(tools, red) -> None:
    pictures = CosegSet("red", "colours", Material("red", red.own.images), images=red.images, clouds=red.clouds)
    clouds = CosegSet("red", "colours", Material("red", clouds=red.own.clouds), images=red.images, clouds=red.clouds)
    assert superpoints.superpoint_groups(pictures, 0).clouds is None
    for name in ("contrast, clouds only", "folder MIL, clouds only"):
        answers = method(tools, name).run(pictures, 0)
        assert answers.clouds is None and answers.images is None
    for name in ("late fusion, 2-means", "late fusion, contrast", "SCoSPARC stage 1"):
        answers = method(tools, name).run(clouds, 0)
        assert answers.clouds is None and answers.images is None


def test_every_baseline_answers_every_item_and_follows_its_seed(tools, red) -> None:
    small = transductive("red", "colours", red.images[:3], red.clouds[:2], "itself")
    for each in baselines(tools):
        answers = [each.run(small, 1), each.run(small, 1)]
        assert any(a is not None for a in (answers[0].images, answers[0].clouds)), each.name
        pairs = [(of, *(getattr(a, name) for a in answers)) for name, of in (("images", small.images), ("clouds", small.clouds))]
        for items, first, second in pairs:
            if first is None or second is None:
                assert first is second, each.name
                continue
            figures(items, first)  # one answer of the right shape each
            assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first, second, strict=True)), each.name


def test_trivial_answers_by_hand() -> None:
    item = image_item("a", square(2))
    assert (trivial.everything(CosegSet("a", "", Material("a"), images=[item]), 0).images or [])[0].mask.all()
    (answer,) = trivial.centre(CosegSet("a", "", Material("a"), images=[image_item("a", np.zeros((200, 300), bool))]), 0).images or []
    assert answer.mask.mean() == pytest.approx(trivial.CENTRE_SHARE, abs=0.01)
    rows, columns = (np.flatnonzero(answer.mask.any(axis=axis)) for axis in (1, 0))
    assert rows.mean() == 99.5 and columns.mean() == 149.5 and len(columns) / len(rows) == pytest.approx(1.5, abs=0.02)


def test_trivial_answers_on_a_table() -> None:
    cloud, instance = table_cloud()
    xyz = cloud.xyz.copy()
    xyz[0] = np.nan
    holes = Cloud(xyz, cloud.rgb)
    both = CosegSet("object", "", Material("object"), clouds=[Item("both", holes, instance > 0)])
    one = CosegSet("cube", "", Material("cube"), clouds=[Item("cube", holes, instance == 1)])
    none = CosegSet("none", "", Material("none"), clouds=[Item("none", holes, instance > 2)])

    def answer(method, items):
        return (method(items, 0).clouds or [])[0].mask

    assert np.array_equal(answer(trivial.everything, both), holes.valid())
    assert iou(answer(trivial.minus_planes, both), instance > 0) > 0.9
    larger = max(np.count_nonzero(instance == k) for k in (1, 2))
    assert np.count_nonzero(answer(trivial.largest_proposal, both)) > 0.8 * larger
    assert iou(answer(trivial.oracle_proposals, both), instance > 0) > 0.9
    assert iou(answer(trivial.oracle_proposals, one), instance == 1) > 0.85
    assert not answer(trivial.oracle_proposals, none).any()
    picks = {answer(lambda items, _, seed=seed: trivial.random_proposal(items, seed), both).tobytes() for seed in range(12)}
    assert len(picks) > 1


def test_trivial_answers_where_there_is_nothing() -> None:
    x, y = (a.ravel() for a in np.meshgrid(*[np.arange(0, 1, 0.02)] * 2))
    flat = Cloud(np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32))
    for cloud in (flat, Cloud(np.full((5, 3), np.nan, np.float32))):
        items = CosegSet("none", "", Material("none"), clouds=[Item("none", cloud, np.zeros(len(cloud), bool))])
        for run in (trivial.largest_proposal, trivial.random_proposal, trivial.oracle_proposals):
            assert not (run(items, 0).clouds or [])[0].mask.any()


def test_per_cloud_forgets() -> None:
    made = []
    memory = PerCloud(lambda cloud: made.append(len(cloud)) or len(cloud))
    cloud = Cloud(np.zeros((3, 3), np.float32))
    assert memory(cloud) == memory(cloud) == 3 and made == [3]
    del cloud
    gc.collect()
    assert not memory._known


def test_groups_and_border_rule() -> None:
    values = np.repeat([[0.0, 0.0], [1.0, 1.0], [5.0, 0.0]], 10, axis=0) + np.random.default_rng(0).normal(0, 0.01, (30, 2))
    found = tokens.groups(values, 3, seed=1)
    assert sorted(len(set(found[k : k + 10])) for k in (0, 10, 20)) == [1, 1, 1] and len(set(found)) == 3
    assert tokens.groups(np.ones((5, 2)), 3, 0).tolist() == [0] * 5
    middle = np.zeros((10, 10), bool)
    middle[3:7, 3:7] = True
    assert tokens.away_from_border(middle) and not tokens.away_from_border(~middle)
    assert tokens.full_size(middle, (100, 50))[35:65, 18:32].all() and not tokens.full_size(middle, (100, 50))[:25].any()


def test_two_means_of_a_bright_square(tools) -> None:
    """A red square on grey: the smaller group in the middle is the object."""
    rgb = np.full((96, 128, 3), 128, np.uint8)
    rgb[32:64, 48:80] = COLOURS["red"]
    truth = np.zeros((96, 128), bool)
    truth[32:64, 48:80] = True
    items = CosegSet("red", "", Material("red"), images=[Item("a", rgb, truth)])
    (answer,) = tokens.two_means(tools)(items, 0).images or []
    assert iou(answer.mask, truth) > 0.7


# SCoSPARC


def test_linear_form_equals_the_matrix_over_all_pairs() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 9, 6)
    network = scosparc.CrossAttention(6)
    with torch.no_grad():
        refined = x + network.residual(x)
        pairs = torch.einsum("vpd,wqd->vpwq", network.query(refined), network.key(refined)) / 6**0.5
        expected = torch.stack([pairs[v][:, [w for w in range(4) if w != v]].mean((1, 2)) for v in range(4)])
        assert torch.allclose(network.among(x), expected, atol=1e-5)


def test_squash_is_the_papers() -> None:
    mask = scosparc.squash(torch.tensor([[2.0, 4.0, 3.3]]))
    assert torch.allclose(mask, torch.sigmoid((torch.tensor([[0.0, 1.0, 0.65]]) - 0.65) / 0.15))


def scene_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [8, 28 * 28, 16] of pictures whose middle is an object on varied ground, and bool [784] of the object."""
    generator = torch.Generator().manual_seed(1)
    inside = torch.zeros(28, 28, dtype=torch.bool)
    inside[9:19, 9:19] = True
    obj, grounds = torch.randn(16, generator=generator), torch.randn(8, 16, generator=generator)
    tokens = torch.where(inside.flatten()[None, :, None], obj, grounds[:, None]) + 0.3 * torch.randn(8, 784, 16, generator=generator)
    return torch.nn.functional.normalize(tokens, dim=2), inside.flatten()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_side_with_more_saliency_per_area_is_taken(seed) -> None:
    tokens, inside = scene_tokens()

    def per_area(mask: torch.Tensor, saliency: torch.Tensor) -> float:
        return float((mask * saliency).sum() / mask.sum())

    signs = []
    for saliency in (inside.float().expand(len(tokens), -1), (~inside).float().expand(len(tokens), -1)):
        trained = scosparc.train(tokens, saliency, seed, epochs=2)
        other = scosparc.Trained(trained.network, -trained.sign, trained.keys)
        assert per_area(trained.masks(tokens, own=True), saliency) > per_area(other.masks(tokens, own=True), saliency)
        signs.append(trained.sign)
    assert signs[0] == -signs[1]


def test_a_new_picture_meets_the_whole_set() -> None:
    """Held out: the score of the closed form with the mean key of the set, which excludes nothing."""
    tokens, inside = scene_tokens()
    trained = scosparc.train(tokens[:6], inside.float().expand(6, -1), 0, epochs=2)
    with torch.no_grad():
        keys = torch.stack([trained.network.keys(t[None])[0] for t in tokens[:6]]).mean(0)
        expected = scosparc.squash(trained.sign * trained.network.score(tokens[6:], keys.expand(2, -1)))
    assert torch.allclose(trained.masks(tokens[6:], own=False), expected, atol=1e-5)


def test_training_lowers_the_loss_and_leaves_the_global_seed_alone() -> None:
    tokens, inside = scene_tokens()
    saliency = inside.float().expand(len(tokens), -1)
    state = torch.get_rng_state()

    def loss(epochs: int) -> float:
        network = scosparc.train(tokens, saliency, 0, epochs).network
        with torch.no_grad():
            mask = scosparc.squash(network.among(tokens))
            return float(scosparc.cooccurrence_loss(tokens, mask) + 0.3 * scosparc.saliency_loss(saliency, mask, "mean"))

    assert loss(60) < loss(0) - 0.01
    assert torch.equal(torch.get_rng_state(), state)


def test_threshold_by_hand() -> None:
    maps = torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.1, 0.1]])  # the second has no confident value
    assert scosparc.threshold(maps) == pytest.approx(0.505 + (1 - 0.7) - 0.48)
    assert scosparc.threshold(maps[1:]) == 0.505


def test_regions_that_look_unlike_the_set_are_dropped() -> None:
    fine = np.zeros((56, 56), np.float32)
    fine[8:24, 8:24] = fine[32:48, 32:48] = 1
    grid = np.zeros((28, 28, 2), np.float32)
    grid[..., 1] = 0.1
    grid[4:12, 4:12] = (1, 0)
    grid[16:24, 16:24] = (0.2, 1)
    kept = scosparc.regions(fine, grid, np.array([1, 0], np.float32), 0.5)
    assert kept[8:24, 8:24].all() and not kept[32:48, 32:48].any() and kept.sum() == 256
    assert not scosparc.regions(fine, grid, np.array([1, 0], np.float32), 2.0).any()


def test_scosparc_on_pictures(tools, red) -> None:
    for name in ("SCoSPARC stage 1", "SCoSPARC stages 1+2"):
        answers = method(tools, name).run(red, 0).images
        assert answers is not None and len(answers) == len(red.images)


def test_bags_are_told_apart_by_one_instance() -> None:
    generator = torch.Generator().manual_seed(0)

    def bag(*special: int) -> torch.Tensor:
        rows = torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=1)
        for row in special:
            rows[row] = torch.nn.functional.one_hot(torch.tensor(0), 8).float()
        return rows

    head = proposals.fit_bags([bag(k % 5) for k in range(12)], [bag() for _ in range(12)], 0)
    test = bag(2)
    logit = head(proposals.SHARPNESS * test)[:, 0]
    assert int(logit.argmax()) == 2 and logit[2] > 0 and (logit > 0).sum() == 1


def test_superpoint_descriptors() -> None:
    cloud, instance = table_cloud()
    scene = trivial.geometry(cloud)
    found = superpoints.descriptors(scene)
    assert found.shape == (scene.superpoint.max() + 1, 13)
    assert found[:, :3] == pytest.approx(3 * 120 / 255)
    assert found[:, 3:].sum(axis=1) == pytest.approx(3.0)
    flat = found[scene.superpoint[scene.plane >= 0]]
    assert (flat[:, -1] > 2.9).mean() > 0.95  # normals of a plane agree


def test_recurring_groups() -> None:
    own = [np.array([500.0, 40, 0, 30]), np.array([500.0, 60, 30, 0])]
    flat = np.array([1.0, 0, 0, 0])
    assert superpoints.recurring(own, [], flat).tolist() == [1, 2, 3]  # 1.0, .5, .5
    assert superpoints.recurring(own, [np.array([500.0, 0, 90, 90])], flat).tolist() == [1]
    assert superpoints.recurring(own, [np.array([500.0, 90, 90, 90])], flat).tolist() == [1]  # nothing stands out: the best one
