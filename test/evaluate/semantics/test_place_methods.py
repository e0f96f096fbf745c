"""PointDC and HICL as rows of the tables of semantics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.baselines import LiftedRoom, baselines
from geoseg_ros.evaluate.semantics.places import STEPS, known_words, named_methods, place_methods
from geoseg_ros.evaluate.semantics.table import about, choose, markdown, measure, summarise
from geoseg_ros.methods.hicl.method import HICLMethod
from geoseg_ros.methods.pointdc import method
from geoseg_ros.packs import place
from support.fake_world import FakeBackbone
from support.hicl_worlds import ANCHORS, views
from support.hicl_worlds import SMALL as SMALL_HICL
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


class Words:
    """A teacher that knows three of four classes, one of them by two words."""

    name, hash, supervision, licence, scale, dim, text = "fake", "0" * 64, "none", "none", 10.0, 16, True

    def encode_text(self, names):
        known = {"wall": 1, "door": 2, "window": 2, "box": 3, "bin": 3}
        if any(name not in known for name in names):
            raise InputError("no such word")
        return torch.from_numpy(ANCHORS[[known[name] for name in names]])


CLASSES = ("floor", "wall", "fitting", "clutter")


def taught_room(seed: int) -> LiftedRoom:
    found = lifted(seed)
    return replace(found, views=views(found.scene, found.label, 0.8, seed=seed))


def test_named_rows_need_no_matching_and_points_of_known_classes_count_by_themselves() -> None:
    words = known_words(Words(), CLASSES)
    assert words == {"wall": 1, "door": 2, "window": 2, "bin": 3, "box": 3}
    with pytest.raises(InputError, match="knows no word for a"):
        known_words(Words(), ("a",))
    rooms, methods = [taught_room(9)], named_methods(FakeBackbone(), Words(), words)
    rows = measure([], rooms, CLASSES, methods[:2], [0], known=set(words.values()))
    # the teacher has no word for the floor, which it takes for something else
    assert all(row["iou"]["floor"] == 0 and row["oacc"] < 0.8 for row in rows)
    assert rows[1]["oacc_known"] > 0.97 > rows[0]["oacc_known"] > 0.7 and rows[1]["miou_known"] > 0.9
    head = {"title": "T", "data": "rooms", "backbone": "x", "supervision": "none", "command": "c", "classes": list(CLASSES)}
    text = markdown({**head, "rows": rows, "summary": summarise(rows), "about": about(rooms, rooms), "words": "Teacher fake"})
    assert "mIoU, classes with a word |" in text and f"| {rows[1]['miou_known']:.3f} |" in text and "Teacher fake" in text


@pytest.mark.train
def test_hicl_is_trained_and_scored_by_name(monkeypatch) -> None:
    monkeypatch.setattr(HICLMethod, "presets", {"small": SMALL_HICL})
    words = known_words(Words(), CLASSES)
    hicl = [chosen for chosen in named_methods(FakeBackbone(), Words(), words) if chosen.name.startswith("HICL")]
    rows = measure([taught_room(k) for k in range(3)], [taught_room(9)], CLASSES, hicl, [0], known=set(words.values()))
    assert rows[0]["oacc_known"] > 0.8, rows
