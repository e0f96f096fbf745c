"""`geoseg build-engine`: what it builds and where, what it checks, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geoseg_ros.backbones.tiny import GeosegTiny, Projection, TinyBackbone, TinyConfig, save_tiny
from geoseg_ros.cli import main as cli
from geoseg_ros.runtime.engines.backbone import with_engine
from geoseg_ros.runtime.engines.cache import ENTRY, EngineCache, EngineKey
from geoseg_ros.runtime.engines.options import EngineOptions
from support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """File of a small network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    projection = Projection(torch.zeros(4), torch.zeros(4, 16))
    save_tiny(path, GeosegTiny(TinyConfig((8, 8, 16, 32), (1, 1, 1), 16)), projection, {"supervision": "none"})
    return path


@pytest.fixture
def pack(tmp_path, network, fake_packs):
    """A pack that was made with it, as far as its manifest says."""
    spec = f"geoseg_tiny:{network}"
    path = tmp_path / "red.pack"
    dataclasses.replace(fake_packs["red"], backbone=spec, backbone_hash=TinyBackbone(network, spec).hash).save(path)
    return str(path)


@pytest.fixture
def geoseg(capsys, monkeypatch):
    """Runs the command; returns exit code, standard output and standard error."""
    monkeypatch.setitem(cli.COMMANDS, "build-engine", ("build_engine", "build the engine of a concept pack ahead of time"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["build-engine", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--pack", "PACK"], "--backend: expected one of tensorrt, tensorrt_rtx, onnxruntime"),
        (["--pack", "absent.pack", "--backend", "onnxruntime"], "'absent.pack': no such file"),
        (["--pack", "PACK", "--backend", "onnxruntime", "--compute-capability", "86"], "--compute-capability: only of tensorrt_rtx"),
        (["--pack", "PACK", "--backend", "tensorrt_rtx", "--compute-capability", "86", "87"], "75 80 86 89 120 121, not for 87"),
        (["--pack", "PACK", "--backend", "onnxruntime", "--side", "64"], "--side: expected 128 to 2048 pixels, got 64"),
        (["--pack", "PACK", "--backend", "onnxruntime", "--out", "PACK"], "expected a folder"),
        (["--check", "."], "expected an engine of the cache, a folder with entry.json"),
        (["--check", "nowhere/x"], "expected an engine of the cache"),
        (["--check", ".", "--backend", "tensorrt"], "--backend: not used with --check"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, line, pack, geoseg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = geoseg(*(pack if a == "PACK" else a for a in arguments))
    assert code == 2 and line in err and err.count("\n") == 1 and out == ""


def test_a_backend_that_is_not_installed_is_said_before_anything_is_exported(pack, geoseg, tmp_path, monkeypatch):
    for absent in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_libs", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, absent, None)
    for backend in ("tensorrt", "tensorrt_rtx"):
        code, _, err = geoseg("--pack", pack, "--backend", backend, "--out", tmp_path / "out")
        assert code == 2 and f"backend '{backend}'" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_exported_network_is_built_once_and_found_by_the_node(pack, network, geoseg, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    out = tmp_path / "engines"
    code, text, _ = geoseg("--pack", pack, "--backend", "onnxruntime", "--out", out, "--json")
    built = json.loads(text)
    assert code == 0 and built["backend"] == "onnx" and built["precision"] == "fp32" and built["files"] == [ENTRY, "image-fp32.onnx"]
    code, text, err = geoseg("--pack", pack, "--backend", "onnxruntime", "--out", out)
    lines = text.splitlines()
    assert code == 0 and err == "" and lines[0] == built["folder"] and "any processor" in lines[1] and built["built"] in lines[2], "found"
    engine = with_engine(
        TinyBackbone(network, f"geoseg_tiny:{network}"), EngineOptions("onnxruntime", True, "cpu", cache=out, log=pytest.fail)
    )
    assert engine.backend == "onnxruntime-cpu" and len(list(out.glob("image-*"))) == 1
    assert geoseg("--check", built["folder"])[0] == geoseg("--check", Path(built["folder"]) / "image-fp32.onnx")[0] == 0
    os.truncate(Path(built["folder"]) / "image-fp32.onnx", 100)
    code, _, err = geoseg("--check", built["folder"])
    assert code == 1 and "damaged" in err and err.count("\n") == 1
    assert json.loads(geoseg("--check", built["folder"], "--json")[2]).keys() == {"error"}


@pytest.mark.parametrize(
    ("version", "gpu", "line"),
    [
        ("1.7.1", None, ""),
        ("1.8.0", None, "made by tensorrt_rtx 1.7.1, here is 1.8.0"),
        ("1.7.1", ("RTX 4090", 89), ""),
        ("1.7.1", ("RTX 5090", 120), "made for compute capabilities 86, 89, here is 120"),
    ],
)
def test_check_says_whether_this_machine_would_use_it(version, gpu, line, geoseg, tmp_path, monkeypatch):
    def build(folder):
        (folder / "engine.plan").write_bytes(b"plan")
        return {"seconds": 2.0, "activation_bytes": 19_000_000}

    key = EngineKey("tensorrt_rtx", {"version": "1.7.1", "precision": "fp16"}, (86, 89))
    folder = EngineCache(tmp_path).get_or_build(key, build).folder
    monkeypatch.setattr("geoseg_ros.runtime.engines.trt.load_tensorrt", lambda flavour: type("trt", (), {"__version__": version}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr("geoseg_ros.runtime.engines.build.gpu_here", lambda: gpu)
    code, out, err = geoseg("--check", folder)
    assert "image for tensorrt_rtx 1.7.1, fp16" in out and "GPUs 86, 89" in out and "in 2.0 s, 19 MB of activations" in out
    assert (code, line in err) == ((1, True) if line else (0, True)) and err.count("\n") == bool(line)


def test_tensorrt_for_rtx_builds_here_without_a_gpu(pack, geoseg, tmp_path):
    if not any(_installed(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings")):
        pytest.skip("TensorRT for RTX is not installed")
    out = tmp_path / "engines"
    arguments = ["--pack", pack, "--backend", "tensorrt_rtx", "--compute-capability", "89", "86", "86", "--out", out]
    code, text, err = geoseg(*arguments, "--json")
    built = json.loads(text)
    assert code == 0 and built["capabilities"] == [86, 89] and built["precision"] == "fp32", err
    assert built["bytes"] == (Path(built["folder"]) / "engine.plan").stat().st_size > 10_000
    code, text, _ = geoseg(*arguments[:4], "--compute-capability", "89", "--out", out, "--json")
    assert json.loads(text)["folder"] == built["folder"], "an engine for more GPUs serves"
    assert geoseg("--check", built["folder"])[0] == 0


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def test_nothing_is_told_to_the_makers_of_onnxruntime(tmp_path):
    """It would leave a device id in the user's cache."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    code = "from geoseg_ros.runtime.engines.sessions import onnxruntime_for; onnxruntime_for('cpu')"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert not [p for p in tmp_path.rglob("*") if "onnxruntime" in p.name]
