"""A recording through the node, the recorder and the player as processes, with a quick pipeline in the node."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.folders import read_image, write_image
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.simulation.truth import Truth
from support.paths import ROOT
from support.pcd_files import write_pcd

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("geoseg_ros.msg", reason="needs the messages of this package")

from geoseg_ros.evaluate.demo_run import summarise  # noqa: E402
from geoseg_ros.ros.live_run import LiveRun, run_live  # noqa: E402

pytestmark = pytest.mark.dds

FAKE_NODE = str(ROOT / "test/support/fake_pipeline.py")  # label 1 "red": red pixels; label 2 "high": z > 1
DOMAIN = int(os.environ.get("ROS_DOMAIN_ID", "51"))
START = 10**18


def write_bag(path: Path, clouds: int = 12, images: int = 20) -> Truth:
    """Clouds at 10 Hz of which every other one has high points, images at 16 Hz that are half red; and the truth, in another order."""
    rng = np.random.default_rng(0)
    messages, labels = [], []
    for i in range(clouds):
        xyz = rng.random((3000, 3), np.float32) + np.array([0, 0, 0.5 * (i % 2)], np.float32)
        messages.append((START + i * 100_000_000, Cloud(xyz)))
        labels.append(np.where(xyz[:, 2] > 1, 1, 0).astype(np.uint8))
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = 255
    messages += [(START + i * 62_500_000, image) for i in range(images)]
    with RecordingWriter(path) as writer:
        for stamp, item in sorted(messages, key=lambda m: m[0]):
            if isinstance(item, Cloud):
                writer.write_cloud("/lidar", stamp, "lidar", item)
            else:
                writer.write_image("/camera", stamp, "camera", item)
    return Truth(
        concepts=np.array(["high", "red"]),
        cloud_stamps=START + np.arange(clouds) * 100_000_000,
        cloud_offsets=np.arange(clouds + 1) * 3000,
        cloud_labels=np.concatenate(labels),
        cloud_instances=np.zeros(3000 * clouds, np.uint16),
        cloud_poses=np.tile(np.eye(4, dtype=np.float32), (clouds, 1, 1)),
        image_stamps=START + np.arange(images) * 62_500_000,
        image_index=np.zeros(images, np.int32),
        image_masks=(2 * (image[None, ..., 0] > 0)).astype(np.uint8),
    )


def make_run(tmp_path: Path, *node: str) -> LiveRun:
    out, logs = tmp_path / "OUT.mcap", tmp_path / "logs"
    return LiveRun(tmp_path / "bag", out, logs, (), "/lidar", "/camera", 1.0, 1.2, {}, DOMAIN, node or (FAKE_NODE,))


def left_over(tmp_path: Path) -> list[str]:
    """Command lines of living processes that name the test's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(tmp_path) in line and "pytest" not in line.split(str(tmp_path))[0]:
            found.append(line)
    return found


def test_everything_played_is_answered_recorded_and_judged(tmp_path: Path) -> None:
    truth = write_bag(tmp_path / "bag")
    live = run_live(make_run(tmp_path))
    assert live["player"]["published"] == {"/lidar": 12, "/camera": 20}
    streams = live["recorder"]["streams"]
    assert (streams["cloud"]["received"], streams["image"]["received"]) == (12, 20)
    for stream in streams.values():  # a busy machine may drop some, none may get lost
        assert stream["processed"] + stream["dropped"] == stream["received"] and stream["rejected"] == 0
    clouds, images = (streams[name]["processed"] for name in ("cloud", "image"))
    assert clouds > 6 and images > 10
    assert live["recorder"]["packs"] == {"red": "1", "high": "1"}
    with Recording(tmp_path / "OUT.mcap") as recording:
        topics = {name.rsplit("/", 1)[1]: topic.messages for name, topic in recording.topics().items()}
    assert topics.pop("status") > 2
    assert topics == {"points_labeled": clouds, "objects": clouds, "mask": images, "label_info": 1}
    assert left_over(tmp_path) == []

    report = summarise(tmp_path / "bag", tmp_path / "OUT.mcap", live, "/lidar", "/camera", tmp_path, truth)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["concepts"]["high"] == {"cloud_iou": 1.0, "image_j": None, "cloud_false": 0.0, "image_false": 0.0}
    assert report["concepts"]["red"] == {"cloud_iou": None, "image_j": 1.0, "cloud_false": 0.0, "image_false": None}
    assert report["judged"] == {"clouds": clouds, "images": images}
    assert report["streams"]["cloud"]["played"] == 12 and report["streams"]["cloud"]["latency_p95_ms"] > 0
    assert report["files"] == ["clouds.png", "images.png", "OUT.mcap"]
    assert all(read_image(tmp_path / name).std() > 5 for name in ("clouds.png", "images.png"))

    report = summarise(tmp_path / "bag", tmp_path / "OUT.mcap", live, "/lidar", "/camera", tmp_path)
    assert report["concepts"] == {} and report["files"] == ["clouds.png", "images.png", "OUT.mcap"]


def test_a_node_that_dies_is_told_with_its_last_line(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", 2, 2)
    with pytest.raises(GeosegError, match="the node ended with code 1: object.pack: truncated"):
        run_live(make_run(tmp_path, "-c", "import sys; sys.exit('starting\\n[FATAL] [17.5] [coseg_node]: object.pack: truncated')"))
    assert left_over(tmp_path) == [] and not (tmp_path / "OUT.mcap").exists()


def test_a_recording_that_breaks_off_ends_everything(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", 2, 2)
    (tmp_path / "bag" / "bag.mcap").write_bytes(b"broken")
    with pytest.raises(InputError, match="the player ended with code 2: .*bag: not a readable recording"):
        run_live(make_run(tmp_path))
    assert left_over(tmp_path) == []


def test_nothing_to_play_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(InputError, match="no cloud and no image"):
        run_live(LiveRun(**{**vars(run), "cloud_topic": None, "image_topic": None}))


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", 100, 2)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from geoseg_ros.ros.live_run import LiveRun, run_live; "
        "t = Path(sys.argv[2]); run_live(LiveRun(t / 'bag', t / 'OUT.mcap', t / 'logs', (), '/lidar', '/camera', 1.0, 10.0, {}, "
        f"{DOMAIN}, (sys.argv[3],)), lambda text: print(text, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(ROOT), str(tmp_path), FAKE_NODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        while "playing" not in (line := parent.stdout.readline()):
            assert line, "ended before it played"
        time.sleep(2)
        parent.send_signal(signal.SIGINT)
        parent.communicate(timeout=40)
    assert left_over(tmp_path) == []
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "the recorder has cleaned up or finished"


def test_demo_on_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_pcd(tmp_path / "clouds" / "a.pcd", Cloud(np.random.default_rng(0).random((500, 3), np.float32) * 2))
    (tmp_path / "clouds" / "b.pcd").write_text("junk")
    write_image(tmp_path / "images" / "a.png", np.full((24, 32, 3), (255, 0, 0), np.uint8))
    monkeypatch.setattr("geoseg_ros.ros.live_run.run_live", lambda live, log: run_live(replace(live, node=(FAKE_NODE,)), log))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command's own handler would outlive the test
    folders = ["--clouds", str(tmp_path / "clouds"), "--images", str(tmp_path / "images")]
    command = ["demo", *folders, "--packs", "any", "--seconds", "1", "--out", str(tmp_path / "out"), "--domain-id", str(DOMAIN)]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "b.pcd" in printed.err and "live node: playing" in printed.err
    assert str(tmp_path / "out") in printed.out.splitlines()[-1]
    streams = json.loads((tmp_path / "out" / "report.json").read_text())["streams"]
    assert {name: stream["received"] for name, stream in streams.items()} == {"cloud": 5, "image": 15}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "OUT.mcap",
        "report.json",
        "clouds.png",
        "images.png",
        "logs",
        "recording",
        ".geoseg",
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--clouds", "x"], "both --clouds and --images"),
        (["--seconds", "0"], "--seconds"),
        (["--rate", "0"], "--rate"),
        (["--clouds", "nowhere", "--images", "nowhere"], "nowhere"),
        (["--concepts", "unicorn", "--seconds", "1"], "unicorn"),
    ],
)
def test_demo_refuses_bad_input_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("geoseg demo: ") and text in last


def test_demo_trains_a_pack_per_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = []
    live_runs = []

    def train(options: argparse.Namespace) -> dict[str, list[str]]:
        given.append(options)
        return {"warnings": ["only 1 images"]}

    def stop(live: LiveRun, log: object) -> None:
        live_runs.append(live)
        raise GeosegError("far enough")

    monkeypatch.setattr("geoseg_ros.cli.train.run", train)
    monkeypatch.setattr("geoseg_ros.ros.live_run.run_live", stop)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    write_pcd(tmp_path / "clouds" / "a.pcd", Cloud(np.zeros((5, 3), np.float32)))
    write_image(tmp_path / "images" / "a.png", np.zeros((4, 4, 3), np.uint8))
    folders = [str(tmp_path / name) for name in ("clouds", "images", "elsewhere")]
    command = ["demo", "--clouds", folders[0], "--images", folders[1], "--without", folders[2], "--name", "mug", "--seconds", "1"]
    assert main([*command, "--backbone", "tiny", "--out", str(tmp_path / "out")]) == 1
    (options,) = given
    assert (options.name, options.clouds, options.images, options.without) == ("mug", *([f] for f in folders))
    assert options.out == str(tmp_path / "out" / "mug.pack") and options.backbone == "tiny"
    assert live_runs[0].packs == [options.out] and live_runs[0].parameters == {"backbone": "tiny"}
    assert "warning: mug: only 1 images" in capsys.readouterr().err
