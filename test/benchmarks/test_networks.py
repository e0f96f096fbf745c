"""GeoFree-CoSeg, Yang et al. and their controls as methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.baselines import geofree
from benchmarks.baselines.extractor_training import PretrainConfig
from benchmarks.baselines.gated import Gated, Judge
from benchmarks.baselines.geofree import ALARM, Networks, correlation, steering
from benchmarks.baselines.shapes import ShapesConfig
from benchmarks.baselines.variants import SIZES, VARIANTS, NetworkSize, settings
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, Item, Prediction, Predictions, check_predictions, paper_protocol
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.evaluate.score import figures
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.geofree.config import FitConfig, with_budget
from support.fake_world import CONFIG, picture, table

pytestmark = pytest.mark.train

TINY = NetworkSize(64, 12, 16, PretrainConfig(epochs=1, subsets=(32,), neighbours=5), ShapesConfig(1, 1, 64))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file for the extractor, so that it is trained once."""
    return tmp_path_factory.mktemp("extractor") / "dgcnn.safetensors"


@pytest.fixture
def networks(fake_backbone, fake_bank, weights) -> Networks:
    return Networks(Tools(fake_backbone, fake_bank, CONFIG), TINY, budget=3, weights=weights)


def concept(name: str, start: int) -> Material:
    images = [picture(start + k, (name, "green"))[0] for k in range(3)]
    return Material(name, images, [table(start + k, (name, "green"))[0] for k in range(3)])


@pytest.fixture(scope="module")
def red() -> CosegSet:
    """Red objects with a blue rival; one measured cloud has hardly any point."""
    images = [Item(f"image{k}", *picture(50 + k, ("red", "green"))) for k in range(2)]
    clouds = []
    for k in range(2):
        cloud, label = table(50 + k, ("red", "green"))
        clouds.append(Item(f"cloud{k}", cloud, label == 1))
    clouds.append(Item("few points", Cloud(np.zeros((5, 3), np.float32)), np.zeros(5, bool)))
    return CosegSet("red", "colours", concept("red", 0), (concept("blue", 500),), images, clouds, "everything")


def run(networks: Networks, name: str, items: CosegSet, seed: int = 0):
    return next(m for m in networks.methods() if m.name == name).run(items, seed)


def test_budget_is_shared_out_as_in_the_preset() -> None:
    config = with_budget(FitConfig(), 14)
    assert [s.epochs for s in (config.stage1, config.stage2, config.stage3)] == [6, 4, 4]
    assert with_budget(FitConfig(), None) == FitConfig()
    assert all(sum(s.epochs for s in (c.stage1, c.stage2, c.stage3)) == n for n in (3, 5, 350) for c in [with_budget(FitConfig(), n)])
    with pytest.raises(InputError, match="at least 3"):
        with_budget(FitConfig(), 2)


@pytest.mark.parametrize("budget", [3, 20, None])
def test_every_variant_sees_the_clouds_equally_often(budget) -> None:
    by_name = {v.name: settings(v, SIZES["small"], budget, 0) for v in VARIANTS}
    assert len(by_name) == len(VARIANTS)
    epochs = {name: (c.stage1.epochs, c.stage2.epochs + c.stage3.epochs) for name, c in by_name.items()}
    assert {name for name, (first, rest) in epochs.items() if first + rest == 0} == {name for name in by_name if "untrained" in name}
    assert len({rest for name, (_, rest) in epochs.items() if "untrained" not in name}) == 1
    assert by_name["Yang (released)"].network.sampler.mutual == "released"
    assert by_name["GeoFree on views"].network.sampler.mutual == "intended"


def test_networks_on_views_find_the_object_that_the_pictures_show(networks, red) -> None:
    """Untrained: the graph between drawings and photographs, and the contrast as its evidence, are there from the start."""
    for name, own, rival in (("red", red.own, red.rivals[0]), ("blue", red.rivals[0], red.own)):
        clouds = []
        for k in range(2):
            cloud, label = table(60 + k, ("red", "blue", "green"))
            clouds.append(Item(f"cloud{k}", cloud, label == ("red", "blue").index(name) + 1, label == 2 - ("red", "blue").index(name)))
        clouds.append(red.clouds[2])
        items = replace(red, name=name, own=own, rivals=(rival,), clouds=clouds)
        found = run(networks, "GeoFree on views, untrained", items)
        check_predictions(items.clouds, found.clouds)
        check_predictions(items.images, found.images)
        result = figures(clouds[:2], found.clouds[:2])
        assert result["iou"] > 0.8 and result["other"] == 0.0
        assert found.notes["steering"] < ALARM
        assert not found.clouds[2].mask.any()


@pytest.mark.parametrize("name", ["GeoFree on views", "GeoFree on views, images shuffled each step", "GeoFree on views, no fusion"])
def test_networks_on_views_are_trained(networks, red, name) -> None:
    found = run(networks, name, red)
    check_predictions(red.clouds, found.clouds)
    assert found.notes["training"]["epochs"] == {"2": 1, "3": 1}  # stage 1 would train the masks, which are given
    assert ("steering" in found.notes) == (name == "GeoFree on views")


def test_masks_are_kept_where_the_judge_marks_something(red) -> None:
    everything = [Prediction(np.ones_like(item.truth), 7.0) for item in red.clouds]
    judged = [Prediction(np.zeros_like(red.clouds[0].truth), -0.4, 0.6), *(Prediction(item.truth, -0.01, 0.99) for item in red.clouds[1:])]
    asked = []

    def judge(items, seed):
        asked.append(items.name)
        return Predictions(clouds=judged)

    gated = Gated(lambda items, seed: Predictions(images=[], clouds=everything, notes={"seed": seed}), Judge(judge))
    found = gated(red, 5)
    # the first is left empty by the judge, and so is the last, which has no truth; masks are the method's, presence is the judge's
    assert [bool(a.mask.any()) for a in found.clouds] == [False, True, False] and found.clouds[1].mask.all()
    assert [a.score for a in found.clouds] == [-0.4, -0.01, -0.01] and found.clouds[0].confidence == 0.6
    assert found.images is None and found.notes == {"seed": 5}  # the judge says nothing about pictures
    gated(red, 6)
    gated(replace(red, name="other"), 6)
    assert asked == ["red", "other"]  # once per set
    assert Gated(lambda items, seed: Predictions(), judge)(red, 0) == Predictions() and asked == ["red", "other"]


def test_forced_masks_behind_the_contrast(networks, red) -> None:
    """Of two clouds one lacks the object: the network marks something in both, and only the first is left."""
    cloud, label = table(60, ("red", "blue", "green"))
    without, empty = table(61, ("blue", "green"))
    items = replace(red, images=(), clouds=[Item("with", cloud, label == 1), Item("without", without, np.zeros_like(empty, bool))])
    forced = run(networks, "GeoFree on views, untrained", items).clouds
    kept = run(networks, "GeoFree on views, untrained, where the contrast marks something", items).clouds
    assert [bool(a.mask.any()) for a in forced] == [True, True] and [bool(a.mask.any()) for a in kept] == [True, False]
    assert np.array_equal(forced[0].mask, kept[0].mask) and kept[0].score > kept[1].score


def test_answers_have_the_shape_of_the_items(networks, red) -> None:
    found = run(networks, "GeoFree, paper preset", red)
    check_predictions(red.images, found.images)
    check_predictions(red.clouds, found.clouds)
    assert not found.clouds[2].mask.any() and found.clouds[2].score < min(a.score for a in found.clouds[:2])
    assert found.notes["training"]["epochs"] == {"1": 1, "2": 1, "3": 1} and "procedural" in found.notes["extractor"]
    assert -1 <= found.notes["steering"] <= 1
    again = run(networks, "GeoFree, paper preset", red)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(found.clouds, again.clouds, strict=True))


def test_the_3d_branch_alone_sees_no_picture(networks, red) -> None:
    found = run(networks, "Yang (released)", red)
    other = replace(red, own=replace(red.own, images=red.rivals[0].images), images=red.images[:1])
    blind = run(networks, "Yang (released)", other)
    none = run(networks, "Yang (released)", replace(red, own=replace(red.own, images=())))
    assert found.images is None and "steering" not in found.notes and found.clouds[0].score is None
    assert found.clouds[0].mask.any() or found.clouds[1].mask.any()
    for a, b, c in zip(found.clouds, blind.clouds, none.clouds, strict=True):
        assert np.array_equal(a.mask, b.mask) and np.array_equal(a.mask, c.mask)


def test_rivals_share_one_training(networks, red, monkeypatch) -> None:
    trained = []

    def fit(sets, *more, **named):
        trained.append([s.name for s in sets])
        return real(sets, *more, **named)

    real = geofree.fit
    monkeypatch.setattr(geofree, "fit", fit)
    method = next(m for m in networks.methods() if m.name == "GeoFree on views")
    method.run(red, 0)
    method.run(replace(red, name="blue", own=red.rivals[0], rivals=(red.own,)), 0)
    assert trained == [["blue", "red"]]
    method.run(red, 1)
    run(networks, "GeoFree, paper preset", red)
    assert trained[1:] == [["blue", "red"], ["red"]]


@pytest.mark.parametrize("name", ["GeoFree, images of another concept", "GeoFree, images shuffled each step"])
def test_controls_take_the_pictures_of_others(networks, red, name, monkeypatch) -> None:
    seen = []

    def fit(sets, *more, **named):
        seen.append({s.name: len(s.images) for s in sets} | {"first": float(sets[0].images.tokens.sum())})
        return real(sets, *more, **named)

    real = geofree.fit
    monkeypatch.setattr(geofree, "fit", fit)
    alone = replace(red, rivals=())
    with pytest.raises(InputError, match="at least 2 sets"):
        run(networks, name, alone)
    networks.beside = [alone, replace(alone, name="blue", own=red.rivals[0]), replace(alone, own=concept("green", 9), group="elsewhere")]
    assert "steering" not in run(networks, name, alone).notes
    own, other = (float(networks.images(c.images).tokens.sum()) for c in (red.own, red.rivals[0]))
    expected = {"red": 3, "first": other} if "another" in name else {"red": 6, "first": own + other}
    assert seen == [pytest.approx(expected)]


def test_crops_of_the_paper_protocol(networks, red) -> None:
    crops = paper_protocol(replace(red, clouds=red.clouds[:2]), scale=3)
    found = run(networks, "GeoFree, paper preset", crops)
    check_predictions(crops.clouds, found.clouds)
    check_predictions(crops.images, found.images)


def test_what_lacks_clouds_or_pictures_is_not_done(networks, red) -> None:
    for own in (replace(red.own, clouds=()), replace(red.own, images=()), replace(red.own, clouds=red.own.clouds[:1])):
        found = run(networks, "GeoFree, paper preset", replace(red, own=own))
        assert found.images is None and found.clouds is None


def test_states_spare_a_second_training(networks, red, tmp_path, monkeypatch) -> None:
    networks.states = tmp_path / "states"
    first = run(networks, "GeoFree, paper preset", red)
    assert [p.suffix for p in networks.states.iterdir()] == [".state"]
    monkeypatch.setattr("geoseg_ros.methods.geofree.training.joint_step", lambda *_: pytest.fail("trained again"))
    again = run(networks, "GeoFree, paper preset", red)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first.clouds, again.clouds, strict=True))
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        run(networks, "GeoFree, paper preset", red, seed=1)


def test_extractor_is_trained_once_and_read_afterwards(networks, weights, monkeypatch) -> None:
    first = networks.extractor
    monkeypatch.setattr(geofree, "pretrain", lambda *_, **__: pytest.fail("trained again"))
    second = replace(networks).extractor
    assert weights.exists() and second.source == first.source and "%" in first.source


def test_correlation_by_hand() -> None:
    a = [np.array([1, 2], np.float32), np.array([3], np.float32)]
    assert correlation(a, [2 * x + 1 for x in a]) == pytest.approx(1)
    assert correlation(a, [-x for x in a]) == pytest.approx(-1)
    assert correlation(a, [np.array([3, 3], np.float32), np.array([3], np.float32)]) == 0.0
    assert correlation([np.ones(2, np.float32)], [np.ones(2, np.float32)]) == 1.0


def test_steering_table() -> None:
    head = {"group": "g", "protocol": "paper", "modality": "clouds"}
    rows = [{**head, "method": "inert", "notes": {"steering": v}} for v in (0.5, 0.99)]
    rows += [{**head, "method": "follows", "notes": {"steering": 0.25}}, {**head, "method": "other"}]
    rows.append({**head, "modality": "images", "method": "inert", "notes": {"steering": 0.5}})  # the same training
    text = steering(rows)
    assert "| g | `paper` | inert | 2 | 0.5000 | 0.7450 | 0.9900 | alarm |" in text
    assert "| g | `paper` | follows | 1 | 0.2500 | 0.2500 | 0.2500 | follows |" in text
    assert steering(rows[3:4]) == ""
