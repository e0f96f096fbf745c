"""Whether anything is common to a set, and which of its items show it."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.io.folders import read_image
from geoseg_ros.methods.contrast.cross_fitting import CrossFit, cross_fit
from geoseg_ros.methods.contrast.observations import BuildConfig, Observations, observe
from geoseg_ros.methods.contrast.verdict import (
    ITEM_P_MAX,
    SET_P_MAX,
    Verdict,
    combined,
    decide,
    judging,
    like_clouds,
    like_images,
    likeness,
)
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.simulation.bank import open_bank
from support.fake_world import CONFIG, picture, table
from support.paths import SHARED

pytestmark = pytest.mark.slow

PHOTOGRAPHS = SHARED / "data" / "images" / "caltech101"
UNRELATED = [(), ("green",), ("yellow",), ("cyan",)]  # objects that the bank holds


def judged(images, clouds, backbone, bank, config, folds=5) -> tuple[CrossFit, Observations, list[float], list[float], Verdict]:
    """A set judged as the command does it."""
    seen = observe(images, clouds, [], [], backbone, bank, config)
    fitted = cross_fit("object", seen, backbone, bank, config, folds)
    pipelines = [Pipeline(backbone, [concept.to_pack()], PipelineConfig(config.coseg)) for concept in fitted.concepts]
    image_p = [pipelines[fitted.image(k)].process_image(image).presence[0].p_value for k, image in enumerate(images)]
    cloud_p = [pipelines[fitted.cloud(k)].process_cloud(cloud).presence[0].p_value for k, cloud in enumerate(clouds)]
    return fitted, seen, image_p, cloud_p, decide(fitted, seen, image_p, cloud_p, config.coseg)


def test_the_combined_p_value_is_one_for_unrelated_items():
    """Uniform, independent p-values of a set: its combined one is nearly uniform, at the level that decides too."""
    rng = np.random.default_rng(0)
    for count in (4, 10, 40):
        found = np.array([combined(rng.uniform(size=count)) for _ in range(20_000)])
        assert (found < 0.5).mean() == pytest.approx(0.5, abs=0.05)
        assert 0.3 * SET_P_MAX < (found < SET_P_MAX).mean() < 2 * SET_P_MAX, count


def test_a_few_sure_items_are_no_common_object():
    assert combined([1e-9, 1e-9, *[0.4] * 8]) > SET_P_MAX  # two copies of a picture among ten
    assert combined([0.05] * 8 + [0.5] * 2) < SET_P_MAX  # none of them sure, and yet
    assert combined([1.0] * 10) > 0.99
    assert combined([1e-200] * 10) < 1e-9


def test_likeness_is_the_cosine_with_the_mean():
    foreground = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert likeness(torch.tensor([[0.6, 0.8], [-1.0, 0.0]]), foreground).tolist() == pytest.approx([1.4 / 2**0.5, -1 / 2**0.5])


def test_items_without_the_object_are_told_in_both_modalities(fake_backbone, fake_bank):
    images = [picture(k, ("green", "yellow") if k in (2, 5) else ("red", "green"))[0] for k in range(8)]
    clouds = [table(k, ("cyan", "green", "yellow") if k in (3, 4) else ("red", "cyan"))[0] for k in range(7)]
    verdict = judged(images, clouds, fake_backbone, fake_bank, CONFIG)[-1]
    assert verdict.common and verdict.p_value is not None and verdict.p_value < 1e-6
    assert verdict.images.tolist() == [k not in (2, 5) for k in range(8)]
    assert verdict.clouds.tolist() == [k not in (3, 4) for k in range(7)]


def test_nothing_is_common_to_unrelated_items(fake_backbone, fake_bank):
    images = [picture(k, UNRELATED[k % 4])[0] for k in range(10)]
    clouds = [table(k, (*UNRELATED[k % 4], *UNRELATED[(k + 1) % 4]))[0] for k in range(6)]
    verdict = judged(images, clouds, fake_backbone, fake_bank, CONFIG)[-1]
    assert not verdict.common and verdict.p_value is not None and verdict.p_value > SET_P_MAX
    assert not verdict.images.any() and not verdict.clouds.any() and (len(verdict.images), len(verdict.clouds)) == (10, 6)


def test_what_one_modality_has_in_common_is_looked_for_in_the_other(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green"))[0] for k in range(8)]
    clouds = [table(k, ("red", "green") if k == 1 else ("cyan", "green"))[0] for k in range(5)]
    verdict = judged(images, clouds, fake_backbone, fake_bank, CONFIG)[-1]
    assert verdict.common and verdict.images.all()
    assert verdict.clouds[1]


def test_too_few_items_do_not_tell(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green") if k else ("green", "yellow"))[0] for k in range(3)]
    *_, image_p, _, verdict = judged(images, [], fake_backbone, fake_bank, CONFIG)
    assert verdict.common and verdict.p_value is None
    assert verdict.images.tolist() == [p < CONFIG.coseg.p_max for p in image_p] and verdict.images.any()
    assert judging(CONFIG.coseg, 1) == CONFIG.coseg
    assert judging(CONFIG.coseg, 5).p_max == ITEM_P_MAX > CONFIG.coseg.p_max


def test_where_the_set_is_known_to_have_it_an_item_need_not_be_sure(fake_backbone, fake_bank):
    fitted, seen, *_ = judged([picture(k, ("red", "green"))[0] for k in range(8)], [], fake_backbone, fake_bank, CONFIG)
    unsure = [0.07] * 7 + [0.3]
    assert decide(fitted, seen, unsure, [], CONFIG.coseg).images.tolist() == [True] * 7 + [False]
    assert not decide(fitted, seen, [0.07] + [0.3] * 7, [], CONFIG.coseg).images.any()
    far_behind = [1e-9] * 7 + [0.04]
    assert decide(fitted, seen, far_behind, [], CONFIG.coseg).images.tolist() == [True] * 7 + [False]


def test_where_every_item_is_known_to_show_it_none_is_refused(fake_backbone, fake_bank):
    fitted, seen, *_ = judged([picture(k, ("red", "green"))[0] for k in range(8)], [], fake_backbone, fake_bank, CONFIG)
    unlikely = [0.3] * 8
    assert not decide(fitted, seen, unlikely, [], CONFIG.coseg).common
    verdict = decide(fitted, seen, unlikely, [], CONFIG.coseg, outliers=False)
    assert verdict.common and verdict.images.tolist() == [True] * 8
    assert verdict.p_value == pytest.approx(combined(unlikely))


def test_likeness_of_items_that_were_not_seen_is_the_usual_one(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green"))[0] for k in range(8)]
    seen = observe(images, [table(k, ("red", "cyan"))[0] for k in range(5)], [], [], fake_backbone, fake_bank, CONFIG, seconds=1e-9)
    assert list(seen.image_numbers) == [0, 1, 2, 3, 4]
    fitted = cross_fit("red", seen, fake_backbone, fake_bank, CONFIG)
    alike = like_images(fitted, seen, CONFIG.coseg, 8)
    assert (alike[5:] == np.median(alike[:5])).all() and len(set(alike[:5])) == 5
    assert (like_clouds(fitted, seen, CONFIG.coseg, 5) > 0).all()


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the shared Caltech-101 photographs are not here")
def test_folders_of_photographs_with_and_without_something_in_common():
    """Three folders of real photographs: one class, ten classes, and one class among others."""
    backbone = open_backbone("geoseg_tiny")
    bank = open_bank(backbone)

    def photographs(name: str, count: int) -> list[np.ndarray]:
        names = sorted(os.listdir(PHOTOGRAPHS / name))[1 : 1 + count]  # the first of each class is in the bank
        return [read_image(PHOTOGRAPHS / name / file) for file in names]

    others = ["ant", "chandelier", "dollar_bill", "elephant", "grand_piano", "joshua_tree", "menorah", "revolver", "starfish", "yin_yang"]
    unrelated = [photographs(name, 1)[0] for name in others]
    *_, verdict = judged(unrelated, [], backbone, bank, BuildConfig())
    assert not verdict.common and not verdict.images.any()

    *_, verdict = judged([*photographs("pagoda", 10), *unrelated[:3]], [], backbone, bank, BuildConfig())
    assert verdict.common and verdict.images[:10].sum() >= 8 and verdict.images[10:].sum() <= 1
