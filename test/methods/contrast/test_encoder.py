"""The encoder of clouds beside drawings: where a cloud has no colour, it tells what drawings cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.backbones.tokens import unit
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.segmenter import ContrastSegmenter
from geoseg_ros.methods.registry import open_method
from geoseg_ros.projection.scene import CloudScene
from support.fake_world import COLOURS, CONFIG, picture, table

WEIGHTED = replace(CONFIG.coseg, encoder_weight=4.0)
AMIDST = np.float32([0, 0.25, 1.3])  # from the sensor before the table to one among its objects


@pytest.fixture(scope="module")
def red(fake_backbone, fake_bank):
    """The concept, from photographs alone."""
    images = [picture(k, ("red", "green", "yellow")[: 1 + k % 3])[0] for k in range(8)]
    return Concept.from_pack(
        open_method("contrast").learn(Material("red", images), Context(fake_backbone, fake_bank, CONFIG.scene, CONFIG))
    )


class Knows:
    """Gives points the tokens of the colours that a cloud had; ``background``: tokens of greys."""

    hash, backbone = "knows", "fa4e" * 16

    def __init__(self, backbone, mean, rgb) -> None:
        self._token = lambda rgb: unit(backbone.tokens(np.tile(rgb[:, None, None], (1, 16, 16, 1)).astype(np.uint8))[1], mean)
        self._rgb, self.runs = rgb, 0
        grey = np.random.default_rng(0).uniform(90, 160, (60, 1)) + np.random.default_rng(1).normal(0, 25, (60, 3))
        self.background = self._token(grey.clip(0, 255))

    def features(self, xyz, rgb):
        self.runs += 1
        return self._token(self._rgb).numpy()


@pytest.fixture(scope="module")
def bare(fake_backbone, red):
    """A scene of two balls without colour, the first of which was red, and bool [M] of its voxels."""
    cloud, truth = table(7, ("red", "green"))
    scene = CloudScene(Cloud(cloud.xyz - AMIDST), fake_backbone, CONFIG.scene)
    first = np.zeros(len(scene.geometry.xyz), np.int64)
    np.maximum.at(first, scene.geometry.inverse, truth)
    rgb = np.array([(125, 125, 125), COLOURS["red"], COLOURS["green"]])[first]
    scene.encoder = Knows(fake_backbone, red.mean, rgb)
    return scene, first == 1


def test_encoder_finds_what_drawings_cannot_tell(red, bare) -> None:
    scene, first = bare
    alone = ContrastSegmenter([red], replace(WEIGHTED, encoder_weight=0.0)).cloud(scene)
    assert scene.encoder.runs == 0  # not asked
    found = ContrastSegmenter([red], WEIGHTED).cloud(scene)
    assert scene.encoder.runs == 1 and found.p_value[0] < min(0.05, alone.p_value[0])
    label = found.label == 1
    assert label[first].mean() > 0.8 and label[~first].mean() < 0.05


def test_encoder_is_asked_about_turns_without_colour_alone(red, bare, fake_backbone) -> None:
    before, _ = table(7, ("red", "green"))
    xyz = before.xyz[: len(before.xyz) // 2 * 2] - AMIDST
    for cloud in (Cloud(before.xyz), Cloud(before.xyz - AMIDST, before.rgb), Cloud(xyz, shape=(2, len(xyz) // 2))):
        scene = CloudScene(cloud, fake_backbone, CONFIG.scene, bare[0].encoder)
        runs = scene.encoder.runs
        ContrastSegmenter([red], WEIGHTED).cloud(scene)
        assert scene.encoder.runs == runs


def test_too_small_a_background_says_nothing(red, bare) -> None:
    scene, _ = bare
    encoder, few = scene.encoder, Knows.__new__(Knows)
    few.background, few.runs = torch.zeros(3, 27), 0
    scene.encoder = few
    try:
        ContrastSegmenter([red], WEIGHTED).cloud(scene)
        assert few.runs == 0
    finally:
        scene.encoder = encoder


def test_encoder_is_not_asked_for_what_was_learnt_from_clouds(red, bare, fake_backbone, fake_bank) -> None:
    scene, _ = bare
    clouds = [table(20 + k, ("red",))[0] for k in range(6)]
    learnt = open_method("contrast").learn(Material("green", [], clouds), Context(fake_backbone, fake_bank, CONFIG.scene, CONFIG))
    known, runs = Concept.from_pack(learnt), scene.encoder.runs
    ContrastSegmenter([known], WEIGHTED).cloud(scene)
    assert scene.encoder.runs == runs
    both, without = (ContrastSegmenter([red, known], replace(WEIGHTED, encoder_weight=w)).cloud(scene) for w in (4.0, 0.0))
    assert both.score[0] != without.score[0] and both.score[1] == without.score[1]
