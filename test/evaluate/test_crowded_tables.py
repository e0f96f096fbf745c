"""Crowded tables: objects touch, stand on one another, hide what is behind; truth and splits. On rendered tables, and on real ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate import tabletop
from geoseg_ros.evaluate.crowded_tables import LEAST, MOST, crowd, crowded_sets, open_table, set_down
from geoseg_ros.evaluate.tabletop import FOLDS, KINDS, Scenes, TabletopScene
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.simulation.raycast import RayCaster
from geoseg_ros.simulation.render import Camera, look_at
from geoseg_ros.simulation.solids import FRUSTUM, QUAD, Builder
from support.paths import SHARED

MOSD = SHARED / "data" / "clouds" / "mosd"
EYE = np.array([-0.9, 0, 1.2], np.float32)
SIDE, HEIGHT = 0.15, 0.12


def scene(kind: str, number: int = 0, objects: int = 2) -> TabletopScene:
    """A table of 1.2 m with boxes or cylinders in a row across, seen by a camera of 320 x 240 pixels."""
    b = Builder()
    b.add(QUAD, 0, 0, (0, 0, 0), (0.6, 0.6, 0))
    for k in range(objects):
        at = (-0.1 + 0.01 * (number % 7), 0.35 * k - 0.17, HEIGHT / 2)
        if kind == "box":
            b.box(0, 0, at, (SIDE, SIDE, HEIGHT))
        else:
            b.add(FRUSTUM, 0, 0, at, (SIDE / 2, SIDE / 2, HEIGHT / 2))
    camera = Camera(EYE, look_at(EYE, (0, 0, 0.05)), focal=300.0)
    rays = camera.rays()
    hits = RayCaster(b.solids(0)).cast(EYE, rays @ camera.rotation.T)
    xyz = np.where(np.isfinite(hits.range)[:, None], rays * hits.range[:, None], np.nan).astype(np.float32)
    rgb = np.full((len(xyz), 3), (200, 40, 40) if kind == "box" else (40, 40, 200), np.uint8)
    rgb[hits.solid <= 0] = 128
    return TabletopScene(kind, Cloud(xyz, rgb, (240, 320)), np.maximum(hits.solid, 0))


def distance(table, a: int, b: int) -> float:
    """Smallest between the objects with these numbers, hidden points included."""
    return float(cKDTree(table.objects[a - 1].xyz).query(table.objects[b - 1].xyz)[0].min())


def pixels_of_points(table) -> np.ndarray:
    """How far each valid point lies from the middle of its pixel, in pixels."""
    v, u = np.nonzero(np.isfinite(table.xyz[..., 2]))
    x, y, z = table.xyz[v, u].T
    return np.hypot(300 * x / z + 159.5 - u, 300 * y / z + 119.5 - v)


def test_a_scene_is_opened() -> None:
    table = open_table(scene("box"), 5)
    assert [t.kind for t in table.objects] == ["box", "box"] and table.objects[0].scene == 5 and not table.touching
    assert table.lens == pytest.approx(np.array([[300, 159.5], [300, 119.5]]), abs=0.1)
    assert [round(float(np.quantile(t.xyz[:, 2], 0.99)), 2) for t in table.objects] == [HEIGHT] * 2
    assert np.array_equal(table.cloud().xyz, scene("box").cloud.xyz, equal_nan=True)
    assert np.count_nonzero(table.of_kind("box")) == np.count_nonzero(table.number) and not table.of_kind("cylinder").any()


@pytest.mark.parametrize("side", [0, 1, 2, 3, None])
def test_a_thing_is_set_against_another(side) -> None:
    table, other = open_table(scene("box", objects=1), 0), open_table(scene("cylinder", 3, objects=1), 33)
    moved = other.objects[0]
    before = np.count_nonzero(table.number == 1)
    assert set_down(table, moved, 0, side)
    assert table.touching == [(1, 2)] and [t.kind for t in table.objects] == ["box", "cylinder"]
    placed, first = table.objects[1].xyz, table.objects[0].xyz
    # a face that the sensor cannot see has no points: behind and before there can be the depth of an object between points
    assert distance(table, 1, 2) < (0.025 if side in (0, 2, None) else SIDE + 0.02)
    assert float(np.quantile(placed[:, 2], 0.01)) == pytest.approx(0 if side is not None else HEIGHT, abs=0.012)
    assert np.ptp(placed[:, 2]) == pytest.approx(np.ptp(moved.xyz[:, 2]), abs=1e-6)
    gap = {0: placed[:, 0].min() - first[:, 0].max(), 2: first[:, 0].min() - placed[:, 0].max()}
    gap |= {1: placed[:, 1].min() - first[:, 1].max(), 3: first[:, 1].min() - placed[:, 1].max()}
    if side is not None:
        assert gap[side] == pytest.approx(0, abs=1e-3)
    seen = table.of_kind("cylinder").reshape(table.number.shape)
    assert seen.sum() > 0.4 * len(moved.xyz) and (table.rgb[seen] == (40, 40, 200)).all()
    assert pixels_of_points(table).max() < 1.5  # the organised cloud is still what a camera sees
    if side == 3:  # it stands before the first, and hides some of it
        assert np.count_nonzero(table.number == 1) < before
        assert not np.isnan(table.xyz[seen]).any()


def test_no_place_changes_nothing() -> None:
    table, moved = open_table(scene("box"), 0), open_table(scene("cylinder"), 33).objects[0]
    assert set_down(table, moved, 0, None)
    xyz, labels = table.xyz.copy(), table.number.copy()
    assert not set_down(table, moved, 0, None)  # the place is taken
    far = type(moved)(moved.kind, moved.scene, moved.xyz + (0, 0.6, 0), moved.rgb)
    assert not set_down(table, far, 0, 0)  # it would come nearer than its sampling allows
    assert len(table.objects) == 3 and np.array_equal(table.xyz, xyz, equal_nan=True) and np.array_equal(table.number, labels)


def test_bowls_hold_nothing_on_their_rim() -> None:
    table = open_table(scene("cylinder", objects=1), 33)
    pot = table.objects[0]
    rim = np.hypot(*(pot.xyz[:, :2] - (pot.xyz[:, :2].min(axis=0) + pot.xyz[:, :2].max(axis=0)) / 2).T) > 0.8 * SIDE / 2
    table.objects[0] = type(pot)(pot.kind, pot.scene, pot.xyz[rim], pot.rgb[rim])
    small = open_table(scene("box", objects=1), 0).objects[0]
    small = type(small)(small.kind, small.scene, small.xyz * (0.5, 0.5, 1) + (0, 0.45, 0), small.rgb)
    assert not set_down(table, small, 0, None)


def test_crowded_tables_hold_both_kinds() -> None:
    bases = {k: open_table(scene("box", k), k) for k in range(3)} | {33 + k: open_table(scene("cylinder", k, 1), 33 + k) for k in range(3)}
    before = {k: (table.number.copy(), len(table.objects)) for k, table in bases.items()}
    for seed in range(4):
        table, again = (crowd(bases, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(table.xyz, again.xyz, equal_nan=True) and np.array_equal(table.number, again.number)
        assert LEAST <= len(table.objects) <= MOST and {t.kind for t in table.objects} == set(KINDS)
        assert table.touching and all((table.number == k + 1).any() for k in range(len(table.objects)))
    for k, (labels, count) in before.items():
        assert np.array_equal(bases[k].number, labels) and len(bases[k].objects) == count


def test_sets(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tabletop, "read_scene", lambda root, number, kind: scene(kind, number))
    sets = crowded_sets(tmp_path, "development", [0, 1], 2)
    assert len(sets) == 2 * 2 * 2 and all(items.transductive and not items.rivals for items in sets)
    fold = FOLDS["development"][0]
    for items in sets:
        assert [i.name for i in items.images] == [f"{items.name}{n}" for n in fold.training[items.name]]
        assert [i.shown for i in items.images] == [True] * len(items.images)
        for c in items.clouds:
            assert c.truth.any() and c.other.any() and not (c.truth & c.other).any()
            assert np.array_equal(c.truth | c.other, c.instance > 0) and not c.truth[~c.counted].any()
            assert (c.data.rgb is None) == items.group.endswith("xyz") and c.data.shape == (240, 320)
    box, cylinder = sets[:2]
    assert (box.name, cylinder.name) == KINDS and all(a.data is b.data for a, b in zip(box.clouds, cylinder.clouds, strict=True))
    assert all(np.array_equal(a.truth, b.other) for a, b in zip(box.clouds, cylinder.clouds, strict=True))
    assert not np.array_equal(sets[0].clouds[0].truth, sets[4].clouds[0].truth)  # another seed, other tables
    with pytest.raises(InputError, match="at least 2"):
        crowded_sets(tmp_path, "development", [0], 1)


@pytest.mark.skipif(not MOSD.is_dir(), reason="the table-top scenes are not on this machine")
def test_real_crowded_table() -> None:
    read = Scenes(MOSD)
    bases = {n: open_table(read(n, kind), n) for kind, n in (("box", 5), ("box", 8), ("cylinder", 36))}
    table = crowd(bases, np.random.default_rng(2))
    assert LEAST <= len(table.objects) <= MOST and {t.kind for t in table.objects} == set(KINDS)
    assert table.lens[:, 0] == pytest.approx([525, 525], rel=0.03)
    centres = [np.median(placed.xyz, axis=0) for placed in table.objects]
    assert table.touching and all(np.linalg.norm(centres[a - 1] - centres[b - 1]) < 0.4 for a, b in table.touching)
    assert (table.cloud().valid()[table.number.ravel() > 0]).all()
