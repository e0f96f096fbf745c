"""The live node with the real pipeline and real pack files (and a backbone of colours): bad packs, and input with nothing in it."""

import dataclasses
import gc
import json
import os
import pickle
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy")

from safetensors import safe_open
from safetensors.torch import save_file
from sensor_msgs.msg import PointCloud2

from geoseg_ros.packs.pack import KEY
from geoseg_ros.ros.coseg_node import main
from geoseg_ros.runtime.opening import PipelineOpener
from support.fake_world import picture, table
from support.live_node import LiveNode
from support.ros_cases import cloud_message, image_message, large_cloud_message

pytestmark = pytest.mark.dds

BAD = {
    "truncated": "truncated.pack: not a pack, or a damaged one",
    "pickle": "pickle.pack: not a pack, or a damaged one",
    "future": "future.pack: pack format 99 is newer than this version of geoseg_ros reads",
    "changed": "changed.pack: damaged pack",
    "foreign": "pack 'foreign': made with backbone fake (000000000000), cannot be used with fake",
    "missing": "missing.pack': no such file",
}
CONFIG = {"pipeline.coseg.image_side": 256, "pipeline.coseg.image_margin": 0.1}


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture
def packs(tmp_path, fake_packs, fake_backbone, monkeypatch):
    """name -> path of good and bad packs; the backbone that they name is the one of colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("geoseg_ros.runtime.pipeline.open_backbone", lambda spec, device: fake_backbone)
    paths = {name: tmp_path / f"{name}.pack" for name in (*fake_packs, *BAD)}
    for name, pack in fake_packs.items():
        pack.save(paths[name])
    data = paths["red"].read_bytes()
    paths["truncated"].write_bytes(data[: len(data) // 2])
    paths["changed"].write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    paths["pickle"].write_bytes(pickle.dumps(_Bomb()))
    dataclasses.replace(fake_packs["red"], name="foreign", backbone_hash="0" * 64).save(paths["foreign"])
    with safe_open(paths["red"], "pt") as file:
        manifest = {**json.loads(file.metadata()[KEY]), "format": 99}
        save_file({key: file.get_tensor(key) for key in file.keys()}, paths["future"], {KEY: json.dumps(manifest)})
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def live(packs):
    node = LiveNode(PipelineOpener(), packs=[packs["red"], packs["blue"]], **CONFIG)
    yield node
    node.close()


def answer(node, output, name, message):
    """Send, and return the labels of the answer in the order of points or pixels."""
    node.received[output].clear()
    node.send(name, message)
    node.wait(lambda: node.received[output], 30)
    data = node.received[output][0].data
    return np.frombuffer(data, np.uint8) if output == "mask" else np.frombuffer(data, np.uint32).reshape(-1, 7)[:, 4]


def assert_finds_red(node):
    cloud, truth = table(70, ("red", "green"))
    label = answer(node, "points_labeled", "points", large_cloud_message(cloud.xyz, cloud.rgb))
    assert np.count_nonzero((label == 1) & (truth == 1)) > 0.8 * np.count_nonzero((label == 1) | (truth == 1))
    image, truth = picture(70, ("red", "green"))
    mask = answer(node, "mask", "image", image_message(image, "rgb8")).reshape(truth.shape)
    assert np.count_nonzero((mask == 1) & truth) > 0.6 * np.count_nonzero((mask == 1) | truth)


def test_bad_packs_are_refused_while_it_works(live, packs):
    good = [packs["red"], packs["blue"]]
    assert_finds_red(live)
    for name, line in BAD.items():
        live.lines.clear()
        taken, reason = live.set_one("packs", [packs[name]])
        if taken:  # its backbone is only known when it is opened
            live.wait(lambda: live.lines)
            (reason,) = live.lines
            assert name == "foreign" and reason.endswith("; the old ones stay")
        assert line in reason and "\n" not in reason, reason
        assert live.node.get_parameter("packs").value == good
    live.lines.clear()
    for name in set(BAD) - {"foreign"}:
        assert not live.set_one("packs", [*good, packs[name]])[0]
    assert live.set_one("packs", [*good, packs["foreign"]]) == (False, f"packs: {BAD['foreign']} (fa4efa4efa4e)")
    assert_finds_red(live)
    assert live.lines == [] and not os.path.exists("executed")


@pytest.mark.parametrize("name", BAD)
def test_bad_packs_end_a_node_that_comes_up_by_itself(name, packs, capfd):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main(["--ros-args", "-p", f"packs:=['{packs[name]}']"]) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        gc.collect()  # the node, or it would take the log of the next one away with it
    told = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line or "[FATAL]" in line or "Traceback" in line]
    assert len(told) == 1 and BAD[name] in told[0] and not os.path.exists("executed")


def test_input_with_nothing_in_it_is_answered(live):
    nan = float("nan")
    clouds = {
        "empty": PointCloud2(),
        "no points": cloud_message({"x": [], "y": [], "z": []}),
        "all NaN": cloud_message({"x": [nan] * 50, "y": [nan] * 50, "z": [nan] * 50}),
        "one point": cloud_message({"x": [1.0], "y": [1.0], "z": [1.0]}),
        "one place": cloud_message({"x": [1.0] * 500, "y": [1.0] * 500, "z": [1.0] * 500}),
        "far away": cloud_message({"x": [1e30, -1e30] * 50, "y": [1e30] * 100, "z": [-1e30] * 100}),
        "organised, a row without points": cloud_message({"x": [nan] * 6, "y": [0.0] * 6, "z": [1.0] * 6}, shape=(2, 3), row_padding=5),
    }
    for name, message in clouds.items():
        label = answer(live, "points_labeled", "points", message)
        assert label.tolist() == [0] * (message.width * message.height), name
    for shape in ((1, 1), (1, 500), (500, 1)):
        assert answer(live, "mask", "image", image_message(np.zeros((*shape, 3), np.uint8), "rgb8")).size == shape[0] * shape[1]
    assert_finds_red(live)
    assert live.lines == [] and live.counts("cloud").rejected == live.counts("image").rejected == 0


def test_thresholds_change_while_it_works(live):
    assert_finds_red(live)
    cloud = table(70, ("red", "green"))[0]
    message = large_cloud_message(cloud.xyz, cloud.rgb)
    assert live.set_one("pipeline.coseg.p_max", 0.0) == (True, "")
    assert not answer(live, "points_labeled", "points", message).any()
    assert live.set_one("pipeline.coseg.p_max", 1.5)[0] is False and live.node.parameters.pipeline.coseg.p_max == 0.0
    assert "read-only" in live.set_one("pipeline.coseg.neighbours", 5)[1]
    assert live.set_one("pipeline.coseg.p_max", 0.05) == (True, "")
    assert_finds_red(live)
    assert live.set_one("pipeline.coseg.image_margin", 1.0) == (True, "")
    assert not answer(live, "mask", "image", image_message(picture(70, ("red", "green"))[0], "rgb8")).any()


def test_five_million_points_through_the_real_pipeline(live):
    cloud, truth = table(70, ("red", "green"))
    rows = np.resize(np.arange(len(cloud)), 5_000_000)  # each place 890 times
    label = answer(live, "points_labeled", "points", large_cloud_message(cloud.xyz[rows], cloud.rgb[rows]))
    assert np.count_nonzero((label == 1) & (truth[rows] == 1)) > 0.8 * np.count_nonzero((label == 1) | (truth[rows] == 1))
    assert live.lines == []
