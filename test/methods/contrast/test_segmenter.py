"""A cloud with colour and rows is searched twice: by the drawings of its proposals, and in the picture that the sensor sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geoseg_ros.backbones.tokens import unit
from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.evidence import proposals_of_mask
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.segmenter import DRAWN_WEIGHT, ContrastSegmenter
from geoseg_ros.projection.scene import CloudScene
from support.fake_world import CONFIG, picture


def depth_frame(seed, objects):
    """An organised cloud: blocks of the colours of ``objects`` on a ground that a camera looks down at; bool [N] of the first."""
    rgb, first = picture(seed, objects)
    row, column = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    saturated = (rgb.max(2).astype(int) - rgb.min(2)) > 90
    z = np.where(saturated, 0.8, 1.0)
    xyz = np.stack([(column - 64) / 128 * z, (row - 48) / 128 * z, z], 2).reshape(-1, 3).astype(np.float32)
    return Cloud(xyz, rgb.reshape(-1, 3), rgb.shape[:2]), first.ravel()


@pytest.fixture(scope="module")
def segmenter(fake_packs):
    return ContrastSegmenter([Concept.from_pack(fake_packs["red"])], CONFIG.coseg)


@pytest.fixture
def blind(segmenter, monkeypatch):
    """The same, where drawings show nothing."""
    found = ContrastSegmenter._drawn

    def nothing(self, scene, known):
        drawn = found(self, scene, known)
        return replace(drawn, p_value=np.ones(1), label=np.zeros_like(drawn.label), label_p=np.ones(len(drawn.label)))

    monkeypatch.setattr(ContrastSegmenter, "_drawn", nothing)
    return segmenter


def points(scene, found):
    return scene.geometry.point_values(found.label)


def test_the_sensor_sees_what_drawings_do_not_show(blind, fake_backbone):
    cloud, truth = depth_frame(5, ("red", "green"))
    scene = CloudScene(cloud, fake_backbone, CONFIG.scene)
    found = blind.cloud(scene)
    label = points(scene, found)
    assert found.present.all() and found.p_value[0] < 0.05
    assert (label[truth] == 1).mean() > 0.9 and (label[~truth] == 1).mean() < 0.02
    assert (found.label_p[found.label == 1] == found.p_value[0]).all() and "sensor view" in scene.clock.seconds


def test_what_nobody_sees_is_not_there(blind, fake_backbone):
    scene = CloudScene(depth_frame(6, ("green", "yellow"))[0], fake_backbone, CONFIG.scene)
    found = blind.cloud(scene)
    assert not found.present.any() and not found.label.any() and found.p_value[0] > 0.05


def test_the_sensors_picture_is_compared_with_such_pictures(fake_packs, fake_backbone, blind):
    """Where such pictures without the target score as high as this one, it is not found; photographs are judged as before."""
    concept = Concept.from_pack(fake_packs["red"])
    scene = CloudScene(depth_frame(5, ("red", "green"))[0], fake_backbone, CONFIG.scene)
    tokens = unit(scene.picture.tokens, concept.mean).flatten(0, 1)
    strongest = tokens[blind._contrast.photo(tokens)[0].topk(3).indices]
    strict = ContrastSegmenter([replace(concept, null_pictures=strongest.repeat(20, 1, 1))], CONFIG.coseg)
    assert blind.cloud(scene).p_value[0] < 0.05 < strict.cloud(scene).p_value[0]
    assert strict.image(scene.picture).p_value == blind.image(scene.picture).p_value


def test_packs_without_pictures_of_clouds_compare_with_photographs(fake_packs, fake_backbone, blind):
    concept = Concept.from_pack(fake_packs["red"])
    old = ContrastSegmenter([replace(concept, null_pictures=concept.null_pictures[:0])], CONFIG.coseg)
    scene = CloudScene(depth_frame(5, ("red", "green"))[0], fake_backbone, CONFIG.scene)
    assert old.cloud(scene).p_value[0] == pytest.approx(1 / (DRAWN_WEIGHT + (1 - DRAWN_WEIGHT) / old.image(scene.picture).p_value[0]))


def test_what_drawings_show_is_not_searched_for_again(segmenter, fake_backbone, monkeypatch):
    cloud, truth = depth_frame(5, ("red", "green"))
    scene = CloudScene(cloud, fake_backbone, CONFIG.scene)
    drawn = segmenter._drawn(scene, ())
    monkeypatch.delattr(ContrastSegmenter, "_seen")
    found = segmenter.cloud(scene)
    assert found.p_value == pytest.approx(np.minimum(1, drawn.p_value / DRAWN_WEIGHT)) and found.p_value[0] < 0.05
    assert np.array_equal(found.label, drawn.label) and (points(scene, found)[truth] == 1).mean() > 0.9


@pytest.mark.parametrize("bare", [{"rgb": None}, {"shape": None}])
def test_clouds_without_colour_or_without_rows_have_no_picture(bare, segmenter, fake_backbone):
    scene = CloudScene(replace(depth_frame(5, ("red",))[0], **bare), fake_backbone, CONFIG.scene)
    assert scene.picture is None
    assert segmenter.cloud(scene).p_value == segmenter._drawn(scene, ()).p_value


def test_known_labels_are_given_where_the_sensor_sees_them(blind, fake_backbone):
    scene = CloudScene(depth_frame(7, ("red", "cyan"))[0], fake_backbone, CONFIG.scene)
    assert blind.cloud(scene, ("red",)).label.any()


def test_proposals_of_a_mask_are_those_that_agree_with_it_together():
    cloud, truth = depth_frame(8, ("red", "green"))
    scene = analyse_cloud(cloud)
    spilt = truth.reshape(cloud.shape).copy()
    spilt[:, 1:] |= spilt[:, :-1]  # one pixel over the border
    chosen = scene.point_values(proposals_of_mask(scene, spilt.ravel()))
    assert chosen[truth].mean() > 0.9 and not chosen[~truth & (cloud.xyz[:, 2] > 0.9)].any()
    assert not proposals_of_mask(scene, np.zeros(len(truth), bool)).any()
