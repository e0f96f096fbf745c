"""The table: its methods on rooms whose tokens tell the classes, its report, and the cache of lifted rooms."""

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.run import Request
from geoseg_ros.evaluate.semantics import lifting
from geoseg_ros.evaluate.semantics.baselines import LiftedRoom, baselines, superpoint_descriptors, token_features
from geoseg_ros.evaluate.semantics.published import PUBLISHED, published_markdown
from geoseg_ros.evaluate.semantics.rooms import SemanticRoom, SemanticRooms
from geoseg_ros.evaluate.semantics.table import about, choose, markdown, measure, summarise
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.posed_frames import FrameList
from geoseg_ros.projection.frame_lifting import LiftConfig
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.projection.virtual_frames import VirtualConfig
from support.frame_worlds import walk

CLASSES = ("a", "b", "c")


def room(seed: int, noise: float = 0.05) -> LiftedRoom:
    """300 voxels in 30 super-voxels of one class each; the token of a class is a fixed direction, and two points lie in a voxel."""
    rng = np.random.default_rng(seed)
    superpoint = np.repeat(np.arange(30), 10)
    label = (np.arange(30) % 3)[superpoint]
    directions = np.random.default_rng(99).normal(size=(3, 8))
    tokens = (directions[label] + rng.normal(0, noise, (300, 8))).astype(np.float16)
    views = np.ones(300, np.int32)
    views[::7] = 0
    tokens[views == 0] = 0
    normal = np.tile(np.float32([0, 0, 1]), (300, 1))
    rgb = rng.integers(0, 256, (300, 3), np.uint8)
    scene = LiftedScene(
        rng.normal(size=(300, 3)).astype(np.float32), rgb, normal, tokens, views, superpoint, np.repeat(np.arange(300), 2), 0.05,
        np.array([0.0, 0.0, 1.0]),
    )  # fmt: skip
    points = np.repeat(label, 2)
    return LiftedRoom(scene, points, lifting.voxel_labels(scene.inverse, points, 300))


@pytest.fixture(scope="module")
def rows():
    return measure([room(k) for k in range(3)], [room(7), room(8)], CLASSES, baselines(), (0, 1))


def test_tokens_that_tell_the_classes_are_clustered_right(rows):
    best = {row["method"]: row["miou"] for row in rows if row["seed"] == 0}
    for name, value in best.items():
        if "tokens" in name or "oracle" in name:
            assert value > 0.99, name
    assert best["k-means, colour and normals of voxels"] < 0.6  # the colours are random
    assert {row["seed"] for row in rows if "oracle" in row["method"]} == {0}


def test_more_clusters_than_classes_are_said(rows):
    found = measure([room(1)], [room(2)], CLASSES, choose(["k-means, tokens of voxels"]), (0,), clusters=6)
    assert found[0]["note"].startswith("6 clusters for 3 classes") and found[0]["miou_m2o"] > found[0]["miou"]


def test_the_report_has_every_method_and_the_published_rows(rows):
    rooms = [room(7)]
    result = {
        **{"title": "T", "data": "scannet", "backbone": "x", "supervision": "none", "command": "geoseg evaluate", "classes": list(CLASSES)},
        **{"rows": rows, "summary": summarise(rows), "about": about(rooms, rooms)},
    }
    text = markdown(result)
    assert all(text.count(f"| {method.name} |") == 2 for method in baselines())
    assert "25.74" in text and "must not be compared" in text and "±" in text
    assert published_markdown("rooms") == "" and all(len(row) == 6 for rows in PUBLISHED.values() for row in rows)


def test_unknown_methods_are_refused():
    with pytest.raises(InputError, match="--methods other: unknown"):
        choose(["other"])
    assert len(choose(["all"])) == len(choose([])) == 6


def test_voxels_without_a_token_take_that_of_their_super_voxel():
    given = room(3, noise=0.0).scene
    features = token_features(given)
    assert np.abs(features[0] - features[1]).max() < 1e-3 and not given.known[0] and given.known[1]
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3)
    assert superpoint_descriptors(given).shape == (30, 8 + 3 + 10)


class GreyBackbone:
    """Tokens that are the mean of their cell."""

    name, stride, dim, hash, supervision = "grey", 16, 1, "beef", "none"

    def tokens(self, images):
        import torch

        grey = torch.nn.functional.avg_pool2d(torch.from_numpy(images).float().mean(3)[:, None], 16).permute(0, 2, 3, 1)
        return grey, grey.mean((1, 2))


def test_lifted_rooms_are_kept_and_damaged_ones_made_again(tmp_path):
    made = []

    def read(k: int) -> SemanticRoom:
        made.append(k)
        xyz = np.random.default_rng(k).uniform(-0.5, 0.5, (200, 3)).astype(np.float32)
        xyz[:, 2] = 2
        return SemanticRoom(str(k), Cloud(xyz), np.zeros(200, np.int64), FrameList(walk(2)))

    rooms = SemanticRooms("rooms", "learn", CLASSES, ["0", "1"], read, "about")
    arguments = (rooms, GreyBackbone(), LiftConfig(sides=(64,)), VirtualConfig(), tmp_path / "kept")
    first, again = lifting.lifted_rooms(*arguments), lifting.lifted_rooms(*arguments)
    assert made == [0, 1] and all((a.scene.tokens == b.scene.tokens).all() for a, b in zip(first, again, strict=True))
    assert lifting.coverage(first) > 0.9
    next((tmp_path / "kept").glob("*.safetensors")).write_bytes(b"damage")
    lifting.lifted_rooms(*arguments)
    assert len(made) == 3


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request("semantics", root="."), "not used by --table semantics"),
        (Request("semantics", data="scannet"), "expected the folder"),
        (Request("semantics", data="scannet", root=".", cache="x"), "--cache: not used"),
        (Request("semantics", images="."), "--images: not used"),
    ],
)
def test_options_that_do_not_fit_are_refused(request_, text):
    with pytest.raises(InputError, match=text):
        request_.check()
    Request("semantics", cache="x").check()
