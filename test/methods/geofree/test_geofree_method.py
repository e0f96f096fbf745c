"""GeoFree-CoSeg as a method: learnt, kept in a pack, opened, and used for sets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from geoseg_ros import api, cosegment, learn_concept
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import CloudScene, Context, ImageScene, Material
from geoseg_ros.methods.geofree.config import GeoFreeConfig
from geoseg_ros.methods.geofree.pack import Target
from geoseg_ros.methods.registry import method_names, open_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from support.fake_world import CONFIG, picture, table

pytestmark = pytest.mark.train
SMALL = {"points": 96, "samples": 16, "width": 16, "patches": 8, "epochs": 3}


def material(**changes):
    given = {
        "images": [picture(k, ("red", "green"))[0] for k in range(4)],
        "clouds": [table(k, ("red", "green"))[0] for k in range(3)],
        "without_images": [picture(50 + k, ("green", "yellow"))[0] for k in range(4)],
        "without_clouds": [table(50 + k, ("green", "cyan"))[0] for k in range(3)],
    }
    return Material("red", **(given | changes))


@pytest.fixture(scope="module", params=["views", "paper"])
def learnt(request, fake_backbone, fake_bank):
    config = GeoFreeConfig(preset=request.param, **SMALL)
    context = Context(fake_backbone, fake_bank, CONFIG.scene, config)
    return request.param, context, open_method("geofree").learn(material(), context)


def test_it_is_one_of_the_methods():
    assert method_names()[:2] == ["contrast", "geofree"]


def test_a_pack_keeps_what_finds_the_same_again(learnt, fake_backbone, tmp_path):
    preset, context, pack = learnt
    pack.save(tmp_path / "red.pack")
    read = Pack.load(tmp_path / "red.pack")
    assert (read.method, read.labels, read.version) == ("geofree", ("red",), pack.version)
    assert Target.from_pack(read).config.preset == preset
    assert read.info["training"]["images"] == 4 and read.info["training"]["without_clouds"] == 3
    image, cloud = picture(70, ("red", "green"))[0], table(70, ("red", "green"))[0]
    found = [open_method("geofree").open([p], context) for p in (pack, read)]
    images = [segmenter.image(ImageScene(image, fake_backbone, CONFIG.scene), ("red",)) for segmenter in found]
    clouds = [segmenter.cloud(CloudScene(cloud, fake_backbone, CONFIG.scene), ("red",)) for segmenter in found]
    for first, second in (images, clouds):
        assert np.array_equal(first.label, second.label) and np.array_equal(first.p_value, second.p_value)
    assert images[0].label.shape == image.shape[:2] and 0 < images[0].p_value[0] <= 1


def test_the_form_on_views_finds_the_target(learnt, fake_backbone):
    preset, _, pack = learnt
    pipeline = Pipeline(fake_backbone, [pack], PipelineConfig(coseg=CONFIG.coseg))
    cloud, truth = table(70, ("red", "green", "cyan"))
    result = pipeline.process_cloud(cloud, ("red",))
    assert result.label.shape == (len(cloud),)
    if preset == "views":  # as printed, the method does not look at its images
        inside = result.label == 1
        assert (inside & (truth == 1)).sum() / (inside | (truth == 1)).sum() > 0.6
        assert [o.name for o in result.objects] == ["red"]
    bare = pipeline.process_cloud(Cloud(np.zeros((5, 3), np.float32)), ("red",))
    assert not bare.label.any() and bare.presence[0].p_value == 1.0


def test_two_packs_and_another_method_share_one_pass(learnt, fake_backbone, fake_packs, monkeypatch):
    _, _, pack = learnt
    pipeline = Pipeline(fake_backbone, [pack, fake_packs["blue"]], PipelineConfig(coseg=CONFIG.coseg))
    assert pipeline.labels.names == ("red", "blue")
    result = pipeline.process_cloud(table(71, ("red", "blue"))[0], ("red", "blue"))
    assert {o.name for o in result.objects} <= {"red", "blue"} and (result.label == 2).any()


def test_a_set_whose_items_all_show_the_target(fake_backbone, fake_bank, monkeypatch):
    monkeypatch.setattr(api, "open_bank", lambda backbone, progress: fake_bank)
    given = material()
    options = {"method": "geofree", "backbone": fake_backbone, "settings": SMALL, "config": PipelineConfig(CONFIG.coseg)}
    found = cosegment(given.images, given.clouds, outliers=False, **options)
    assert len(found.images) == 4 and len(found.clouds) == 3 and found.folds == (1, 1) and found.used == (4, 3)
    truth = [table(k, ("red", "green"))[1] == 1 for k in range(3)]
    overlap = [((c.label == 1) & t).sum() / ((c.label == 1) | t).sum() for c, t in zip(found.clouds, truth, strict=True)]
    assert np.mean(overlap) > 0.6
    with pytest.raises(InputError, match="geofree: which items show the target can only be said with"):
        cosegment(given.images, given.clouds, **options)


def test_too_little_to_learn_from_is_refused_in_one_line(fake_backbone, fake_bank):
    context = Context(fake_backbone, fake_bank, CONFIG.scene, GeoFreeConfig(**SMALL))
    for changes, line in (({"images": []}, "at least one image"), ({"clouds": material().clouds[:1]}, "at least two clouds")):
        with pytest.raises(InputError, match=line):
            open_method("geofree").learn(material(**changes), context)
    with pytest.raises(InputError, match="a background bank is needed"):
        open_method("geofree").learn(material(), dataclasses.replace(context, bank=None))


def test_damaged_packs_are_refused_in_one_line(learnt):
    _, _, pack = learnt
    tensors = dict(pack.tensors)
    tensors.pop("photos.foreground")
    for broken in (
        dataclasses.replace(pack, tensors=tensors),
        dataclasses.replace(pack, tensors={**pack.tensors, "bank.object": torch.zeros(0)}, info={}),
        dataclasses.replace(pack, info={**pack.info, "config": {"preset": "other"}}),
    ):
        with pytest.raises(InputError, match="pack 'red': damaged pack of the method geofree") as caught:
            open_method("geofree").check(broken)
        assert "\n" not in str(caught.value)


def test_settings_are_named_by_the_user(fake_backbone, fake_bank, monkeypatch):
    monkeypatch.setattr(api, "open_bank", lambda backbone, progress: fake_bank)
    given = material()
    with pytest.raises(InputError, match="presett"):
        learn_concept("red", given.images, given.clouds, method="geofree", backbone=fake_backbone, settings={"presett": "paper"})
