import numpy as np
import pytest

from benchmarks.baselines.heads_photo import dense_head, fit_head, heads
from geoseg_ros.evaluate.items import CosegSet, Item, check_predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.evaluate.metrics import auroc, iou
from geoseg_ros.methods.base import Material
from support.fake_world import CONFIG, picture


@pytest.fixture
def tools(fake_backbone, fake_bank):
    return Tools(fake_backbone, fake_bank, CONFIG)


def concept(name):
    images = [picture(k, (name, "green", "yellow")[: 1 + k % 3])[0] for k in range(8)]
    return Material(name, images, without_images=[picture(100 + k, ("green", "yellow"))[0] for k in range(4)])


def measured(name, others=("green", "yellow")):
    shown = [picture(200 + k, (name, *others)) for k in range(4)]
    items = [Item(f"shown{k}", image, truth == 1) for k, (image, truth) in enumerate(shown)]
    for k in range(4):
        image = picture(300 + k, others)[0]
        items.append(Item(f"absent{k}", image, np.zeros(image.shape[:2], bool)))
    return items


@pytest.mark.parametrize("number", range(3))
def test_every_head_finds_the_thing_and_tells_where_it_is_not(tools, number):
    method = heads(tools)[number]
    items = CosegSet("red", "fake", concept("red"), images=measured("red"))
    answers = method.run(items, 0).images
    check_predictions(items.images, answers)
    shown, absent = answers[:4], answers[4:]
    assert np.mean([iou(answer.mask, item.truth) for answer, item in zip(shown, items.images, strict=False)]) > 0.5
    assert auroc([answer.score for answer in shown], [answer.score for answer in absent]) > 0.8
    assert sum(answer.mask.any() for answer in absent) <= 1


def test_a_head_knows_its_own_thing_from_a_rivals(tools):
    items = CosegSet("blue", "fake", concept("blue"), (concept("red"),), measured("red"))
    answers = dense_head(tools).run(items, 0).images
    assert not any((answer.mask & item.truth).any() for answer, item in zip(answers, items.images, strict=True))


def test_only_the_head_with_a_hidden_layer_depends_on_the_seed(tools):
    items = CosegSet("red", "fake", concept("red"), images=measured("red")[:2])
    for hidden in (0, 8):
        method = dense_head(tools, hidden)
        first, again = (fit_head(tools, concept("red"), hidden, 0).null for _ in range(2))
        other = fit_head(tools, concept("red"), hidden, 1).null
        assert np.array_equal(first, again)
        assert method.random == (hidden > 0)
        assert np.abs(first - other).max() > 1e-6 if hidden else np.abs(first - other).max() < 0.05
    assert dense_head(tools).run(items, 0).clouds is None
