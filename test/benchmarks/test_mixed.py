"""Mixed tables and folders with outliers: what is learnt from, what is measured, and that the report's clouds are new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tables import mixed
from benchmarks.tables.mixed import MIXED, mixed_sets
from geoseg_ros.evaluate import tabletop
from geoseg_ros.evaluate.tabletop import KINDS, SPLITS, VARIANTS, Scenes, TabletopScene
from geoseg_ros.geometry.cloud import Cloud
from support.evaluate_worlds import table_cloud
from support.paths import SHARED

MOSD = SHARED / "data" / "clouds" / "mosd"


@pytest.mark.parametrize("split", sorted(MIXED))
def test_nothing_is_learnt_from_what_is_measured(split) -> None:
    for fold in MIXED[split]:
        for kind in KINDS:
            assert set(fold.training[kind]).isdisjoint(fold.measured[kind])
        for pair in fold.pairs:
            assert pair.box in fold.measured["box"] and pair.cylinder in fold.measured["cylinder"]
        assert len(set(fold.pairs)) == len(fold.pairs)


def test_composed_clouds_of_the_report_are_new() -> None:
    """Neither the development split nor the table of :mod:`geoseg_ros.evaluate.tabletop_table` has a cloud on a cylinder's table."""
    assert all(fold.base == "box" for fold in MIXED["development"])
    assert all(fold.base == "cylinder" for fold in MIXED["report"])
    first, second = MIXED["report"]
    assert first.training == second.measured and second.training == first.measured
    pairs = [(p.box, p.cylinder) for fold in MIXED["report"] for p in fold.pairs]
    old = {(b, c) for split in SPLITS.values() for b, c in zip(split["box"][1], [*split["cylinder"][1]] * 3, strict=False)}
    assert old.isdisjoint(pairs)
    assert {p.rank for fold in MIXED["report"] for p in fold.pairs} == {1, 2}


@pytest.fixture
def scenes(monkeypatch):
    """Synthetic tables in place of files: number k has a cube and a ball, both of the scene's kind."""
    asked = []

    def read(root, number, kind):
        asked.append(number)
        cloud, instance = table_cloud(number)
        return TabletopScene(kind, Cloud(cloud.xyz, cloud.rgb, (1, len(cloud))), instance)

    monkeypatch.setattr(tabletop, "read_scene", read)
    return asked


def test_sets_of_the_development_split(scenes) -> None:
    sets = mixed_sets(Path(), "development", VARIANTS[::2])
    assert len(scenes) == len(set(scenes)) == 16  # each scene is read once
    names = [(s.group, s.name, s.given) for s in sets]
    assert len(names) == len(set(names)) == 2 * 2 * 2 + 2
    tables = [s for s in sets if s.group.startswith("mixed")]
    for items in tables:
        (rival,) = items.rivals
        assert {items.own.name, rival.name} == set(KINDS) and items.name == items.own.name
        assert len(items.clouds) == 10 and not items.images
        for item in items.clouds:
            assert item.truth.any() and item.other is not None and item.other.any() and not (item.truth & item.other).any()
            assert (item.data.rgb is None) == items.group.endswith("xyz")
        own, clouds, without = (len(x) for x in (items.own.images, items.own.clouds, items.own.without_images))
        expected = {"box": 5, "cylinder": 3}[items.own.name]
        assert own == expected
        assert (clouds, without) == ((0, 0) if items.given == "pictures" else (expected, 8 - expected))
    box, cylinder = tables[:2]
    for a, b in zip(box.clouds, cylinder.clouds, strict=True):
        assert a.data is b.data and np.array_equal(a.truth, b.other) and np.array_equal(b.truth, a.other)  # the very same clouds


def test_folders_with_outliers(scenes) -> None:
    sets = {s.name: s for s in mixed_sets(Path(), "development", VARIANTS[:1]) if s.group == "folder with outliers"}
    box = sets["box"]
    assert [i.name for i in box.images] == [f"box{k}" for k in range(5)] + ["cylinder33", "cylinder34"]
    assert [c.name for c in box.clouds] == [f"box{k}" for k in range(5, 10)] + ["cylinder36", "cylinder37"]
    assert [i.shown for i in box.images] == [c.shown for c in box.clouds] == [True] * 5 + [False] * 2
    assert [id(x) for x in box.own.clouds] == [id(c.data) for c in box.clouds] and len(box.own.images) == 7
    cylinder = sets["cylinder"]
    assert sum(i.shown for i in cylinder.images) == 3 and len(cylinder.images) == 5


@pytest.mark.skipif(not MOSD.is_dir(), reason="the table-top scenes are not on this machine")
def test_real_composed_clouds() -> None:
    read = Scenes(MOSD)
    fold = MIXED["development"][0]
    few = mixed.MixedFold("", fold.training, fold.measured, fold.pairs[:2], "cylinder", 0)
    for pair, cloud, truth in mixed.composed(read, few):
        assert cloud.valid().all() and cloud.rgb is not None
        for kind in KINDS:
            assert truth[kind].sum() > 1000, (pair, kind)
        # side by side on one table: nearer than half a metre, and not one in the other
        centres = [np.median(cloud.xyz[truth[kind]], axis=0) for kind in KINDS]
        assert 0.03 < np.linalg.norm(centres[0] - centres[1]) < 0.5
