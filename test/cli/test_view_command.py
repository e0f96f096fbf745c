"""``geoseg view`` from its options to its exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace
from geoseg_ros.runtime.replay import replay

COMMAND = [sys.executable, "-m", "geoseg_ros.cli", "view"]


class Halves:
    """Labels the right half of images, and the upper half of clouds."""

    labels = LabelSpace(("mug",))

    def process_image(self, image):
        return ImageResult((np.arange(image.shape[1]) >= image.shape[1] // 2)[None].repeat(len(image), axis=0).astype(np.uint8), [])

    def process_cloud(self, cloud):
        label = (cloud.xyz[:, 2] > 0.5).astype(np.uint32)
        return CloudResult(label, label, label.astype(np.float32), [], [])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A folder with in.mcap, and out.mcap as `geoseg replay` writes it."""
    folder = tmp_path_factory.mktemp("view")
    rng = np.random.default_rng(0)
    with RecordingWriter(folder / "in.mcap") as writer:
        for i in range(3):
            writer.write_cloud("/points", 10**9 * (i + 1), "lidar", Cloud(rng.random((2000, 3), np.float32)))
            writer.write_image("/image", 10**9 * (i + 1) + 7, "camera", np.full((30, 40, 3), 100, np.uint8))
    with Recording(folder / "in.mcap") as recording:
        replay(recording, Halves(), folder / "out.mcap")
    return folder


def call(*arguments: object) -> int:
    """Exit code of the command, also where argparse ends it."""
    try:
        return main(["view", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_of_a_recording(recordings: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"a{suffix}"
    assert call(recordings / "out.mcap", "--inputs", recordings / "in.mcap", "--screenshot", file, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"screenshot": str(file), "objects": [], "cloud": True, "image": True}
    assert list(tmp_path.iterdir()) == [file]
    picture = cv2.imread(str(file))[..., ::-1].astype(int)
    cloud, image = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
    red = LabelSpace(("mug",)).palette()[1]
    for half in (cloud, image):
        assert (np.abs(half - red).max(axis=2) < 120).mean() > 0.05
    # the image itself is below the label: grey on the left, and the right a mean of both
    assert np.abs(image[300, 150] - 100).max() < 8 and np.abs(image[300, 650] - (red.astype(int) + 100) / 2).max() < 12


def test_pictures_follow_the_time(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = recordings / "out.mcap"
    for name, at in (("early", ["--at", 0]), ("late", ["--at", 99]), ("end", [])):
        assert call(out, *at, "--screenshot", tmp_path / f"{name}.png") == 0
    assert "early.png: cloud with 0 objects\n" in capsys.readouterr().out
    early, late, end = ((tmp_path / f"{name}.png").read_bytes() for name in ("early", "late", "end"))
    assert late == end != early


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["absent.mcap", "--screenshot", "a.png"], 2, "absent.mcap: recording does not exist"),
        (["IN", "--screenshot", "a.png"], 2, "expected points_labeled, mask or overlay of a node, it has /image, /points"),
        (["OUT", "--screenshot", "a.gif"], 2, "--screenshot: expected a file with one of .png, .jpg, .jpeg, got a.gif"),
        (["OUT", "--screenshot", "folder.png"], 2, "--screenshot: folder.png is a folder"),
        (["OUT", "--save", "a.mcap"], 2, "--save: expected a file with .rrd, got a.mcap"),
        (["OUT", "--save", "a.rrd", "--screenshot", "a.png"], 2, "not allowed with argument"),
        (["OUT", "--at", "1", "--save", "a.rrd"], 2, "--at is for --screenshot"),
        (["OUT", "--at", "nan", "--screenshot", "a.png"], 2, "--at: expected 0 or more seconds, got nan"),
        (["OUT", "--seconds", "1"], 2, "--seconds is for live views"),
        (["OUT", "--image", "/points", "--inputs", "IN", "--screenshot", "a.png"], 2, "/points is sensor_msgs/msg/PointCloud2"),
        (["OUT", "--node", "/other", "--screenshot", "a.png"], 2, "no points_labeled, mask or overlay of /other"),
        (["--at", "1", "--screenshot", "a.png"], 2, "--at is for recordings"),
        (["--inputs", "IN"], 2, "--inputs is for recordings"),
        (["--seconds", "-1"], 2, "--seconds: expected 0 or more seconds, got -1.0"),
        (["OUT", "--screenshot", "file/a.png"], 2, "lies below a file"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments, code, expected
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("in the way")
    before = sorted(tmp_path.rglob("*"))
    places = {"IN": recordings / "in.mcap", "OUT": recordings / "out.mcap"}
    assert call(*(places.get(a, a) for a in arguments)) == code
    shown = capsys.readouterr()
    assert shown.out == "" and expected in shown.err and "Traceback" not in shown.err
    assert shown.err.splitlines()[-1].startswith("geoseg view: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_window_needs_rerun(recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert call(recordings / "out.mcap") == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_a_live_view_needs_ros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "geoseg_ros.ros.viewer", raising=False)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert call("--screenshot", tmp_path / "a.png") == 2
    assert "a live view needs ROS 2" in capsys.readouterr().err


def environment() -> dict[str, str]:
    """Of a process that looks for a node where there is none."""
    here = {"ROS_DOMAIN_ID": "87", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "127.0.0.1"}
    return {**os.environ, **here, "PYTHONUNBUFFERED": "1"}


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    command = [*COMMAND, "--node", "robot/seg", "--screenshot", str(tmp_path / "a.png"), "--seconds", "0.5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "geoseg view: no result of /robot/seg within 0.5 s\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_can_be_ended_while_it_waits(tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    command = [*COMMAND, "--screenshot", str(tmp_path / "a.png"), "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stderr is not None
    line = process.stderr.readline()  # told after five seconds of silence
    assert line == "no node /coseg_node yet\n"
    process.send_signal(number)
    start = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (1, "", "geoseg view: no result of /coseg_node\n")
    assert time.monotonic() - start < 5 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("rerun_bindings") is None, reason="rerun-sdk is not installed")
def test_rerun_of_a_recording(recordings: Path, tmp_path: Path) -> None:
    command = [*COMMAND, str(recordings / "out.mcap"), "--inputs", str(recordings / "in.mcap")]
    saved = subprocess.run([*command, "--save", str(tmp_path / "a.rrd"), "--json"], capture_output=True, text=True, timeout=60)
    assert saved.returncode == 0 and json.loads(saved.stdout) == {"save": str(tmp_path / "a.rrd"), "clouds": 3, "images": 3}
    assert (tmp_path / "a.rrd").stat().st_size > 10_000
    process = subprocess.Popen([*command, "--web"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stderr.readline().startswith("open http://127.0.0.1:")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "shown: 3 clouds, 3 images\n", "")
