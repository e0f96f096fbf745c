"""Sets, protocols, and the figures of known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, Item, Prediction, paper_protocol, transductive
from geoseg_ros.evaluate.score import figures
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from support.evaluate_worlds import PERFECT, image_item, perfect, pictures, square, table_cloud


def cloud_set() -> CosegSet:
    cloud, instance = table_cloud()
    items = [
        Item("cube", cloud, instance == 1, other=instance == 2, instance=np.where(instance == 1, 7, 0)),
        Item("two", cloud, instance > 0, instance=instance),
        Item("none", cloud, np.zeros(len(cloud), bool)),
    ]
    return CosegSet("cube", "tables", Material("cube"), (Material("ball"),), clouds=items, given="clouds")


def test_perfect_answers_score_one() -> None:
    items = pictures()
    result = figures(items.images, PERFECT.run(items, 0).images or [])
    assert (result["items"], result["absent"]) == (2, 1)
    for name in ("iou", "micro_iou", "accuracy", "precision", "found", "auroc"):
        assert result[name] == 1.0, name
    assert result["false_found"] == result["ece"] == 0.0
    assert result["iou_interval"] == result["micro_interval"] == (1.0, 1.0)


def test_figures_by_hand() -> None:
    other = square(2)
    items = [image_item("a", square(2)), image_item("b", square(8), other=other), image_item("none", np.zeros((12, 16), bool))]
    # a: half of the square; b: the other object; none: 4 pixels where nothing is
    half, few = square(2) & ~square(4), square(0, 2)
    answers = [Prediction(half, 0.9, 0.9), Prediction(other, 0.1, 0.1), Prediction(few, 0.5, 0.5)]
    result = figures(items, answers)
    assert result["item_iou"] == {"a": 0.5, "b": 0.0}
    assert result["iou"] == 0.25 and result["worst"] == {"item": "b", "iou": 0.0}
    assert result["micro_iou"] == 8 / (16 + 32 + 4)
    assert result["accuracy"] == pytest.approx((184 / 192 + 160 / 192) / 2)
    assert result["precision"] == 0.5
    assert result["other"] == 1.0
    assert (result["found"], result["false_found"], result["auroc"]) == (1.0, 1.0, 0.5)
    assert result["ece"] == pytest.approx((0.1 + 0.9 + 0.5) / 3)


def test_pixels_that_do_not_count() -> None:
    truth, wrong = square(2), square(8)
    item = image_item("a", truth, counted=~wrong)
    assert figures([item], [Prediction(truth | wrong)])["iou"] == 1.0
    assert figures([image_item("a", truth)], [Prediction(truth | wrong)])["iou"] == 0.5


def test_what_cannot_be_known_is_nan() -> None:
    items = pictures()
    silent = figures(items.images, [Prediction(i.truth) for i in items.images])
    assert math.isnan(silent["auroc"]) and math.isnan(silent["ece"]) and math.isnan(silent["other"])
    all_shown = figures(items.images[:2], (perfect(items, 0).images or [])[:2])
    assert math.isnan(all_shown["auroc"]) and math.isnan(all_shown["ece"]) and math.isnan(all_shown["false_found"])
    nothing = figures(items.images[2:], (perfect(items, 0).images or [])[2:])
    assert math.isnan(nothing["iou"]) and nothing["worst"] is None and nothing["micro_iou"] == 1.0


def test_answers_must_fit() -> None:
    items = pictures().images
    with pytest.raises(ValueError, match="one for each of 3"):
        figures(items, [Prediction(items[0].truth)])
    with pytest.raises(ValueError, match="prediction for a"):
        figures(items[:1], [Prediction(items[0].truth[:2])])
    with pytest.raises(ValueError, match="prediction for a"):
        figures(items[:1], [Prediction(items[0].truth.astype(np.uint8))])
    with pytest.raises(ValueError, match="different names"):
        figures([items[0], items[0]], [Prediction(items[0].truth)] * 2)


def test_transductive_learns_from_what_it_measures() -> None:
    items = pictures()
    found = transductive("square", "squares", items.images, [], "itself")
    assert [id(a) for a in found.own.images] == [id(i.data) for i in items.images] and found.images is items.images
    assert found.shown == 2


def test_paper_protocol_crops_each_instance() -> None:
    source = cloud_set()
    found = paper_protocol(source)
    assert found.protocol == "paper" and not found.rivals and found.shown == 3
    assert [item.name for item in found.clouds] == ["cube#7", "two#1", "two#2"]
    for item, instance in zip(found.clouds, (1, 1, 2), strict=True):
        whole, label = table_cloud()
        own = whole.xyz[label == instance]
        assert np.array_equal(item.data.xyz[item.truth], own)
        centre, side = (own.min(0) + own.max(0)) / 2, (own.max(0) - own.min(0)).max()
        around = item.data.xyz[~item.truth]
        assert np.linalg.norm(around - centre, axis=1).max() <= side + 1e-6
        # all of the table within the radius is in the crop, and another instance of the same object is not
        rest = whole.xyz[label == 0 if item.name.startswith("two") else label != instance]
        assert len(around) == np.count_nonzero(np.linalg.norm(rest - centre, axis=1) <= side)
    assert [c is i.data for c, i in zip(found.own.clouds, found.clouds, strict=True)] == [True] * 3


def test_paper_protocol_without_the_object() -> None:
    items = pictures()
    with pytest.raises(InputError, match="no item shows"):
        paper_protocol(CosegSet("square", "squares", items.own, images=items.images[2:]))
    assert [i.name for i in paper_protocol(items).images] == ["a", "b"]


def test_invalid_points_are_in_no_crop() -> None:
    cloud, instance = table_cloud()
    xyz = cloud.xyz.copy()
    xyz[::5] = np.nan
    item = Item("holes", Cloud(xyz, cloud.rgb), instance == 1)
    crops = paper_protocol(CosegSet("cube", "tables", Material("cube"), clouds=[item])).clouds
    assert len(crops) == 1 and crops[0].data.valid().all() and crops[0].truth.any()
