"""Settings, sets and controls of a training."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import geoseg_ros
from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.config import FitConfig, preset
from geoseg_ros.methods.geofree.training_sets import apply_control, check_sets
from geoseg_ros.settings import with_values
from support.network_worlds_train import small_set

PAPER = preset("paper")
CONFIG = replace(PAPER, network=replace(PAPER.network, sampler=replace(PAPER.network.sampler, points=64, samples=16)))


def test_presets():
    assert preset("views") == FitConfig()
    assert not PAPER.rotate
    # what the paper gives: the three learning rates
    assert (PAPER.stage1.image_rate, PAPER.stage2.rate, PAPER.stage3.rate, PAPER.stage3.image_rate) == (1e-4, 1e-3, 1e-3, 1e-6)


def test_every_setting_is_read():
    folder = Path(geoseg_ros.__file__).parent / "methods" / "geofree"
    files = [f for f in folder.glob("*.py") if f.name != "config.py"]
    read = {n.attr for f in files for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.Attribute)}
    assert {f.name for f in fields(FitConfig)} | {f.name for f in fields(FitConfig().stage1)} <= read


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control": "no"}, "control: expected one of none, permuted, shuffled, cloud_only, got 'no'"),
        ({"stage2.epochs": -1}, "stage2.epochs: expected at least 0, got -1"),
        ({"weight_decay": float("nan")}, "weight_decay: expected at least 0, got nan"),
        ({"batch": 1}, "batch: expected at least 2, got 1"),
        ({"group": 0}, "group: expected at least 1, got 0"),
        ({"stage1.share": 0.0}, "stage1.share: expected at least 1e-06, got 0.0"),
        ({"network.sfe.heads": 3}, "network.sfe.heads: 3 does not divide gcsf.width 256"),
    ],
)
def test_wrong_settings_are_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        with_values(CONFIG, changes)


def test_wrong_sets_are_one_line():
    good = small_set("a")
    check_sets([good, small_set("b")], CONFIG)
    for sets, message in [
        ([], "at least one"),
        ([good, good], "different names, got a, a"),
        ([replace(good, clouds=good.clouds[:1])], "set a: expected at least 2 clouds, got 1"),
        ([replace(good, images=good.images.select([]))], "set a: expected at least 1 image"),
        ([good, small_set("b", dim=5)], "set b: images: expected the tokens of one backbone"),
    ]:
        with pytest.raises(InputError, match=message):
            check_sets(sets, CONFIG)
    with pytest.raises(InputError, match="set a: clouds: expected 2048 points each, got 64"):
        check_sets([good], PAPER)


def test_controls():
    sets = [small_set(name, seed) for seed, name in enumerate("abc")]
    same, config = apply_control(sets, CONFIG)
    assert same == sets and config == CONFIG
    moved, config = apply_control(sets, replace(CONFIG, control="permuted"))
    assert config.control == "none" and [m.name for m in moved] == ["a", "b", "c"]
    for k, other in enumerate((1, 2, 0)):
        assert torch.equal(moved[k].images.tokens, sets[other].images.tokens) and moved[k].clouds == sets[k].clouds
    mixed, _ = apply_control(sets, replace(CONFIG, control="shuffled"))
    assert all(len(m.images) == 12 for m in mixed) and torch.equal(mixed[0].images.tokens, mixed[2].images.tokens)
    alone, config = apply_control(sets[:1], replace(CONFIG, control="cloud_only"))
    assert alone == sets[:1] and not config.network.sfe.fused and config.network.loss.sem == config.network.loss.obj == 0
    with pytest.raises(InputError, match="control permuted: expected at least 2 sets, got 1"):
        apply_control(sets[:1], replace(CONFIG, control="permuted"))


def with_evidence(name, seed=0):
    made = small_set(name, seed)
    count, patches, dim = made.images.tokens.shape
    images = replace(made.images, evidence=torch.full((count, patches), float(seed)), against=torch.full((2, patches, dim), float(seed)))
    return replace(made, images=images)


def test_views_and_evidence_are_asked_for():
    network = CONFIG.network
    views = replace(CONFIG, network=replace(network, gcsf=replace(network.gcsf, points="views")))
    contrast = replace(CONFIG, network=replace(network, mgcm=replace(network.mgcm, signal="contrast")))
    with pytest.raises(InputError, match="set a: clouds: gcsf.points = views expected the tokens of the points in views"):
        check_sets([small_set("a")], views)
    with pytest.raises(InputError, match="set a: images: mgcm.signal = contrast expected evidence"):
        check_sets([small_set("a")], contrast)
    check_sets([with_evidence("a")], contrast)


def test_controls_take_the_evidence_with_the_pictures():
    sets = [with_evidence("a", 1), with_evidence("b", 2)]
    permuted, _ = apply_control(sets, replace(CONFIG, control="permuted"))
    assert permuted[0].images is sets[1].images
    shuffled, _ = apply_control(sets, replace(CONFIG, control="shuffled"))
    assert shuffled[0].images.evidence[:, 0].tolist() == [1] * 4 + [2] * 4 and len(shuffled[0].images.against) == 4
    lacking, _ = apply_control([sets[0], small_set("c")], replace(CONFIG, control="shuffled"))
    assert lacking[0].images.evidence is None and lacking[0].images.against is None
    some = shuffled[0].images.select([5, 0]).to("cpu")
    assert some.evidence[:, 0].tolist() == [2, 1] and len(some.against) == 4
