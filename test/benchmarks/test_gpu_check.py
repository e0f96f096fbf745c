"""``make gpu-check``: says so where there is no GPU; its parts run on the processor."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.baselines.extractor_training import PretrainConfig
from benchmarks.baselines.geofree import SIZES, NetworkSize
from benchmarks.baselines.shapes import ShapesConfig
from benchmarks.gpu import backends, check, measure
from benchmarks.gpu.backends import Backend, backends_report, open_backends, parity_row, plain_ways
from benchmarks.gpu.check import Difference, difference, main
from benchmarks.gpu.measure import Peaks, Work, count_work, latency, measure_peaks
from benchmarks.gpu.parity import LEAST, LEAST_HALF
from geoseg_ros.backbones.registry import open_backbone

pytestmark = pytest.mark.slow

TINY = NetworkSize(64, 12, 16, PretrainConfig(epochs=1, subsets=(32,), neighbours=5), ShapesConfig(1, 1, 64))
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
    monkeypatch.setattr(check, "BATCHES", (1, 2))
    monkeypatch.setattr(backends, "backends_report", lambda device, packs, runs: ([f"backends of {' '.join(packs)}"], []))
    out = tmp_path / "gpu.md"
    options = ["--device", "cpu", "--size", "small", "--points", "2000", "--runs", "1", "--budget", "3", "--items", "2"]
    assert main([*options, "--out", str(out)]) == 0
    text = out.read_text()
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert text.startswith("## processor (") and "DIFFERS" not in text and text.count(" 0.00e+00 | same |") == 5
    assert "backends of geoseg_tiny/stool geoseg_tiny/lamp" in text
    for part in ("tokens of 2 x 640x480, fp32", "picture 640x480 through the pipeline", "cloud of 2000 points", "GeoFree, paper preset"):
        assert part in text
    assert "{'1': 1, '2': 1, '3': 1}" in text and "Do images steer the 3D masks?" in text


def test_parts_can_be_chosen(monkeypatch, capsys) -> None:
    monkeypatch.setattr(backends, "backends_report", lambda device, packs, runs: (["### Backends", str(runs)], []))
    assert main(["--device", "cpu", "--parts", "backends", "--runs", "7"]) == 0
    text = capsys.readouterr().out
    assert "### Backends\n7" in text and text.count("###") == 1
    with pytest.raises(SystemExit):
        main(["--parts", "everything"])


def test_a_device_that_differs_fails_after_the_report(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(check, "tokens_parity", lambda device: Difference("tokens", math.nan))
    monkeypatch.setattr(check, "network_parity", lambda device, size: [Difference("mask", 0.0)])
    monkeypatch.setattr(backends, "backends_report", lambda device, packs, runs: ([], ["tensorrt"]))
    monkeypatch.setattr(check, "image_rows", lambda device, runs: [])
    monkeypatch.setattr(check, "cloud_rows", lambda device, points, runs: [])
    monkeypatch.setattr(check, "training", lambda device, options: ({}, []))
    out = tmp_path / "gpu.md"
    assert main(["--device", "cpu", "--out", str(out)]) == 1
    assert "| tokens | nan | DIFFERS" in out.read_text() and "tokens, masks or labels of tensorrt differ" in capsys.readouterr().err


def test_difference_is_relative_to_the_largest_value() -> None:
    found = difference("x", torch.tensor([1.0, -4.2]), torch.tensor([1.1, -4.0]))
    assert found.value == pytest.approx(0.05) and not found.passes


def test_latency_counts_after_the_warm_up() -> None:
    calls: list[int] = []
    row = latency("work", lambda: calls.append(1), CPU, runs=4)
    assert len(calls) == 4 + measure.WARM_UP and row[0] == "work" and row[4] == "-" and float(row[1]) <= float(row[3])


@pytest.fixture(scope="module")
def tiny():
    return open_backbone("geoseg_tiny")


def test_backends_of_the_processor_are_compared_and_timed(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backends, "SHAPES", ((1, 128, 128), (2, 64, 64)))
    lines, wrong = backends_report(CPU, ("stool",), runs=1)
    text = "\n".join(lines)
    assert not wrong and "| torch-cpu | fp32 | 1.0000 | 1.0000 | same |" in text
    for row in ("| PyTorch eager fp32 | 1 x 128x128 |", "| torch-cpu fp32 | 2 x 64x64 |", "| torch-cpu fp32, with copies | 2 x 64x64 |"):
        assert row in text
    # a backend that is not there has a line that says why, and no times
    ready = "| onnxruntime-cpu | fp32 | 1.0000 | 1.0000 | same |" in text
    assert ready == ("| onnxruntime-cpu fp32, with copies |" in text)
    assert ready or "onnxruntime-cpu | - | - | - |" in text


def test_a_backend_with_other_answers_is_named(tiny, monkeypatch) -> None:
    class Shuffled:
        backend, precision = "tensorrt", "fp16"

        def __init__(self, session):
            self.inner, self.spec = session, replace(session.spec, precision="fp16")

        def run(self, images):
            tokens, whole = self.inner.run(images)
            return tokens.flip(-1), whole.flip(-1)

        def close(self):
            pass

    (first,) = [b for b in open_backends(tiny, CPU) if b.name == "torch-cpu"]
    monkeypatch.setattr(backends, "open_backends", lambda inner, device: iter([Backend("tensorrt", tiny, Shuffled(first.session))]))
    monkeypatch.setattr(backends, "timing_rows", lambda *_: [])
    lines, wrong = backends_report(CPU, ("stool",), runs=1)
    assert wrong == ["tensorrt"] and any(f"DIFFERS (expected {LEAST_HALF}, {LEAST})" in line for line in lines)
    assert parity_row(Backend("tensorrt", tiny, None, "not installed"), ("stool",)) == (
        ["tensorrt", "-", "-", "-", "not installed"],
        None,
    )


def test_ways_of_a_gpu_are_whole_half_and_compiled(tiny, monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiled.append(options) or module)
    ways = list(plain_ways(tiny, CPU, True))
    assert [(name, precision) for name, precision, _ in ways] == [("eager", "fp32"), ("eager", "fp16"), ("compiled", "fp16")]
    assert compiled == [{"fullgraph": True, "dynamic": False, "mode": "max-autotune-no-cudagraphs"}]
    images = torch.rand(1, 64, 64, 3) * 255
    with torch.inference_mode():
        whole, half = (module(images)[0] for _, _, module in ways[:2])
    assert half.dtype == torch.float32 and 0 < float((whole - half).abs().max()) < 0.02 * float(whole.abs().max())
    assert tiny.module.precision == torch.float32  # the backbone itself is as it was


def test_roofline_is_the_larger_of_arithmetic_and_memory() -> None:
    peaks = Peaks({"fp32": 1e9, "fp16": 4e9}, 1e9)
    assert Work(4_000_000, 1000, 500).least_seconds(peaks, "fp32") == pytest.approx(4e-3)
    assert Work(4_000_000, 1000, 500).least_seconds(peaks, "fp16") == pytest.approx(1e-3)
    assert Work(1000, 10_000_000, 5_000_000).least_seconds(peaks, "fp32") == pytest.approx(60e-3)
    assert Work(1000, 10_000_000, 5_000_000).least_seconds(peaks, "fp16") == pytest.approx(40e-3)


def test_work_is_counted_by_hand() -> None:
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(6, 5, bias=False)

        def forward(self, x):
            return self.linear(x), x

    work = count_work(Two(), torch.zeros(4, 6))
    assert (work.flops, work.weights, work.values) == (2 * 4 * 6 * 5, 30, 24 + 20 + 24)
    peaks = measure_peaks(CPU, ("fp32",))
    assert 1e8 < peaks.flops["fp32"] < 1e14 and 1e7 < peaks.bandwidth < 1e13
