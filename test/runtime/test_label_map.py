"""The map of labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages.results import labelled_cloud
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.runtime.label_map import LabelMap, MapConfig, open_map
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.replay import replay
from support.fake_pipeline import FakePipeline

CONFIG = MapConfig(voxel=0.1)
SECOND = 10**9


def grid(low, high, z=0.0):
    """The centres of the voxels of a square, [n, 3]."""
    axis = np.arange(low, high) * 0.1 + 0.05
    x, y = np.meshgrid(axis, axis)
    return np.stack([x, y, np.full_like(x, z + 0.05)], axis=-1).reshape(-1, 3)


def fused(clouds, config=CONFIG, names=("mug", "can")):
    found = LabelMap(names, config)
    for k, (xyz, label) in enumerate(clouds):
        found.update(xyz, label, "odom", (k + 1) * SECOND, np.array([0.0, 0.0, 5.0]))
    return found


def test_labels_that_are_right_most_of_the_time_win() -> None:
    rng, xyz = np.random.default_rng(0), grid(0, 20)
    true = np.where(xyz[:, 0] < 1, 1, np.where(xyz[:, 1] < 1, 2, 0))
    clouds, single = [], []
    for _ in range(15):
        label = np.where(rng.random(len(xyz)) < 0.7, true, rng.integers(0, 3, len(xyz)))
        clouds.append((xyz + rng.uniform(-0.04, 0.04, xyz.shape), label))
        single.append((label == true).mean())
    label = fused(clouds).label_of(xyz)
    assert max(single) < 0.9 and (label == true).mean() > 0.95


def test_what_is_taken_away_leaves_the_map_where_it_is_seen_through() -> None:
    floor, top = grid(-10, 10), grid(-2, 2, 0.8)
    with_mug = np.concatenate([floor, top]), np.r_[np.zeros(len(floor), int), np.ones(len(top), int)]
    found = fused([with_mug] * 3)
    assert (found.label_of(top) == 1).all() and len(found) == len(top)
    many = np.concatenate([floor + d for d in np.random.default_rng(0).uniform(-0.04, 0.04, (10, 3))])
    for k in range(4, 12):
        found.update(many, np.zeros(len(many), int), "odom", k * SECOND, np.array([0.0, 0.0, 5.0]))
        if k == 4:
            assert (found.label_of(top) == 1).any()  # one look is not enough
    assert not found.label_of(top).any() and not len(found.labelled()[0])
    hidden = fused([with_mug] * 3)
    for k in range(4, 12):  # a wall before it
        hidden.update(grid(-20, 20, 2.0), np.zeros(1600, int), "odom", k * SECOND, np.array([0.0, 0.0, 5.0]))
    assert (hidden.label_of(top) == 1).all()


def test_evidence_fades_and_the_memory_is_bounded() -> None:
    xyz = grid(0, 10)
    fading = fused([(xyz, np.ones(100, int))], MapConfig(voxel=0.1, half_life=10.0))
    strong = fading.labelled()[2][0]
    fading.update(np.full((1, 3), -50.0), np.zeros(1, int), "odom", 11 * SECOND, np.zeros(3))
    odds = np.log(np.array([strong, fading.labelled()[2][0]]) / (1 - np.array([strong, fading.labelled()[2][0]])))
    assert odds[0] == pytest.approx(0.85, abs=1e-5) and odds[1] == pytest.approx(0.425, abs=1e-5)

    sure = np.arange(100) < 30
    small = fused([(xyz[sure], np.ones(30, int)), (xyz, np.ones(100, int))], MapConfig(voxel=0.1, max_voxels=40))
    assert len(small) == 40 and (small.label_of(xyz[sure]) == 1).all()


def test_points_that_have_no_voxel_and_another_frame() -> None:
    xyz = np.array([[0.05, 0.05, 0.05], [np.nan, 0, 0], [np.inf, 1, 1], [1e9, 0, 0], [-0.05, -0.05, -0.05]], np.float32)
    found = fused([(xyz, np.array([1, 1, 1, 1, 2]))])
    assert len(found) == 2 and found.label_of(xyz).tolist() == [1, 0, 0, 0, 2]
    centre, label, _ = found.labelled()
    np.testing.assert_allclose(centre[label == 2], [[-0.05, -0.05, -0.05]], atol=1e-6)
    found.update(np.zeros((0, 3), np.float32), np.zeros(0, int), "map", 2 * SECOND)
    assert len(found) == 0 and found.frame == "map"
    found.update(xyz, np.zeros(5, int), "map", 3 * SECOND)  # nothing is known, and nothing is labelled
    assert len(found) == 0 and not len(found.labelled()[0])
    nameless = fused([(xyz, np.zeros(5, int))] * 2, names=())
    assert len(nameless) == 0 and not nameless.label_of(xyz).any()


def test_names_keep_their_voxels() -> None:
    xyz = grid(0, 2)
    found = fused([(xyz, np.array([1, 2, 2, 1]))])
    found.rename(("can", "bowl"))
    assert found.label_of(xyz).tolist() == [0, 1, 1, 0]
    found.rename(())
    assert found.label_of(xyz).tolist() == [0] * 4


def test_saved_and_read_again(tmp_path) -> None:
    xyz = grid(-5, 5)
    found = fused([(xyz, np.arange(100) % 3)])
    found.save(tmp_path / "home.map")
    again = LabelMap.load(tmp_path / "home.map", CONFIG)
    assert (again.names, again.frame, again.stamp_ns) == (("mug", "can"), "odom", SECOND)
    np.testing.assert_array_equal(again.label_of(xyz), np.arange(100) % 3)
    again.save(tmp_path / "again.map")
    assert (tmp_path / "again.map").read_bytes() == (tmp_path / "home.map").read_bytes()
    again.save(tmp_path / "again.map")  # a map is replaced by a map
    lines = []
    assert open_map(MapConfig(), lines.append) is None
    begun = open_map(MapConfig(enabled=True, file=str(tmp_path / "none.map")), lines.append)
    assert begun is not None and len(begun) == 0 and "does not exist yet" in lines[0]
    read = open_map(MapConfig(enabled=True, file=str(tmp_path / "home.map")), lines.append)
    assert read is not None and len(read) == 67 - 1  # every third point has none


def test_files_that_are_no_maps_are_one_line(tmp_path) -> None:
    found = fused([(grid(0, 2), np.ones(4, int))])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a map"):
        found.save(tmp_path / "mine.txt")
    found.save(tmp_path / "home.map")
    good = (tmp_path / "home.map").read_bytes()
    about = {"format": 1, "names": ["mug"], "voxel": 0.1, "frame": "odom", "stamp_ns": 1}
    key, odds = np.array([3, 5]), np.ones((2, 1), np.float32)
    for change, tensors in (
        ({}, {"key": key[::-1].copy(), "odds": odds}),
        ({}, {"key": key, "odds": odds[:1]}),
        ({}, {"key": -key[::-1].copy(), "odds": odds}),
        ({}, {"key": key, "odds": np.full((2, 1), np.nan, np.float32)}),
        ({}, {"odds": odds}),
        ({"format": 2}, {"key": key, "odds": odds}),
        ({"names": 7}, {"key": key, "odds": odds}),
        ({"voxel": 0.2}, {"key": key, "odds": odds}),
    ):
        (tmp_path / "bad.map").write_bytes(save(tensors, {"geoseg_map": json.dumps({**about, **change})}))
        with pytest.raises(InputError, match="bad.map: "):
            LabelMap.load(tmp_path / "bad.map", CONFIG)
    for data in (b"", b"mine", good[: len(good) // 2], good[:-1]):
        (tmp_path / "bad.map").write_bytes(data)
        with pytest.raises(InputError, match=r"bad.map: not a map, or a damaged one"):
            LabelMap.load(tmp_path / "bad.map", CONFIG)
    with pytest.raises(InputError, match="not a map"):
        LabelMap.load(tmp_path, CONFIG)


def test_replay_publishes_the_map(tmp_path) -> None:
    rng = np.random.default_rng(0)
    with RecordingWriter(tmp_path / "in.mcap") as writer:
        for k in range(4):
            writer.write_cloud("/points", k * SECOND // 2 + SECOND, "odom", Cloud(rng.uniform(0, 2, (200, 3)).astype(np.float32)))
    with pytest.raises(InputError, match="map.enabled: needs target_frame"):
        NodeParameters(map=MapConfig(enabled=True))
    parameters = NodeParameters(target_frame="odom", map=MapConfig(enabled=True, voxel=0.5))
    with Recording(tmp_path / "in.mcap") as recording:
        replay(recording, FakePipeline(), tmp_path / "out.mcap", parameters)
    with Recording(tmp_path / "out.mcap") as recording:
        messages = [recording.decode(raw) for raw in recording.messages(["/coseg_node/map_labeled"])]
    assert len(messages) == 2  # once a second
    cloud, label = labelled_cloud(messages[-1])
    assert messages[-1].header.frame_id == "odom" and set(label) == {2}
    assert sorted(set(cloud.xyz[:, 2].tolist())) == [1.25, 1.75] and len(label) == 32


def test_clouds_of_two_sensors_whose_stamps_take_turns_fade_as_those_of_one() -> None:
    one, two = (LabelMap(("mug",), MapConfig(enabled=True, half_life=1.0)) for _ in range(2))
    xyz, label = np.ones((1, 3)), np.ones(1, np.uint32)
    nothing = np.zeros((0, 3)), np.zeros(0, np.uint32), "odom"
    for labels in (one, two):
        labels.update(xyz, label, "odom", 10 * 10**9)
    for i in range(1, 6):
        one.update(*nothing, (100 + i) * 10**8)
        two.update(*nothing, (100 + i) * 10**8)
        two.update(*nothing, (97 + i) * 10**8)
    assert one.stamp_ns == two.stamp_ns
    np.testing.assert_array_equal(one._odds, two._odds)
