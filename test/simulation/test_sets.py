"""Sets and recordings of the procedural world: unpaired, aligned, repeatable, and not solved by trivial masks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.io.cloud_files import read_cloud
from geoseg_ros.io.recordings import Recording
from geoseg_ros.simulation.families import FURNITURE
from geoseg_ros.simulation.rooms import footprint_distance
from geoseg_ros.simulation.sets import PRESETS, SENSORS, check_unpaired, concept_set, make_set_config
from geoseg_ros.simulation.trajectory import WalkConfig, _check_other_seeds, record, walk_path, walk_poses, walk_scene
from geoseg_ros.simulation.truth import load_truth
from support.trivial_methods import trivial_scores


@pytest.fixture(scope="module")
def chairs():
    return concept_set("chair", 3, 3, seed=5, preset="tiny", n_without_clouds=1, n_without_images=2)


def test_truth_marks_the_family_and_nothing_else(chairs):
    wanted = FURNITURE.id("chair")
    for item in [*chairs.clouds, *chairs.without_clouds]:
        np.testing.assert_array_equal(item.truth, item.scan.family == wanted)
        assert item.truth.shape == (len(item.cloud),) and item.truth.dtype == np.uint8
    for item in [*chairs.images, *chairs.without_images]:
        np.testing.assert_array_equal(item.truth, item.family == wanted)
        assert item.truth.shape == item.rgb.shape[:2]
    assert all(item.truth.sum() >= PRESETS["tiny"].min_points for item in chairs.clouds)
    assert all(0.02 < item.truth.mean() < 0.6 for item in chairs.images)
    assert all("chair" in item.families for item in [*chairs.clouds, *chairs.images])
    for item in [*chairs.without_clouds, *chairs.without_images]:
        assert "chair" not in item.families and not item.truth.any()


@pytest.mark.parametrize("sensor", SENSORS)
def test_every_sensor_shows_the_family(sensor):
    made = concept_set("chair", 1, 0, seed=6, preset="tiny", sensor=sensor, n_without_clouds=1)
    item, without = made.clouds[0], made.without_clouds[0]
    np.testing.assert_array_equal(item.truth, item.scan.family == FURNITURE.id("chair"))
    assert item.truth.sum() >= PRESETS["tiny"].min_points and not without.truth.any()
    assert (item.cloud.rgb is None) == (sensor == "lidar") and (item.cloud.shape is None) == (sensor != "depth")


def test_clouds_and_images_share_no_seed(chairs):
    for kind in ("room", "instance", "texture"):
        clouds = set().union(*(i.ids[kind] for i in [*chairs.clouds, *chairs.without_clouds]))
        images = set().union(*(i.ids[kind] for i in [*chairs.images, *chairs.without_images]))
        assert clouds and images and not clouds & images


@pytest.mark.parametrize("kind", ["room", "instance", "texture"])
def test_a_shared_seed_is_refused(chairs, kind):
    stolen = dict(chairs.images[0].ids)
    stolen[kind] = stolen[kind] | {min(chairs.clouds[0].ids[kind])}
    with pytest.raises(GeosegError, match=kind):
        check_unpaired(chairs.clouds, [replace(chairs.images[0], ids=stolen)])


def test_sets_repeat_and_differ(chairs):
    again = concept_set("chair", 1, 1, seed=5, preset="tiny")
    np.testing.assert_array_equal(again.clouds[0].cloud.xyz, chairs.clouds[0].cloud.xyz)
    np.testing.assert_array_equal(again.images[0].rgb, chairs.images[0].rgb)
    for changed in (concept_set("chair", 1, 0, seed=6, preset="tiny"), concept_set("chair", 1, 0, seed=5, preset="tiny", stream="other")):
        assert not changed.clouds[0].ids["instance"] & chairs.clouds[0].ids["instance"]


def test_trivial_masks_score_low_on_standard():
    made = concept_set("chair", 4, 0, seed=0)
    clouds = trivial_scores([i.truth for i in made.clouds], [i.scan.family for i in made.clouds])
    assert 0 < clouds["all"] < 0.1 and clouds["all"] < clouds["not_room"] < 0.4
    known = trivial_scores([np.array([1, 0, 0, 0], np.uint8)], [np.array([3, 3, 0, 0], np.int16)])
    assert known == {"all": 0.25, "not_room": 0.5}


def test_settings_of_a_set():
    set_config = make_set_config("tiny", outliers=1.0)
    made = concept_set("lamp", 1, 1, config=set_config)
    assert not made.clouds[0].truth.any() and not made.images[0].truth.any()
    confounded = concept_set("lamp", 2, 2, config=make_set_config("tiny", confounder=1.0), sensor="depth")
    assert all("cabinet" in c.families for c in confounded.clouds) and not any("cabinet" in i.families for i in confounded.images)
    assert confounded.clouds[0].cloud.shape == (120, 160)


@pytest.mark.parametrize("wrong", [{"family": "unicorn"}, {"preset": "none"}, {"sensor": "radar"}])
def test_wrong_arguments(wrong):
    with pytest.raises(InputError, match=next(iter(wrong.values()))):
        concept_set(**{"family": "chair", "n_clouds": 0, "n_images": 0, **wrong})


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    config = WalkConfig(seed=1, seconds=9.0, cloud_rate=0.6, image_rate=1.0, pictures=6, concepts=("chair", "lamp"))
    folder = tmp_path_factory.mktemp("walk")
    ticks = []
    result = record(folder, config, lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (11, 11)
    return folder, config, result


def read(folder):
    """(topic, stamp, message) of every message, by the stamp in its header."""
    with Recording(folder / "recording") as recording:
        for raw in recording.messages():
            message = recording.types.deserialize_cdr(raw.data, raw.type)
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            assert stamp == raw.stamp_ns
            yield raw.topic, stamp, message


@pytest.mark.slow
def test_recording_and_truth_agree(walk):
    folder, config, result = walk
    truth = load_truth(folder / "truth.npz")
    assert list(truth.concepts) == ["chair", "lamp"]
    messages = list(read(folder))
    clouds = [(s, m) for topic, s, m in messages if topic == "/lidar/points"]
    images = [(s, m) for topic, s, m in messages if topic == "/camera/image_raw"]
    assert (len(clouds), len(images)) == (5, 9) == (result["clouds"], result["images"])
    assert [s for _, s, _ in messages] == sorted(s for _, s, _ in messages)
    scene = walk_scene(config)
    boxes = {o.instance: scene.solids.select(scene.solids.instance == o.instance).bounds() for o in scene.objects}
    for k, (stamp, message) in enumerate(clouds):
        label, instance = truth.cloud(stamp), truth.instances(stamp)
        assert message.header.frame_id == "lidar" and message.width * message.height == len(label) == len(instance)
        xyz = np.frombuffer(message.data, np.float32).reshape(len(label), -1)[:, :3]
        world = xyz @ truth.cloud_poses[k, :3, :3].T + truth.cloud_poses[k, :3, 3]
        for i, (low, high) in boxes.items():
            rows = instance == i
            assert ((world[rows] > low - 0.06) & (world[rows] < high + 0.06)).all()
            concept = config.concepts.index(scene.objects[i - 1].family) + 1 if scene.objects[i - 1].family in config.concepts else 0
            assert (label[rows] == concept).all()
        assert (label[instance == 0] == 0).all()
    for stamp, message in images:
        assert message.encoding == "rgb8" and truth.image(stamp).shape == (message.height, message.width) == (240, 320)
    np.testing.assert_array_equal(truth.image(images[0][0]), truth.image(images[6][0]))  # the pictures come round again
    assert (truth.image_masks == 1).any() and (truth.image_masks == 2).any()
    with pytest.raises(KeyError):
        truth.cloud(clouds[0][0] + 1)


def test_walk_has_stretches_without_the_concepts(walk):
    folder, _, _ = walk
    truth = load_truth(folder / "truth.npz")
    counts = np.array([np.bincount(truth.cloud(s), minlength=3)[1:] for s in truth.cloud_stamps])
    assert (counts.max(axis=0) >= 300).all()
    assert (counts[-1] == 0).all()


def test_walk_keeps_clear_of_furniture(walk):
    _, config, _ = walk
    scene = walk_scene(config)
    assert footprint_distance(walk_path(scene.zones), scene.objects).min() >= 0.4 - 1e-6
    stamps = 1_700_000_000 * 10**9 + np.arange(0, 60, 0.1) * 1e9
    x = np.array([p.position for p in walk_poses(scene, replace(config, seconds=60.0), stamps.astype(np.int64))])
    speed = np.linalg.norm(np.diff(x, axis=0), axis=1) / 0.1
    assert speed.max() < 1.01 and np.median(speed) > 0.3


def test_trivial_masks_score_low_on_walk(walk):
    folder, _, _ = walk
    truth = load_truth(folder / "truth.npz")
    for label in (1, 2):
        masks = [(truth.cloud(s) == label).astype(np.uint8) for s in truth.cloud_stamps]
        scores = trivial_scores(masks, [truth.instances(s).astype(np.int16) for s in truth.cloud_stamps])
        assert 0 < scores["all"] < 0.1 and scores["not_room"] < 0.3


@pytest.mark.slow
def test_recording_repeats_to_the_byte(walk, tmp_path):
    folder, config, _ = walk
    record(tmp_path, config)
    for name in ("recording/recording.mcap", "truth.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_shared_seed_of_walk_and_picture_is_refused(walk, chairs):
    scene = walk_scene(walk[1])
    with pytest.raises(GeosegError, match="instance"):
        _check_other_seeds(scene, [replace(chairs.images[0], ids={**chairs.images[0].ids, "instance": scene.ids["instance"]})])


@pytest.mark.slow
def test_command_writes_training_folders(tmp_path, capsys):
    counts = ["--training-clouds", "1", "--training-images", "2", "--training-without", "2"]
    assert main(["record-demo", "--training", str(tmp_path), "--concepts", "bin", "--sensor", "depth", *counts, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["images"] == 2
    found = sorted(str(p.relative_to(tmp_path / "bin")) for p in tmp_path.glob("bin/*/*.*"))
    assert found == ["clouds/000.npy", "images/000.png", "images/001.png", "without/000.png", "without/001.png", "without_clouds/000.npy"]
    cloud = read_cloud(tmp_path / "bin/clouds/000.npy")
    assert cloud.shape == (240, 320) and cloud.rgb is not None and cloud.rgb.max() > 60 and not cloud.valid().all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--out"),
        (["--out", "x", "--concepts", "unicorn"], "unicorn"),
        (["--out", "x", "--concepts", "chair", "chair"], "twice"),
        (["--out", "x", "--seconds", "-1"], "seconds"),
        (["--out", "x", "--seconds", "nan"], "seconds"),
        (["--out", "x", "--cloud-rate", "0"], "--cloud-rate"),
        (["--out", "x", "--seed", "-3"], "seed"),
        (["--training", "x", "--training-images", "-1"], "training-images"),
    ],
)
def test_command_refuses_bad_input_in_one_line(arguments, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["record-demo", *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 not a zip"])
def test_damaged_truth(tmp_path, content):
    path = tmp_path / "truth.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="truth"):
        load_truth(path)
