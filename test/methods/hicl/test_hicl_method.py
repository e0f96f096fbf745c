"""Named scene packs: the classes in the order of the names, noise that is repaired, and the same bytes after an interruption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.learning.loop import Run
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.hicl import training
from geoseg_ros.methods.hicl.config import HICLConfig
from geoseg_ros.methods.hicl.method import HICLMethod
from geoseg_ros.packs.place import Place, fit_kappa
from geoseg_ros.runtime.pipeline import Pipeline
from support.fake_world import FakeBackbone
from support.hicl_worlds import ANCHORS, NAMES, SMALL
from support.pointdc_worlds import photograph, purity, room

from .conftest import material

pytestmark = pytest.mark.train


def held_out() -> tuple[Cloud, np.ndarray]:
    scene, label = room(17)
    shift = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0], [0.01, 0.01, 0]], np.float32)
    return Cloud(np.concatenate([scene.xyz + step for step in shift]) - (1, 1, 1.5), np.tile(scene.rgb, (4, 1))), np.tile(label, 4)


def test_class_k_is_the_name_k_in_a_room_that_was_never_seen(home) -> None:
    assert home.classes == NAMES and home.info["teacher"]["name"] == "fake"
    cloud, truth = held_out()
    result = Pipeline(FakeBackbone(), [home]).process_cloud(cloud)
    assert np.mean(result.label == truth + 1) > 0.9  # of the labels 26 % were wrong
    assert 0 < result.confidence[result.label > 0].min() <= result.confidence.max() <= 1


def test_image_has_the_same_names(home) -> None:
    image, truth = photograph()
    mask = Pipeline(FakeBackbone(), [home]).process_image(image).mask
    assert np.mean(mask[mask > 0] == truth[mask > 0] + 1) > 0.9 and np.mean(mask > 0) > 0.5


def test_confidence_follows_the_votes() -> None:
    cosine = np.array([[0.5, 0.1], [0.1, 0.5]], np.float32)
    sure, unsure = (fit_kappa(cosine, np.array([[p, 1 - p], [1 - p, p]]), np.ones(2, int)) for p in (0.95, 0.6))
    assert 1 / (1 + np.exp(-0.4 * sure)) == pytest.approx(0.95, abs=0.02)
    assert 1 / (1 + np.exp(-0.4 * unsure)) == pytest.approx(0.6, abs=0.02)


def test_pack_is_read_again_and_a_damaged_one_refused(home) -> None:
    found = Place.from_pack(home, HICLConfig())
    assert found.kappa >= 1 and np.array_equal(found.centroids, ANCHORS) and found.classes == NAMES
    for broken in ({**home.tensors, "centroids": torch.zeros(3, 16)}, {k: v for k, v in home.tensors.items() if k != "spread"}):
        with pytest.raises(InputError, match="damaged pack of the method hicl"):
            HICLMethod().check(replace(home, tensors=broken))
    with pytest.raises(InputError, match="kappa"):
        HICLMethod().check(replace(home, info={**home.info, "kappa": -1.0}))


def test_interrupted_training_gives_the_same_bytes(home, tmp_path, monkeypatch) -> None:
    context = Context(FakeBackbone(), settings=SMALL, resume=str(tmp_path))
    tmp_path.mkdir(exist_ok=True)
    whole = training.train

    def stopped(task, config, fabric, checkpoint, report):
        checkpoint._every = 0.0

        def stop(run: Run) -> None:
            report(run)
            if run.step == 23:  # transformers and feedback are at work
                raise KeyboardInterrupt

        return whole(task, config, fabric, checkpoint, stop)

    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        HICLMethod().learn(material(), context)
    assert list(tmp_path.glob("training-*"))
    monkeypatch.setattr(training, "train", whole)
    again = HICLMethod().learn(material(), context)
    assert again.version == home.version


def test_teacher_without_text_gives_classes_without_names() -> None:
    pack = HICLMethod().learn(material(1.0, named=False), Context(FakeBackbone(), settings=replace(SMALL, classes=4, epochs=8)))
    assert pack.classes == ("home class 1", "home class 2", "home class 3", "home class 4")
    cloud, truth = held_out()
    assert purity(Pipeline(FakeBackbone(), [pack]).process_cloud(cloud).label.astype(int), truth) > 0.85
    with pytest.raises(InputError, match="classes: expected 2 to"):
        HICLMethod().learn(material(1.0, named=False), Context(FakeBackbone(), settings=SMALL))


def test_nothing_to_learn_from_is_one_line() -> None:
    with pytest.raises(InputError, match="learns from scenes and a teacher"):
        HICLMethod().learn(Material("home", scenes=[room(0)[0]]), Context(FakeBackbone(), settings=SMALL))
    silent = material()
    views = [[replace(view, features=torch.zeros_like(view.features)) for view in own] for own in silent.taught.views]
    with pytest.raises(InputError, match="says nothing of any point"):
        HICLMethod().learn(replace(silent, taught=replace(silent.taught, views=views)), Context(FakeBackbone(), settings=SMALL))
