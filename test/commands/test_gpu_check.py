"""``make gpu-check``: says so where there is no GPU; its parts run on the processor."""

from __future__ import annotations

import math

import pytest
import torch

from geoseg_ros.commands import gpu_check
from geoseg_ros.commands.gpu_check import Difference, difference, latency, main
from geoseg_ros.evaluate.baselines.geofree import SIZES, NetworkSize
from geoseg_ros.train.pretrain import PretrainConfig

TINY = NetworkSize(64, 12, 16, PretrainConfig(epochs=1, shapes=1, held_out=1, points=64, subsets=(32,), neighbours=5))
CPU = torch.device("cpu")


def test_no_gpu_is_no_failure(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "gpu.md"
    assert main(["--out", str(out)]) == 0
    assert capsys.readouterr().out == "no GPU\n" and not out.exists()
    assert main(["--device", "cuda"]) == 2 and "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--points", "5"], ["--budget", "1"], ["--items", "1"]])
def test_bad_input_is_one_line(arguments, capsys) -> None:
    assert main(["--device", "cpu", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_all_parts_run_on_the_processor(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setitem(SIZES, "small", TINY)
    monkeypatch.setattr(gpu_check, "BATCHES", (1, 2))
    out = tmp_path / "gpu.md"
    options = ["--device", "cpu", "--size", "small", "--points", "2000", "--runs", "1", "--budget", "3", "--items", "2"]
    assert main([*options, "--out", str(out)]) == 0
    text = out.read_text()
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert text.startswith("## processor (") and "DIFFERS" not in text and text.count(" 0.00e+00 | same |") == 5
    for part in ("tokens of 2 x 640x480, fp32", "picture 640x480 through the pipeline", "cloud of 2000 points", "GeoFree, paper preset"):
        assert part in text
    assert "{'1': 1, '2': 1, '3': 1}" in text and "Do images steer the 3D masks?" in text


def test_a_device_that_differs_fails_after_the_report(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(gpu_check, "tokens_parity", lambda device: Difference("tokens", math.nan))
    monkeypatch.setattr(gpu_check, "network_parity", lambda device, size: [Difference("mask", 0.0)])
    monkeypatch.setattr(gpu_check, "image_rows", lambda device, runs: [])
    monkeypatch.setattr(gpu_check, "cloud_rows", lambda device, points, runs: [])
    monkeypatch.setattr(gpu_check, "training", lambda device, options: ({}, []))
    out = tmp_path / "gpu.md"
    assert main(["--device", "cpu", "--out", str(out)]) == 1
    assert "| tokens | nan | DIFFERS" in out.read_text() and "tokens differ" in capsys.readouterr().err


def test_difference_is_relative_to_the_largest_value() -> None:
    found = difference("x", torch.tensor([1.0, -4.2]), torch.tensor([1.1, -4.0]))
    assert found.value == pytest.approx(0.05) and not found.passes


def test_latency_counts_after_the_warm_up() -> None:
    calls: list[int] = []
    row = latency("work", lambda: calls.append(1), CPU, runs=4)
    assert len(calls) == 4 + gpu_check.WARM_UP and row[0] == "work" and row[4] == "-" and float(row[1]) <= float(row[3])
