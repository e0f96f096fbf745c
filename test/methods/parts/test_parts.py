"""Part packs: what was marked once is found on other objects, and what is wrong is refused in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.api import learn_parts, open_pipeline
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.registry import open_part_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection.scene import ImageScene, SceneConfig
from geoseg_ros.runtime.parts import whole_object
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig, check_packs
from support.fake_world import COLOURS, CONFIG, picture
from support.part_worlds import mug, table_with_mug

UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def mugs(fake_backbone):
    """A pack of the parts of a mug."""
    xyz, marks = mug()
    cloud = Cloud(xyz)
    return learn_parts("mugs", {name: (tuple(mark), cloud) for name, mark in marks.items()}, backbone=fake_backbone)


@pytest.fixture(scope="module")
def finder(mugs):
    return open_part_method("parts").open(mugs)


def parts_of(finder, xyz, up=UP):
    return {part.name: part for part in finder.cloud([whole_object(Cloud(xyz), up)]).parts}


@pytest.mark.parametrize(("size", "yaw", "tall"), [(1.0, 1.0, 1.0), (1.3, 2.5, 1.1), (0.8, 4.0, 0.9)])
def test_parts_are_found_on_other_mugs(finder, size, yaw, tall) -> None:
    xyz, truth = mug(1, size, yaw, tall)
    found = parts_of(finder, xyz)
    given = {name: np.linalg.norm(part.point - truth[name]) for name, part in found.items() if part.point is not None}
    assert len(given) >= 2 and max(given.values()) < 0.03 * size, given
    for name in given:
        assert found[name].seen and not found[name].reason and 0 < found[name].confidence <= 1
        assert np.linalg.norm(found[name].normal) == pytest.approx(1, abs=1e-5)
    for name in set(found) - set(given):
        assert "check" in found[name].reason and found[name].confidence == 0 and not found[name].seen


def test_any_frame_and_unit_gives_the_same_places(finder) -> None:
    xyz, _ = mug(1, 1.0, 1.0)
    lying = np.stack([xyz[:, 0], -xyz[:, 2], xyz[:, 1]], axis=1) + np.float32([5, 2, 7])
    first, second = parts_of(finder, xyz), parts_of(finder, lying, np.array([0.0, -1.0, 0.0]))
    for name in first:
        assert (first[name].point is None) == (second[name].point is None)
        if first[name].point is not None:
            x, y, z = first[name].point
            assert np.allclose(second[name].point, (x + 5, -z + 2, y + 7), atol=0.02)


def test_what_cannot_be_told_is_not_given(finder) -> None:
    without = parts_of(finder, mug(1, handle=False)[0])
    assert without["handle"].point is None and "ambiguous" in without["handle"].reason
    assert np.linalg.norm(without["bottom"].point) < 0.03, "the middle of the bottom is the same for every turn"
    board = np.random.default_rng(0).uniform(-1, 1, (3000, 3)) * (1, 0.5, 0.01)
    assert all("does not fit the template" in part.reason for part in parts_of(finder, board.astype(np.float32)).values())
    assert all("expected at least 30 valid points" in part.reason for part in parts_of(finder, board[:10]).values())


def test_symmetric_objects_are_reported_as_symmetric(fake_backbone) -> None:
    xyz, marks = mug(handle=False)
    pack = learn_parts("cans", {"side": ((0.08, 0, 0.1), Cloud(xyz)), "bottom": ((0, 0, 0), Cloud(xyz))}, backbone=fake_backbone)
    found = parts_of(open_part_method("parts").open(pack), mug(3, 1.2, handle=False)[0])
    assert found["side"].symmetric and not found["bottom"].symmetric
    assert np.hypot(*found["side"].point[:2]) == pytest.approx(0.096, abs=0.02)
    assert found["side"].confidence < found["bottom"].confidence


def test_hidden_parts_are_inferred(finder) -> None:
    xyz, truth = mug(1, 1.0, 0.0)
    sensor = np.array([0.5, -1.2, 0.8])
    seen = xyz[(xyz[:, 1] < 0.012) & (xyz[:, 2] > 0.005)] - sensor.astype(np.float32)
    found = {p.name: p for p in finder.cloud([whole_object(Cloud(seen), UP)]).parts}
    assert not found["bottom"].seen
    if found["bottom"].point is not None:
        assert np.linalg.norm(found["bottom"].point + sensor - truth["bottom"]) < 0.05
    off = open_part_method("parts").open(finder.pack.to_pack(), PartsConfig(hidden=False))
    assert {p.name: p for p in off.cloud([whole_object(Cloud(seen), UP)]).parts}["bottom"].point is None


def test_any_point_of_the_template_can_be_asked_for(finder) -> None:
    xyz, truth = mug(1, 0.8, 4.0, 0.9)
    answer = finder.cloud([whole_object(Cloud(xyz), UP)])
    template = finder.pack.template.shape
    mark = next(m.point for m in finder.pack.marks if m.name == "rim")
    (found,) = answer.where("", mark)
    assert np.linalg.norm(found.point - truth["rim"]) < 0.03
    assert answer.where("rim", np.zeros(3))[0].name == "rim"
    for part, point, line in (
        ("lid", np.zeros(3), "part 'lid': unknown, expected one of handle, bottom, rim"),
        ("", np.full(3, 2.0), "from the template, expected a point on it"),
        ("", np.full(3, np.nan), "point: expected finite metres"),
    ):
        with pytest.raises(InputError, match=line):
            answer.where(part, point)
    assert template.xyz[:, 2].min() == pytest.approx(0, abs=0.01), "upright, on the ground"


def test_packs_keep_what_they_hold(mugs, finder, tmp_path) -> None:
    mugs.save(tmp_path / "mugs.pack")
    mugs.save(tmp_path / "again.pack")
    assert (tmp_path / "mugs.pack").read_bytes() == (tmp_path / "again.pack").read_bytes()
    read = open_part_method("parts").open(Pack.load(tmp_path / "mugs.pack"))
    assert read.names == ("handle", "bottom", "rim") and read.target is None
    xyz, _ = mug(1, 1.0, 1.0)
    first, second = parts_of(finder, xyz), parts_of(read, xyz)
    for name in first:
        assert first[name].reason == second[name].reason or first[name].point is not None
        assert first[name].point is None or np.allclose(first[name].point, second[name].point, atol=0.02)


def test_damaged_and_foreign_packs_are_refused(mugs, fake_packs, fake_backbone) -> None:
    method = open_part_method("parts")
    cases = [
        (fake_packs["red"], "expected a part pack"),
        (replace(mugs, info={**mugs.info, "descriptors": "older"}), "made with other descriptors"),
        (replace(mugs, info={**mugs.info, "parts": ["a", "a", "b"]}), "mark a: named twice"),
        (replace(mugs, info={**mugs.info, "parts": ["a"]}), "damaged part pack"),
        (replace(mugs, tensors={**mugs.tensors, "xyz": mugs.tensors["xyz"][:5]}), "damaged part pack"),
        (replace(mugs, tensors={**mugs.tensors, "normal": mugs.tensors["normal"] * torch.nan}), "damaged part pack"),
        (replace(mugs, tensors={k: v for k, v in mugs.tensors.items() if k != "mark.point"}), "damaged part pack"),
    ]
    for pack, line in cases:
        with pytest.raises(InputError, match=line) as error:
            method.open(pack)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="made with --whole"):
        Pipeline(fake_backbone, [fake_packs["red"], mugs])
    with pytest.raises(InputError, match="expected at least one concept pack"):
        Pipeline(fake_backbone, [mugs])
    with pytest.raises(InputError, match="made with backbone"):
        Pipeline(fake_backbone, [fake_packs["red"], replace(mugs, backbone_hash="0" * 64)])


def test_marks_that_cannot_be_used(fake_backbone, tmp_path) -> None:
    xyz, _ = mug()
    cloud, image = Cloud(xyz), picture(0, ("red",))[0]
    nan = Cloud(np.full((50, 3), np.nan, np.float32))
    cases = [
        ({}, "expected 1 to 64 parts, got 0"),
        ({"": ((0, 0, 0), cloud)}, "expected 1 to 64 printable characters"),
        ({"a": ((9, 9, 9), cloud)}, "mark a: outside the object"),
        ({"a": ((np.nan, 0, 0), cloud)}, "mark a: expected finite metres"),
        ({"a": ((0, 0), tmp_path / "a.ply")}, "x,y is a pixel of a photograph"),
        ({"a": ((0, 0, 0), tmp_path / "a.jpg")}, "is a picture: expected x,y"),
        ({"a": ((0, 0, 0), tmp_path / "a.ply")}, "a.ply"),
        ({"a": ((0,), cloud)}, "got 1 numbers"),
        ({"a": ((500, 10), image)}, "pixel 500,10 is outside"),
        ({"a": ((0, 0, 0), nan)}, "no valid point"),
    ]
    for marks, line in cases:
        with pytest.raises(InputError, match=line):
            learn_parts("x", marks, backbone=fake_backbone)


def test_parts_of_the_objects_of_a_concept(fake_backbone, fake_packs, tmp_path, monkeypatch) -> None:
    red = fake_packs["red"]
    cloud, marks = table_with_mug(0, 0.3)
    config = PipelineConfig(coseg=CONFIG.coseg)
    pack = learn_parts("mug parts", {n: (tuple(marks[n]), cloud) for n in ("handle", "rim")}, pack=red, backbone=fake_backbone)
    pipeline = Pipeline(fake_backbone, [red, pack], config)
    assert pipeline.labels.names == ("red",) and pipeline.part_names == [("red", "handle"), ("red", "rim")]
    other, truth = table_with_mug(5, 2.0, ("green", "yellow"), 1.2)
    result = pipeline.process_cloud(other)
    given = {p.name: p for p in result.parts if p.point is not None}
    assert "handle" in given and np.linalg.norm(given["handle"].point - truth["handle"]) < 0.04
    assert {p.object for p in result.parts} == {"red"} and given["handle"].label == 1
    assert result.where("", "handle", np.zeros(3))[0].point is given["handle"].point
    pipeline.find_parts = False
    assert pipeline.process_cloud(other).parts == [] and pipeline.process_cloud(other).where is None

    with pytest.raises(InputError, match="expected the concept pack 'red'"):
        Pipeline(fake_backbone, [fake_packs["blue"], pack])
    changed = replace(red, tensors={**red.tensors, "mean": red.tensors["mean"] + 1})
    with pytest.raises(InputError, match="made with version"):
        Pipeline(fake_backbone, [changed, pack])
    for name, entry in (("red", red), ("parts", pack)):
        entry.save(tmp_path / f"{name}.pack")
    paths = [str(tmp_path / "red.pack"), str(tmp_path / "parts.pack")]
    assert check_packs(paths) == ("red",)
    with pytest.raises(InputError, match="expected at least one concept pack"):
        check_packs(paths[1:])
    monkeypatch.setattr("geoseg_ros.runtime.pipeline.open_backbone", lambda spec, device: fake_backbone)
    assert len(open_pipeline(paths, config=config).process_cloud(other).parts) == 2


def test_parts_on_photographs(fake_backbone) -> None:
    image = np.full((224, 224, 3), 128, np.uint8)
    image[96:112, 96:112], image[96:112, 112:128] = (220, 30, 30), (30, 40, 220)  # an object of two colours
    pack = learn_parts("x", {"left": ((104, 104), image), "right": ((120, 104), image)}, backbone=fake_backbone)
    finder = open_part_method("parts").open(pack)
    other = np.full((224, 224, 3), 128, np.uint8)
    other[64:80, 48:64], other[64:80, 32:48] = (210, 40, 40), (40, 40, 210)  # the other way round
    mask = np.zeros(other.shape[:2], bool)
    mask[64:80, 32:64] = True
    found = {p.name: p for p in finder.image(ImageScene(other, fake_backbone, SceneConfig()), [mask])}
    assert 48 <= found["left"].pixel[0] < 64 and 32 <= found["right"].pixel[0] < 48, "by look, not by place"
    blank = {p.name: p for p in finder.image(ImageScene(np.full_like(other, 128), fake_backbone, SceneConfig()), [mask])}
    assert all(p.pixel is None and p.reason and p.confidence == 0 for p in blank.values())
    assert "photographs only" in parts_of(finder, mug()[0])["left"].reason


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_layout_of_the_marks_tells_two_equal_places_apart(fake_backbone, mirrored) -> None:
    def vehicle(x, y):
        """Two wheels of one colour, a seat above the rear one, a handlebar above the front one; pixels of the middles."""
        image = np.full((224, 224, 3), 128, np.uint8)
        places = {"front": (x + 96, y + 48), "rear": (x, y + 48), "seat": (x + 16, y), "handlebar": (x + 80, y)}
        for name, colour in (("front", "red"), ("rear", "red"), ("seat", "blue"), ("handlebar", "yellow")):
            left, top = places[name]
            image[top : top + 16, left : left + 16] = COLOURS[colour]
        return image, {name: (left + 8, top + 8) for name, (left, top) in places.items()}

    image, places = vehicle(32, 64)
    pack = learn_parts("x", {n: (places[n], image) for n in ("front", "seat", "handlebar")}, backbone=fake_backbone)
    other, truth = vehicle(80, 112)
    if mirrored:
        other, truth = np.ascontiguousarray(other[:, ::-1]), {name: (224 - x, y) for name, (x, y) in truth.items()}
    finder = open_part_method("parts").open(pack)
    mask = (other != 128).any(axis=2)
    found = {p.name: p for p in finder.image(ImageScene(other, fake_backbone, SceneConfig()), [mask])}
    assert all(np.linalg.norm(np.subtract(part.pixel, truth[name])) < 10 for name, part in found.items()), found
