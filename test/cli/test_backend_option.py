"""Every command that opens an image backbone takes --backend, means it, and says what it used."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from geoseg_ros.cli import main as cli
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.recordings import RecordingWriter
from support.fake_world import picture


@pytest.fixture
def objects(tmp_path, fake_backbone, fake_packs, monkeypatch):
    """Arguments of each command, on a backbone of colours and a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for module in ("backbones.registry", "runtime.pipeline"):
        monkeypatch.setattr(f"geoseg_ros.{module}.open_backbone", lambda spec, device="cpu": fake_backbone)
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        cv2.imwrite(str(photos / f"{k}.png"), picture(k, ("red", "green"))[0])
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_cloud("/points", 10**18, "lidar", Cloud(np.zeros((50, 3), np.float32)))
    pack = tmp_path / "red.pack"
    fake_packs["red"].save(pack)
    return {
        "coseg": ["--images", photos, "--out", tmp_path / "result"],
        "train": ["--name", "red", "--images", photos, "--out", tmp_path / "new.pack"],
        "bank": ["--out", tmp_path / "bank.safetensors"],
        "replay": [tmp_path / "bag", "--packs", pack, "--out", tmp_path / "out.mcap"],
        "evaluate": ["--table", "world", "--families", "stool", "lamp"],
        "evaluate false alarms": ["--table", "false-alarms", "--packs", pack, "--items", "1"],
    }


def run(name, arguments, *more):
    return cli.main([name.split()[0], *map(str, arguments), *more])


def test_what_is_asked_for_and_not_here_is_refused_in_one_line(objects, tmp_path, capsys):
    for name, arguments in objects.items():
        assert run(name, arguments, "--backend", "tensorrt") == 2, name
        out, err = capsys.readouterr()
        assert err == f"geoseg {name.split()[0]}: backend tensorrt: backbone 'fake' cannot be exported\n" and out == "", name
    assert not (tmp_path / "result").exists() and not (tmp_path / "new.pack").exists() and not (tmp_path / "out.mcap").exists()


def test_an_unknown_one_is_refused_by_name(objects, capsys):
    for name, arguments in objects.items():
        with pytest.raises(SystemExit) as ended:
            run(name, arguments, "--backend", "tpu")
        assert ended.value.code == 2 and "--backend: invalid choice: 'tpu'" in capsys.readouterr().err, name


def test_the_result_says_what_ran_it(objects, capsys):
    assert run("replay", objects["replay"], "--json", "--backend", "torch") == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "torch-cpu"
    assert run("replay", objects["replay"]) == 0
    assert "backend: torch-cpu (the backbone cannot be exported)" in capsys.readouterr().out
