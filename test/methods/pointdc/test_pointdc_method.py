"""Scene packs: what is in them, what they find, naming, and work beside concept packs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from geoseg_ros.display.class_sheet import class_sheet
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.pointdc.config import PointDCConfig
from geoseg_ros.methods.pointdc.method import PointDCMethod
from geoseg_ros.packs.class_pictures import SIDE
from geoseg_ros.packs.pack import Pack
from geoseg_ros.packs.place import LEVELS, Place, Spread
from geoseg_ros.packs.scene_pack import class_shares, first_names, pack_geometry, renamed
from geoseg_ros.runtime.pipeline import Pipeline, open_pipeline
from support.fake_world import FakeBackbone
from support.pointdc_worlds import SMALL, photograph, purity, room

pytestmark = pytest.mark.train


def held_out() -> tuple[Cloud, np.ndarray]:
    """A room that the pack was not learnt from, with every voxel four times, and the class of each point."""
    scene, label = room(17)
    shift = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0], [0.01, 0.01, 0]], np.float32)
    return Cloud(np.concatenate([scene.xyz + step for step in shift]) - (1, 1, 1.5), np.tile(scene.rgb, (4, 1))), np.tile(label, 4)


def test_every_point_of_another_room_gets_its_class(home, tmp_path) -> None:
    home.save(tmp_path / "home.pack")
    pipeline = open_pipeline([str(tmp_path / "home.pack")], opened=FakeBackbone())
    assert pipeline.pack_versions == [home.version] * len(pipeline.labels.names)  # one of each label, as the status message wants
    cloud, truth = held_out()
    result = pipeline.process_cloud(cloud)
    assert np.mean(result.label > 0) > 0.95
    assert purity(result.label.astype(int), truth) > 0.9
    assert result.label.tobytes() == pipeline.process_cloud(cloud).label.tobytes()
    assert sum(p.share for p in result.presence) == pytest.approx(np.mean(result.label > 0))
    of_boxes = {result.label[truth == k][0] for k in (2, 3)}
    assert {item.label for item in result.objects} & of_boxes
    assert all(item.count < len(cloud) / 4 for item in result.objects)  # floor and wall are no objects


def test_image_is_segmented_by_the_mean_tokens_of_the_classes(home) -> None:
    image, truth = photograph()
    mask = Pipeline(FakeBackbone(), [home]).process_image(image).mask
    inside = (mask > 0) & (cv2.erode(np.kron(np.ones((2, 2)), np.pad(np.ones((48, 48)), 8)).astype(np.uint8), np.ones((3, 3))) > 0)
    assert inside.sum() > 4000 and purity(mask[inside].astype(int), truth[inside]) > 0.95


def test_cloud_and_image_agree_on_the_classes(home) -> None:
    pipeline = Pipeline(FakeBackbone(), [home])
    cloud, truth = held_out()
    points = pipeline.process_cloud(cloud).label
    image, of_image = photograph()
    mask = pipeline.process_image(image).mask
    for k in (2, 3):
        assert np.bincount(points[truth == k]).argmax() == np.bincount(mask[of_image == k]).argmax()


def test_what_was_never_seen_has_no_class(home) -> None:
    cloud, _ = held_out()
    xyz = np.stack(np.meshgrid(*[np.arange(0, 0.6, 0.02)] * 2, [0.5], indexing="ij"), -1).reshape(-1, 3).astype(np.float32) - (0.3, 0.3, 1)
    green = np.tile(np.array([[20, 240, 20]], np.uint8), (len(xyz), 1))
    both = Cloud(np.concatenate([cloud.xyz, xyz]), np.concatenate([cloud.rgb, green]))
    label = Pipeline(FakeBackbone(), [home]).process_cloud(both).label
    assert np.mean(label[len(cloud) :] == 0) > np.mean(label[: len(cloud)] == 0)


def test_clouds_without_colour_and_empty_clouds_are_judged_too(home) -> None:
    pipeline = Pipeline(FakeBackbone(), [home])
    cloud, _ = held_out()
    assert pipeline.process_cloud(Cloud(cloud.xyz)).label.shape == (len(cloud),)
    assert not pipeline.process_cloud(Cloud(np.full((5, 3), np.nan, np.float32))).label.any()


def test_pack_keeps_what_it_says(home, tmp_path) -> None:
    assert home.classes == ("home class 1", "home class 2", "home class 3", "home class 4") and home.method == "pointdc"
    assert all(t.dtype == torch.float16 for n, t in home.tensors.items() if n.startswith("network.") and t.is_floating_point())
    assert sum(home.info["shares"]) == pytest.approx(1, abs=1e-4) and home.info["training"]["scenes"] == 4
    place = Place.from_pack(home, PointDCConfig())
    sheet = class_sheet(place.classes, class_shares(home), place.class_of, place.pictures)
    assert sheet.shape == (4 * SIDE, 6 * SIDE, 3) and sheet.std() > 20
    assert pack_geometry(home).voxel == 0.05
    home.save(tmp_path / "one.pack")
    Pack.load(tmp_path / "one.pack").save(tmp_path / "two.pack")
    assert (tmp_path / "one.pack").read_bytes() == (tmp_path / "two.pack").read_bytes()


def test_names_and_merging(home) -> None:
    cloud, _ = held_out()
    before = Pipeline(FakeBackbone(), [home]).process_cloud(cloud).label
    named = renamed(home, {3: "box", 4: "box", 1: "one"})
    assert named.classes == ("one", "home class 2", "box")
    after = Pipeline(FakeBackbone(), [named]).process_cloud(cloud).label
    assert np.array_equal(after, np.minimum(before, 3))
    assert (
        class_sheet(named.classes, class_shares(named), np.array([0, 1, 2, 2]), Place.from_pack(named, PointDCConfig()).pictures).shape[0]
        == 4 * SIDE
    )
    again = renamed(named, {3: "crate"})
    assert again.classes == ("one", "home class 2", "crate") and Place.from_pack(again, PointDCConfig()).class_of.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("names", "said"),
    [({5: "x"}, "5: no such class, expected 1 to 4"), ({1: " "}, "1: name"), (dict.fromkeys(range(1, 5), "all"), "at least two classes")],
)
def test_impossible_names_are_refused(home, names, said) -> None:
    with pytest.raises(InputError, match=said):
        renamed(home, names)


def test_targets_take_precedence_over_classes(home) -> None:
    class Target:
        labels, dense, config = ("object",), False, None

        def cloud(self, scene, known=()):
            from geoseg_ros.methods.base import Evidence

            count = len(scene.geometry.xyz)
            label = np.where(np.arange(count) < count // 3, 1, 0)
            return Evidence(np.ones(1), np.full(1, 0.04), np.ones(1, bool), label)

    pipeline = Pipeline(FakeBackbone(), [home])
    cloud, _ = held_out()
    alone = pipeline.process_cloud(cloud).label
    both = Pipeline(FakeBackbone(), [home])
    both._set_up(FakeBackbone(), {"pointdc": pipeline._methods["pointdc"], "other": Target()}, (*home.classes, "object"), pipeline.config)
    label = both.process_cloud(cloud).label
    assert (label == 5).sum() > len(cloud) / 5 and np.array_equal(label[label != 5], alone[label != 5])


def test_damaged_and_foreign_packs_are_refused(home) -> None:
    for tensors in (
        {k: v for k, v in home.tensors.items() if k != "centroids"},
        {**home.tensors, "class_of": torch.tensor([0, 0, 1, 9])},
        {**home.tensors, "mean": home.tensors["mean"][:-1]},
        {**home.tensors, "spread": -home.tensors["spread"]},
    ):
        with pytest.raises(InputError, match="damaged pack of the method pointdc"):
            PointDCMethod().check(replace(home, tensors=tensors))
    with pytest.raises(InputError, match="made by the method contrast, not pointdc"):
        PointDCMethod().check(replace(home, method="contrast"))
    with pytest.raises(InputError, match="made with backbone"):
        Pipeline(FakeBackbone(), [replace(home, backbone_hash="0" * 64)])


def test_learning_needs_scenes() -> None:
    with pytest.raises(InputError, match="geoseg discover"):
        PointDCMethod().learn(Material("home", clouds=[Cloud(np.zeros((5, 3), np.float32))]), Context(FakeBackbone(), settings=SMALL))


def test_spread_is_the_share_of_nearer_rows() -> None:
    spread = Spread.of(np.linspace(0, 1, 101), np.repeat([0, 2], [51, 50]), 3)
    assert spread.quantiles.shape == (3, LEVELS) and not spread.quantiles[1].any()
    share = spread.nearer(np.array([0.25, 0.6, 0.51, 1.0, 0.1]), np.array([0, 0, 2, 2, 1]))
    assert np.allclose(share, [0.5, 1, 0, 1, 1], atol=0.02)


def test_first_names_differ_between_packs() -> None:
    assert first_names("home", 2) == ("home class 1", "home class 2") and first_names("", 1) == ("class 1",)
    assert len(first_names(64 * "x", 254)[-1]) <= 64
