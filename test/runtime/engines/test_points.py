"""The exported encoder of clouds: the same features in ONNX Runtime, for any number of voxels; and TensorRT builds it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.nets.encoder_file import save_encoder
from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.runtime.engines import points
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.points import OnnxPointEncoder, export_encoder, open_point_features
from geoseg_ros.runtime.engines.trt import build_plan, load_tensorrt
from support.point_clouds import corner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An encoder of the usual size, and what describes its file."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")
    torch.manual_seed(0)
    encoder = PointEncoder(voxel=0.05)
    for seed in range(3):
        encoder(*encoder.collate([encoder.prepare(corner(seed))]).inputs)
    spec = export_encoder(encoder, tmp_path_factory.mktemp("encoder") / "points.onnx")
    assert encoder.training, "it stays as it was"
    return encoder.eval(), spec


def test_onnxruntime_gives_the_features_of_torch(exported):
    encoder, spec = exported
    assert spec.onnx.stat().st_size < 12e6
    engine = OnnxPointEncoder(encoder, spec.onnx)
    rgb = np.random.default_rng(0).integers(0, 256, (60_000, 3), dtype=np.uint8)
    many = [corner(5, 60_000), corner(6, 60_000)]
    for clouds in ([engine.prepare(many[0], rgb)], [engine.prepare(x) for x in many], [engine.prepare(np.zeros((1, 3), np.float32))]):
        inputs = engine.collate(clouds).inputs
        with torch.inference_mode():
            expected = encoder(*inputs)
        found = engine(*inputs)
        assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
        assert float((found.argmax(1) == expected.argmax(1)).float().mean()) >= 0.995


def test_the_same_weights_give_the_same_bytes(exported, tmp_path):
    encoder, spec = exported
    assert export_encoder(encoder, tmp_path / "again.onnx").onnx.read_bytes() == spec.onnx.read_bytes()


def test_features_of_clouds_by_the_engine_of_the_cache(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(points, "export_encoder", lambda encoder, path: shutil.copy(exported[1].onnx, path))
    save_encoder(tmp_path / "encoder.safetensors", exported[0], "hash", torch.zeros(128), {})
    lines = []
    options = EngineOptions("onnxruntime", cache=tmp_path / "engines", log=lines.append)
    engine, torch_ = open_point_features(tmp_path / "encoder.safetensors", options), open_point_features(tmp_path / "encoder.safetensors")
    assert (engine.backend, torch_.backend, engine.hash, lines) == ("onnxruntime-cpu", "torch-cpu", torch_.hash, [])
    found, expected = (way.features(corner(5, 5000), None) for way in (engine, torch_))
    assert np.abs(found - expected).max() < 1e-2 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    written = sorted((tmp_path / "engines").rglob("*.onnx"))
    assert open_point_features(tmp_path / "encoder.safetensors", replace(options, backend="auto")).backend == "onnxruntime-cpu"
    assert written == sorted((tmp_path / "engines").rglob("*.onnx")) and len(written) == 1


def test_a_file_of_another_network_is_refused(exported, tmp_path):
    encoder, _ = exported
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(InputError, match="not a readable ONNX file"):
        OnnxPointEncoder(encoder, tmp_path / "text.onnx")


def test_tensorrt_for_rtx_builds_it(exported):
    try:
        load_tensorrt("tensorrt_rtx")
    except InputError as error:
        pytest.skip(str(error))
    plan, notes = build_plan(exported[1], "tensorrt_rtx", (86, 89, 120))
    assert len(plan) > 1_000_000 and 0 < notes["activation_bytes"] < 300e6
