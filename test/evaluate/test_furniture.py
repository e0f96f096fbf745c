"""Rooms of furniture: no mesh in two places, unpaired sets, the switch test's bookkeeping, the cache; on a catalogue of coloured boxes."""

from __future__ import annotations

import zipfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import trimesh

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate import furniture
from geoseg_ros.evaluate.datasets.sweethome3d import CATALOGUES, list_models, read_model
from geoseg_ros.evaluate.furniture import KINDS, MESHES, MODALITIES, SPLITS, TRIOS, dealt, furniture_sets
from geoseg_ros.evaluate.items import Prediction
from geoseg_ros.evaluate.score import figures

INSTALLED = Path("/usr/share/sweethome3d/furniture")
SIZES = {  # centimetres: width, depth, height
    "chair": (50, 50, 90), "table": (130, 80, 75), "sofa": (180, 85, 80), "bed": (140, 200, 60), "lamp": (30, 30, 150),
    "plant": (45, 45, 110), "cabinet": (80, 45, 120), "other": (40, 40, 80),
}  # fmt: skip


def write_catalogue(path: Path, kinds: dict[str, tuple[str, ...]], extra: str = "") -> None:
    """A catalogue whose models are boxes in a unit of their own, y up, each with its colour in an MTL file."""
    lines, number = ["id=test", "name=Test"], 0
    with zipfile.ZipFile(path, "w") as archive:
        for kind, names in kinds.items():
            width, depth, height = SIZES[kind]
            for name in names:
                number += 1
                model = {"id": f"Test#{name}", "name": kind, "category": "Room", "model": f"/test/{name}/{name}.obj"}
                model |= {"width": str(width), "depth": str(depth), "height": f"{height}.0", "movable": "true"}
                lines += [f"{key}#{number}={value}" for key, value in model.items()]
                box = trimesh.creation.box((width / 7, height / 7, depth / 7))
                faces = "\n".join(f"f {a} {b} {c}" for a, b, c in box.faces + 1)
                vertices = "\n".join(f"v {x} {y} {z}" for x, y, z in box.vertices)
                archive.writestr(f"test/{name}/{name}.obj", f"mtllib {name}.mtl\nusemtl m\n{vertices}\n{faces}\n")
                red = 0.2 + 0.1 * (number % 8)
                archive.writestr(f"test/{name}/{name}.mtl", f"newmtl m\nKd {red} 0.4 {1 - red}\n")
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines) + extra + "\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("furniture")
    write_catalogue(folder / f"{CATALOGUES[0]}.sh3f", MESHES, "\nid#999=Test#turned\nmodelRotation#999=1 0 0 0 1 0 0 0 1")
    write_catalogue(folder / f"{CATALOGUES[1]}.sh3f", {"chair": ("spare",)})
    return folder


@pytest.fixture(scope="module")
def sets(root, tmp_path_factory):
    cache = tmp_path_factory.mktemp("rooms")
    return cache, furniture_sets(root, "development", ("chair", "sofa", "table"), [3], 2, "depth", cache)


def test_no_mesh_is_in_two_places() -> None:
    places = {(split, modality): dealt(split, modality) for split in SPLITS for modality in MODALITIES}
    for kind, names in MESHES.items():
        assert len(set(names)) == len(names) and all(found[kind] for found in places.values())
        assert sorted(name for found in places.values() for name in found[kind]) == sorted(names)
        for a, b in combinations(places.values(), 2):
            assert set(a[kind]).isdisjoint(b[kind])
    every = [name for names in MESHES.values() for name in names]
    assert len(set(every)) == len(every) and {kind for trio in TRIOS for kind in trio} <= set(KINDS)


def test_catalogue_gives_real_sizes_and_colours(root) -> None:
    models = list_models(root)
    assert "turned" not in models and set(models) == {name for names in MESHES.values() for name in names} | {"spare"}
    mesh = read_model(models["couch"])
    assert 2 * mesh.half() == pytest.approx([0.85, 1.8, 0.8], abs=1e-5)  # depth, width, height
    assert len(np.unique(mesh.colours.reshape(-1, 3), axis=0)) == 1 and mesh.colours[0, 0, 1] == pytest.approx(0.4**2.2, abs=0.01)


@pytest.mark.slow
def test_sets_show_what_they_say(sets) -> None:
    _, found = sets
    by_group: dict[str, list] = {}
    for items in found:
        by_group.setdefault(items.group.rpartition(", ")[2], []).append(items)
        assert items.transductive and items.seed == 3 and not items.rivals
        assert all(c.data.shape == (240, 320) and c.data.rgb is not None and not c.truth[~c.counted].any() for c in items.clouds)
    assert {group: len(of) for group, of in by_group.items()} == {"all show it": 3, "some show it": 3, "switch": 3}
    for items in by_group["all show it"]:
        assert [i.shown for i in items.images] == [c.shown for c in items.clouds] == [True, True]
    for items in by_group["some show it"]:
        assert [i.shown for i in items.images] == [c.shown for c in items.clouds] == [True, True, False]
    learnt = {i.data.tobytes() for items in found for i in items.images}
    assert len(learnt) == 3 * (2 + 1 + 2)  # the switch sets have pictures of their own, without the two other kinds


@pytest.mark.slow
def test_switch_asks_the_same_clouds_for_each_kind(sets) -> None:
    three = [items for items in sets[1] if items.group.endswith("switch")]
    for clouds in zip(*(items.clouds for items in three), strict=True):
        assert len({id(c.data) for c in clouds}) == 1
        for c in clouds:
            rest = np.logical_or.reduce([d.truth for d in clouds if d is not c])
            assert c.truth.sum() >= 300 and np.array_equal(c.other, rest) and not (c.truth & c.other).any()
    asked = three[0].clouds
    right, wrong = figures(asked, [Prediction(c.truth) for c in asked]), figures(asked, [Prediction(c.other) for c in asked])
    assert (right["iou"], right["other"], wrong["iou"], wrong["other"]) == (1.0, 0.0, 0.0, 1.0)


@pytest.mark.slow
def test_cache_gives_the_same_rooms(sets, root, monkeypatch) -> None:
    cache, found = sets
    stored = sorted(cache.iterdir())

    def never(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(furniture, "make_cloud", never)
    monkeypatch.setattr(furniture, "make_image", never)
    again = furniture_sets(root, "development", ("chair", "sofa", "table"), [3], 2, "depth", cache)
    for a, b in zip(found, again, strict=True):
        assert all(np.array_equal(x.data, y.data) and np.array_equal(x.truth, y.truth) for x, y in zip(a.images, b.images, strict=True))
        for x, y in zip(a.clouds, b.clouds, strict=True):
            assert np.array_equal(x.data.xyz, y.data.xyz, equal_nan=True) and np.array_equal(x.data.rgb, y.data.rgb)
            assert x.data.shape == y.data.shape and np.array_equal(x.truth, y.truth) and np.array_equal(x.instance, y.instance)
    data = stored[0].read_bytes()
    stored[0].write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged, remove it"):
        furniture_sets(root, "development", ("chair", "sofa", "table"), [3], 2, "depth", cache)
    stored[0].write_bytes(data)


def test_bad_input(root, tmp_path) -> None:
    for arguments, message in (
        ((root, "report", ("unicorn",), [0]), "unicorn"),
        ((root, "report", ("chair",), [0], 1), "at least 2"),
        ((root, "report", ("chair",), [0], 2, "scanner"), "depth, lidar"),
        ((tmp_path, "report", ("chair",), [0], 2), "sweethome3d-furniture"),
        ((root, "report", ("chair",), [0], 2, "depth", root / f"{CATALOGUES[0]}.sh3f"), "not a folder"),
    ):
        with pytest.raises(InputError, match=message):
            furniture_sets(*arguments)
    (tmp_path / f"{CATALOGUES[0]}.sh3f").write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a furniture catalogue"):
        list_models(tmp_path)
    write_catalogue(tmp_path / f"{CATALOGUES[0]}.sh3f", {"chair": ("chair",)}, "\nid#999=Test#sizeless\ncategory#999=Room")
    with pytest.raises(InputError, match="sizeless"):
        list_models(tmp_path)


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package sweethome3d-furniture is not installed")
def test_real_meshes_can_all_be_read() -> None:
    models = list_models(INSTALLED)
    for name in (name for names in MESHES.values() for name in names):
        assert 2 * read_model(models[name]).half() == pytest.approx(models[name].size, rel=1e-3)
