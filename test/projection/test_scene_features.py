"""Features of the voxels of a scene, by an encoder of clouds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.scene import CloudScene, SceneConfig
from support.fake_world import FakeBackbone, table


class Heights:
    """Tells how high a point is, and whether it was given a colour; counts its runs."""

    hash, backbone, background = "heights", FakeBackbone.hash, torch.zeros(0, 2)

    def __init__(self) -> None:
        self.runs = 0

    def features(self, xyz, rgb):
        self.runs += 1
        return np.column_stack([xyz[:, 2], np.full(len(xyz), rgb is not None)]).astype(np.float32)


def test_voxels_get_features_once_and_stand_upright(fake_backbone) -> None:
    cloud, encoder = table(5, ("red",))[0], Heights()
    scene = CloudScene(cloud, fake_backbone, SceneConfig(), encoder)
    found = scene.point_features
    assert found is not None and scene.point_features is found and encoder.runs == 1 and "point features" in scene.clock.seconds
    assert found.shape == (len(scene.geometry.xyz), 2) and found[:, 1].all()
    down = scene.geometry.xyz[:, 1]  # the axis of the camera that points down, about
    assert np.corrcoef(found[:, 0], -down)[0, 1] > 0.7
    bare = CloudScene(replace(cloud, rgb=None), fake_backbone, SceneConfig(), encoder).point_features
    assert bare is not None and not bare[:, 1].any()


def test_no_encoder_or_nothing_to_encode(fake_backbone) -> None:
    assert CloudScene(table(5, ("red",))[0], fake_backbone, SceneConfig()).point_features is None
    empty = Cloud(np.full((5, 3), np.nan, np.float32))
    assert CloudScene(empty, fake_backbone, SceneConfig(), Heights()).point_features is None
