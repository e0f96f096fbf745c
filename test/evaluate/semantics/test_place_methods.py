"""PointDC as rows of the table of semantics."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.evaluate.semantics.baselines import LiftedRoom, baselines
from geoseg_ros.evaluate.semantics.places import STEPS, place_methods
from geoseg_ros.evaluate.semantics.table import choose, measure
from geoseg_ros.methods.pointdc import method
from geoseg_ros.packs import place
from support.fake_world import FakeBackbone
from support.pointdc_worlds import SMALL, Pointwise, room


def lifted(seed: int) -> LiftedRoom:
    scene, label = room(seed)
    # the points of a room are its voxels, seen from its middle
    placed = type(scene)(**{**vars(scene), "xyz": scene.xyz - np.array([1, 1, 1.5], np.float32), "inverse": np.arange(len(label))})
    return LiftedRoom(placed, label, label)


@pytest.mark.train
def test_rows_are_trained_and_scored(monkeypatch) -> None:
    monkeypatch.setattr(method, "new_network", lambda config: Pointwise(config.dim, config.voxel))
    monkeypatch.setitem(place.NETWORKS, "pointwise", Pointwise)
    monkeypatch.setattr(method.PointDCMethod, "presets", {"small": SMALL})
    rows = measure([lifted(k) for k in range(4)], [lifted(9)], ("floor", "wall", "red", "blue"), place_methods(FakeBackbone()), [0])
    assert [row["method"] for row in rows] == list(STEPS) and not any(row["truth"] for row in rows)
    assert all(row["miou"] > 0.6 for row in rows), rows


def test_methods_that_train_for_long_are_measured_where_they_are_named() -> None:
    every = [*baselines(), *place_methods(FakeBackbone())]
    assert not any(chosen.named for chosen in choose((), every)) and len(choose(("all",), every)) == len(every)
    assert [chosen.name for chosen in choose(("PointDC",), every)] == ["PointDC"]
