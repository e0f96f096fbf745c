"""``geoseg evaluate``: files, JSON, one-line errors."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from benchmarks.evaluate import main as benchmark
from geoseg_ros.cli.main import main
from geoseg_ros.evaluate.msrc import CLASSES
from geoseg_ros.evaluate.run import Request


@pytest.fixture
def quick(monkeypatch, fake_backbone, fake_bank):
    """The command with a backbone that sees colours only."""
    monkeypatch.setattr("geoseg_ros.backbones.registry.open_backbone", lambda spec, device="cpu": fake_backbone)
    monkeypatch.setattr("geoseg_ros.simulation.bank.open_bank", lambda backbone, progress=None: fake_bank)


@pytest.fixture
def msrc(tmp_path):
    """Twelve pictures with a white cow on the left quarter, four without."""
    root = tmp_path / "msrc"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for k in range(16):
        rgb, label = np.full((64, 96, 3), 90, np.uint8), np.full((64, 96), CLASSES.index("grass"), np.uint8)
        if k < 12:
            rgb[:, :24], label[:, :24] = 255, CLASSES.index("cow")
        cv2.imwrite(str(root / "images" / f"{k}.jpg"), rgb)
        cv2.imwrite(str(root / "labels" / f"{k}.png"), label)
    return root


ARGUMENTS = ["--table", "msrc", "--split", "development", "--backbone", "onnx:/secret/folder/net.onnx?threads=1"]


def test_msrc_table(quick, msrc, tmp_path, capsys) -> None:
    out = tmp_path / "table.md"
    methods = ["--methods", "all foreground", "token 2-means", "--protocol", "both", "--seeds", "0", "1"]
    assert benchmark([*ARGUMENTS, "--root", str(msrc), "--out", str(out), *methods, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads(out.with_suffix(".json").read_text())
    assert printed == written and "NaN" not in out.with_suffix(".json").read_text()
    row = next(r for r in written["rows"] if r["method"] == "all foreground" and r["given"].endswith("pack)"))
    assert row["iou"] == pytest.approx(0.25) and row["items"] == 6 and row["absent"] == 2 and row["false_found"] == 1.0
    assert row["backbone"] is None and row["seed"] is None and row["command"] == written["command"]
    seen = [r for r in written["rows"] if r["method"] == "token 2-means"]
    assert {r["seed"] for r in seen} == {0, 1} and {r["protocol"] for r in seen} == {"robot", "paper"}
    assert all(r["backbone"] == "onnx:net.onnx" and r["supervision"] == "none" for r in seen)
    text = out.read_text()
    assert "/secret" not in text and str(msrc) not in text and "/secret" not in out.with_suffix(".json").read_text()
    assert "--methods 'all foreground' 'token 2-means'" in text and "--root DIR" in text
    paper = next(r for r in written["summary"] if r["protocol"] == "paper" and r["method"] == "all foreground")
    assert (paper["items"], paper["absent"]) == (12, 0)  # the largest set of the class, what does not show it left out


def test_world_table(quick, tmp_path, capsys) -> None:
    arguments = ["--table", "world", "--preset", "tiny", "--families", "stool", "lamp", "--items", "2", "--seeds", "1", "2"]
    assert main(["evaluate", *arguments, "--methods", "minus planes", "largest proposal", "best proposals"]) == 0
    text = capsys.readouterr().out
    assert "# Evaluation: procedural world" in text and "## rooms, tiny, lidar: clouds, protocol `robot`" in text
    assert "Best trivial prediction: " in text
    assert "--families stool lamp --sensor lidar --items 2" in text


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("furniture", root="/secret", cache="/rooms", items=4), "--root DIR --split report --sensor depth --items 4"),
        (Request("furniture", families=("chair", "bed"), sensor="lidar"), "--root DIR --split report --families chair bed --sensor lidar"),
        (Request("crowded", split="development", items=2), "--root DIR --split development --items 2"),
        (Request("world", families=("stool", "lamp")), "--preset standard --families stool lamp --sensor lidar"),
        (Request("msrc", items=2), "--root DIR --split report"),  # has no use for items
        (Request("s3dis-coseg", images="/secret", items=2), "--root DIR --images DIR --items 2"),
    ],
)
def test_words_repeat_the_measurement_without_paths(request_, words) -> None:
    assert " ".join(request_.words()) == f"--table {request_.table} {words}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "msrc"], "--root"),
        (["--table", "msrc", "--root", "/nowhere"], "/nowhere"),
        (["--table", "world", "--root", "."], "--root"),
        (["--table", "world", "--preset", "tiny"], "at least two"),
        (["--table", "world", "--families", "stool", "lamp", "--methods", "magic"], "magic"),
        (["--table", "world", "--families", "stool", "lamp", "--cache", "rooms"], "--cache"),
        (["--table", "tokens"], "--root"),
        (["--table", "furniture"], "--root"),
        (["--table", "furniture", "--root", ".", "--sensor", "scanner"], "depth, lidar"),
        (["--table", "crowded", "--root", ".", "--items", "1"], "at least 2"),
    ],
)
def test_bad_input_is_one_line(quick, arguments, message, capsys) -> None:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]
