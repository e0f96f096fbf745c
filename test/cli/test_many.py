"""Many recordings with one command: workers here and on Ray, what is complete, half-written or damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.evaluate import own_recording
from geoseg_ros.evaluate.demo_report import Scores
from geoseg_ros.io.recordings import RecordingWriter


@pytest.fixture
def many(recordings, tmp_path) -> list[str]:
    """Three recordings of results with their inputs; the second one is damaged."""
    root = recordings[0]
    for name in "abc":
        shutil.copytree(root, tmp_path / name)
    (tmp_path / "b" / "out.mcap").write_bytes(b"no recording")
    (tmp_path / "results.txt").write_text("".join(f"{tmp_path / name / 'out.mcap'}\n" for name in "abc"))
    inputs = [str(tmp_path / name / "in.mcap") for name in "abc"]
    return [f"@{tmp_path / 'results.txt'}", "--recording", *inputs, "--format", "coco", "--out", str(tmp_path / "made")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def check(root: Path, command: list[str], capsys) -> None:
    """The results are those of single runs; the damaged one is told, and done when it is whole again."""
    single = ["export", str(root / "a/out.mcap"), "--recording", str(root / "a/in.mcap"), "--format", "coco", "--out", str(root / "single")]
    assert main(single) == 0
    for name in "ac":
        assert contents(root / "made" / f"{name}_out" / "dataset") == contents(root / "single")
    summary = json.loads((root / "made" / "summary.json").read_text())
    assert list(summary["results"]) == ["a_out", "c_out"] and summary["skipped"] == [] and "b/out.mcap" in summary["failed"]["b_out"]
    shutil.copy(root / "a" / "out.mcap", root / "b" / "out.mcap")
    (root / "made" / "c_out" / "result.json").unlink()  # as if it had been cut off there
    (root / "made" / "c_out" / "half").write_text("half")
    capsys.readouterr()


def test_two_workers_resume_and_one_that_fails(many, tmp_path, capsys) -> None:
    command = ["export", *many, "--workers", "2"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "1 of 3 recordings failed (b_out), see log.txt" in said.err
    assert "b_out: failed: " in said.out and "2 of 3 recordings are complete, 0 of them from before" in said.out
    check(tmp_path, command, capsys)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "a_out: complete, skipped" in said and "b_out: done" in said and "c_out: done" in said and "3 of 3" in said
    assert not (tmp_path / "made" / "c_out" / "half").exists()
    assert main([*command, "--json"]) == 0 and json.loads(capsys.readouterr().out)["skipped"] == ["a_out", "b_out", "c_out"]
    os.utime(tmp_path / "a" / "in.mcap")  # another recording
    assert main([*command, "--json"]) == 0 and json.loads(capsys.readouterr().out)["skipped"] == ["b_out", "c_out"]


@pytest.mark.slow
def test_a_cluster_of_ray_that_the_test_starts(many, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    head = ray.init(num_cpus=2, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
    try:
        command = ["export", *many, "--ray", head.address_info["gcs_address"]]
        run = partial(subprocess.run, [sys.executable, "-m", "geoseg_ros.cli", *command], capture_output=True, text=True, timeout=150)
        first = run()
        assert first.returncode == 1 and "1 of 3 recordings failed (b_out), see log.txt" in first.stderr
        check(tmp_path, command, capsys)
        second = run()
        assert second.returncode == 0 and "2 of 2)" in second.stdout
    finally:
        ray.shutdown()
    assert main(["export", *many, "--ray", "127.0.0.1:1"]) == 2
    error = capsys.readouterr().err
    assert "--ray 127.0.0.1:1: no cluster replies" in error and error.count("\n") == 1


@pytest.mark.slow
def test_replay_gives_the_bytes_of_a_single_run(tmp_path, capsys) -> None:
    for name in "ab":
        with RecordingWriter(tmp_path / f"{name}.mcap") as writer:
            writer.write_image("/image", 5, "camera", np.random.default_rng(ord(name)).integers(0, 255, (64, 64, 3), np.uint8))
    bags = [str(tmp_path / f"{name}.mcap") for name in "ab"]
    assert main(["replay", *bags, "--packs", "stool", "--out", str(tmp_path / "many")]) == 0  # one worker, one after another
    assert main(["replay", bags[1], "--packs", "stool", "--out", str(tmp_path / "out.mcap")]) == 0
    assert (tmp_path / "many" / "b" / "out.mcap").read_bytes() == (tmp_path / "out.mcap").read_bytes()


def test_reports_of_several_recordings_are_added_up() -> None:
    first, second = Scores(("mug",)), Scores(("can", "mug"))
    first.add_cloud(np.array([1, 1, 0]), np.array([1, 0, 0]), (np.array([4, 4, 0]), np.array([1, 0, 0])))
    first.add_image(np.array([[1, 1]]), np.array([[1, 0]]))
    second.add_cloud(np.array([2, 1, 1]), np.array([2, 2, 0]), (np.array([1, 2, 2]), np.array([7, 7, 0])))
    together = own_recording.combined([own_recording.figures(s) | {"counts": json.loads(json.dumps(s.counts()))} for s in (first, second)])
    mug, can = together["targets"]["mug"], together["targets"]["can"]
    assert together["judged"] == {"clouds": 2, "images": 1}
    assert (mug["cloud_iou"], mug["clouds"], mug["image_j"]) == (2 / 4, 2, 0.5)
    assert (mug["object_precision"], mug["object_recall"]) == (0.0, 0.0)  # one shares exactly half of its points each time
    assert (can["cloud_iou"], can["cloud_false"], can["object_precision"], can["object_recall"]) == (0.0, 1.0, 0.0, None)


def test_what_cannot_be_is_one_line(recordings, tmp_path, capsys) -> None:
    root, theirs = recordings[0], tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    bag, out = str(root / "in.mcap"), ["--out", str(tmp_path / "made")]
    for command, line in (
        (["replay", bag, bag, "--packs", "a", *out], "two recordings get the folder in"),
        (["replay", bag, "--packs", "a", "--workers", "0", *out], "--workers: expected at least 1, got 0"),
        (["replay", bag, "--packs", "a", "--workers", "1", "--out", str(theirs)], "exists, expected a new folder"),
        (["replay", bag, "--workers", "1", *out], "no packs, expected some"),
        (["replay", "@nowhere.txt", "--packs", "a", *out], "@nowhere.txt: cannot be read"),
        (
            ["export", bag, str(root / "out.mcap"), "--recording", bag, "--format", "coco", *out],
            "expected one for each of 2 recordings, got 1",
        ),
        (["export", bag, "--recording", bag, bag, "--format", "coco", *out], "--recording: expected one for 1 of RESULTS, got 2"),
        (["evaluate", "--recording", bag, "--truth", bag, bag, "--packs", "a"], "--truth: expected one for 1 recording, got 2"),
        (["evaluate", "--recording", bag, bag, "--truth", bag, bag, "--packs", "a"], "--out: expected a folder"),
        (["evaluate", "--table", "world", "--workers", "2"], "--workers: not used by --table"),
    ):
        assert main(command) == 2, line
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]
