"""The package's own method on sets about themselves: the decisions are those of the command."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate import methods
from geoseg_ros.evaluate.items import CosegSet, Item, Predictions, transductive
from geoseg_ros.evaluate.methods import Tools, contrast, own_methods
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.method import ContrastMethod
from support.fake_world import CONFIG, picture, table


def answers(images, clouds, backbone, bank):
    made = transductive("red", "folder", images, clouds, "itself")
    assert made.transductive
    found = contrast(Tools(backbone, bank, CONFIG)).run(made, 0)
    assert found.images is not None and found.clouds is not None
    return [bool(a.mask.any()) for a in found.images], [bool(a.mask.any()) for a in found.clouds], found


def test_items_without_the_object_get_empty_masks(fake_backbone, fake_bank):
    images = [Item(f"{k}", *picture(k, ("red", "green"))) for k in range(6)]
    images += [Item(f"other {k}", picture(60 + k, ("green", "yellow"))[0], np.zeros((96, 128), bool)) for k in range(2)]
    clouds = []
    for k in range(6):
        cloud, label = table(k, ("red", "cyan") if k else ("green", "cyan"))
        clouds.append(Item(f"cloud {k}", cloud, (label == 1) & (k > 0)))
    in_images, in_clouds, found = answers(images, clouds, fake_backbone, fake_bank)
    assert in_images == [True] * 6 + [False] * 2
    assert in_clouds == [False] + [True] * 5
    assert all(a.score is not None and -1 <= a.score < 0 for a in found.images)


def test_where_nothing_is_common_every_mask_is_empty_and_scores_stay(fake_backbone, fake_bank):
    objects = [(), ("green",), ("yellow",), ("cyan",)]
    images = [Item(f"{k}", picture(k, objects[k % 4])[0], np.zeros((96, 128), bool)) for k in range(10)]
    in_images, _, found = answers(images, [], fake_backbone, fake_bank)
    assert not any(in_images)
    assert len({a.score for a in found.images}) > 3


def test_without_outliers_no_item_is_refused_and_sets_of_other_items_are_left_out(fake_backbone, fake_bank):
    objects = [(), ("green",), ("yellow",), ("cyan",)]
    images = [Item(f"{k}", picture(k, objects[k % 4])[0], np.zeros((96, 128), bool)) for k in range(10)]
    clouds = [Item(f"{k}", *table(k, (*objects[k], "green"))) for k in range(4)]
    first, method = own_methods(Tools(fake_backbone, fake_bank, CONFIG))
    items = transductive("red", "folder", images, clouds, "itself")
    plain, found = first.run(items, 0), method.run(items, 0)
    assert found.images is not None and found.clouds is not None
    assert all(a.mask.any() for a in found.clouds) and any(a.mask.any() for a in found.images)
    assert [a.score for a in found.images] == [a.score for a in plain.images or ()]
    apart = CosegSet("red", "pack", Material("red", [i.data for i in images]), images=[Item("new", *picture(90, ("red",)))])
    assert method.run(apart, 0) == Predictions()


def test_a_method_that_cannot_tell_outliers_is_measured_where_there_are_none(fake_backbone, fake_bank, monkeypatch):
    """Of a set about itself it predicts nothing, unless it is told that all items show the target."""
    learnt = []

    def learn_set(self, material, context, options):
        learnt.append(options.outliers)
        if options.outliers:
            raise InputError("cannot tell")
        return original(self, material, context, options)

    original = ContrastMethod.learn_set
    monkeypatch.setattr(ContrastMethod, "learn_set", learn_set)
    monkeypatch.setattr(methods, "open_method", lambda name: ContrastMethod())
    named = {method.name: method for method in methods.further_methods(Tools(fake_backbone, fake_bank, CONFIG))}
    assert {"geofree", "geofree, no outliers"} <= set(named) and not any("pointdc" in name for name in named)
    items = transductive("red", "folder", [Item(f"{k}", *picture(k, ("red", "green"))) for k in range(6)], [], "itself")
    with pytest.raises(InputError, match="cannot tell"):
        named["geofree"].run(items, 0)
    found = named["geofree, no outliers"].run(items, 0)
    assert learnt == [True, False] and all(answer.mask.any() for answer in found.images)
