"""A backbone on an engine: the same answers, the same name and hash; what does not fit or fails is not lost."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.tiny import GeosegTiny, Projection, TinyBackbone, TinyConfig, save_tiny
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines import choose
from geoseg_ros.runtime.engines.backbone import EngineBackbone, with_engine
from geoseg_ros.runtime.engines.choose import ImageSource
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.sessions import EngineError, OnnxRuntimeSession
from geoseg_ros.runtime.engines.spec import ImageShapes
from support.fake_engines import FakeSession, MeanBackbone, make_spec

pytestmark = pytest.mark.slow


def pictures(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small network of its own, opened from its file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "small.safetensors"
    network = GeosegTiny(TinyConfig((8, 8, 16, 32), (1, 1, 1), 16))
    save_tiny(path, network, Projection(torch.zeros(4), torch.zeros(4, 16)), {"supervision": "none"})
    return TinyBackbone(path, f"geoseg_tiny:{path}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny):
    """A cache that holds its ONNX file."""
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    folder = tmp_path_factory.mktemp("cache")
    ImageSource(tiny, EngineOptions(cache=folder)).exported("onnxruntime")
    return folder


def test_it_answers_as_the_backbone_inside_in_parts_that_fit():
    inner, session, told = MeanBackbone(), FakeSession("tensorrt"), []
    engine = EngineBackbone(inner, session, "because", log=told.append)
    assert (engine.name, engine.stride, engine.dim, engine.hash) == (inner.name, inner.stride, inner.dim, inner.hash)
    assert engine.supervision == inner.supervision and engine.backend == "tensorrt" and engine.trouble == ""
    for found, expected in zip(engine.tokens(pictures(9)), MeanBackbone().tokens(pictures(9)), strict=True):
        assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert [shape[0] for shape in session.runs] == [4, 4, 1] and inner.calls == [] and told == []
    for wrong in (pictures(1, 30), pictures(1).astype(np.float32)):
        with pytest.raises(ValueError, match="images"):
            engine.tokens(wrong)


def test_sizes_that_it_was_not_built_for_go_to_the_processor_and_are_told_once():
    inner, session, told = MeanBackbone(), FakeSession("tensorrt"), []
    engine = EngineBackbone(inner, session, "because", log=told.append)
    for _ in range(2):
        tokens, vectors = engine.tokens(pictures(3, 32, 128))
        assert torch.equal(tokens, MeanBackbone().tokens(pictures(3, 32, 128))[0]) and vectors.shape == (3, 3)
    assert engine.outside == 6 and session.runs == [] and inner.calls == [(3, 32, 128, 3)] * 2
    assert told == ["tensorrt: not built for images of 128x32; these are left to the processor"]
    engine.tokens(pictures(1))
    assert len(session.runs) == 1 and engine.trouble == "", "the others still run there"


def test_when_no_session_is_left_the_backbone_inside_goes_on():
    inner, session, told = MeanBackbone(), FakeSession("onnxruntime-cuda", fail_at=2), []
    engine = EngineBackbone(inner, session, "because", log=told.append)
    tokens, _ = engine.tokens(pictures(9))
    assert torch.equal(tokens, MeanBackbone().tokens(pictures(9))[0]), "what was done before stays, the rest is done again"
    assert engine.backend == "torch-cpu" and inner.calls == [(5, 32, 32, 3)]
    assert told == [engine.trouble] == ["onnxruntime-cuda failed (the device is gone); going on with torch-cpu"]
    engine.tokens(pictures(1))
    assert len(session.runs) == 2 and len(told) == 1
    strict = EngineBackbone(inner, FakeSession("tensorrt", fail_at=1), "because", strict=True)
    for _ in range(2):
        with pytest.raises(EngineError):
            strict.tokens(pictures(1))
    assert strict.backend == "tensorrt"


def test_the_session_is_closed_with_the_last_that_uses_it():
    session = FakeSession("tensorrt")
    engine = EngineBackbone(MeanBackbone(), session, "because")
    shared = engine
    del engine
    gc.collect()
    assert not session.closed
    del shared
    gc.collect()
    assert session.closed
    failing = FakeSession("tensorrt", fail_at=1)
    engine = EngineBackbone(MeanBackbone(), failing, "because")
    engine.tokens(pictures(1))
    assert failing.closed, "a session that has failed keeps nothing"


def test_a_backbone_that_cannot_be_exported_stays_what_it_is(tmp_path):
    inner = MeanBackbone()
    for backend, strict in (("auto", False), ("auto", True), ("tensorrt", False), ("torch", True)):
        engine = with_engine(inner, EngineOptions(backend, strict))
        assert engine.backend == "torch-cpu" and engine.reason == "torch-cpu (the backbone cannot be exported)"
        assert torch.equal(engine.tokens(pictures(2))[0], inner.tokens(pictures(2))[0])
    with pytest.raises(InputError, match="backend tensorrt: backbone 'fake' cannot be exported"):
        with_engine(inner, EngineOptions("tensorrt", strict=True))


def test_auto_runs_onnxruntime_here_and_answers_like_pytorch(tiny, exported):
    cache = exported
    engine = with_engine(tiny, EngineOptions(device="cpu", cache=cache))
    assert engine.reason == "onnxruntime-cpu fp32 (no GPU)" and engine.backend == "onnxruntime-cpu"
    assert engine.hash == tiny.hash and engine.name == tiny.name
    for shape in ((1, 96, 64), (1, 64, 96), (5, 32, 32), (33, 32, 32)):
        for found, expected in zip(engine.tokens(pictures(*shape)), tiny.tokens(pictures(*shape)), strict=True):
            assert found.shape == expected.shape and (found - expected).abs().max() < 1e-5 * expected.abs().max()
    again = with_engine(tiny, EngineOptions(device="cpu", cache=cache))
    assert torch.equal(again.tokens(pictures(4))[0], engine.tokens(pictures(4))[0]), "equal input gives equal bytes"
    torch_engine = with_engine(tiny, EngineOptions("torch", device="cpu", cache=cache))
    assert torch_engine.backend == "torch-cpu" and torch_engine.reason == "torch-cpu fp32 (as requested)"
    assert (torch_engine.tokens(pictures(4))[0] - tiny.tokens(pictures(4))[0]).abs().max() < 1e-6


@pytest.mark.parametrize("absent", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_optional_packages_auto_takes_pytorch_and_says_why(absent, tiny, tmp_path, monkeypatch):
    import importlib.util
    import sys

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else found(name, *rest))
    monkeypatch.setitem(sys.modules, absent, None)
    cache = tmp_path / "cache"
    engine = with_engine(tiny, EngineOptions(device="cpu", cache=cache))
    assert engine.backend == "torch-cpu"
    assert engine.reason.startswith("torch-cpu fp32 (no GPU; onnxruntime: ") and absent in engine.reason and "\n" not in engine.reason
    assert not cache.exists(), "nothing was begun"
    with pytest.raises(InputError, match=absent):
        with_engine(tiny, EngineOptions("onnxruntime", strict=True, device="cpu", cache=cache))


def test_a_file_with_a_network_of_its_own_runs_in_batches_or_as_before(exported, tmp_path, monkeypatch):
    import sys

    (onnx,) = exported.glob("*/*.onnx")
    inner = open_backbone(f"onnx:{onnx}?outputs=tokens&supervision=none&threads=1")
    engine = with_engine(inner, EngineOptions(device="cpu", cache=tmp_path))
    assert engine.reason == "onnxruntime-cpu fp32 (no GPU)" and engine.hash == inner.hash
    for found, expected in zip(engine.tokens(pictures(5)), inner.tokens(pictures(5)), strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = with_engine(inner, EngineOptions(device="cpu", cache=tmp_path))
    assert engine.backend == "onnxruntime-cpu" and engine.reason.startswith("onnxruntime-cpu, image by image (")
    assert torch.equal(engine.tokens(pictures(5))[0], inner.tokens(pictures(5))[0])
    with pytest.raises(InputError, match="not a PyTorch network"):
        with_engine(inner, EngineOptions("torch", strict=True, cache=tmp_path))


def test_what_is_exported_already_needs_no_exporter(tiny, exported, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("geoseg_ros.runtime.engines.choose.run_job", lambda *_: pytest.fail("exported again"))
    assert with_engine(tiny, EngineOptions(device="cpu", cache=exported)).backend == "onnxruntime-cpu"


def test_a_damaged_export_is_made_anew_once_and_said_once(tiny, exported, tmp_path):
    import shutil

    folder = shutil.copytree(exported, tmp_path / "cache")
    told: list[str] = []
    options = EngineOptions(device="cpu", cache=folder, log=told.append)
    (onnx,) = folder.glob("*/*.onnx")
    onnx.write_bytes(onnx.read_bytes()[:1000])
    first = with_engine(tiny, options)
    assert first.backend == "onnxruntime-cpu" and len(told) == 1 and told[0].endswith("bytes, got 1000; it is rebuilt")
    assert with_engine(tiny, options).backend == "onnxruntime-cpu" and len(told) == 1


@pytest.mark.parametrize("harm", [lambda t: t + 100, lambda t: t * float("nan"), lambda t: t[:, :1]], ids=["other", "nan", "shape"])
def test_an_engine_that_answers_otherwise_is_not_used(harm, tiny, exported, monkeypatch):
    right = OnnxRuntimeSession.run

    def wrong(self, images):
        return tuple(map(harm, right(self, images)))

    monkeypatch.setattr(OnnxRuntimeSession, "run", wrong)
    told: list[str] = []
    options = {"device": "cpu", "cache": exported, "log": told.append}
    engine = with_engine(tiny, EngineOptions(**options))
    assert engine.backend == "torch-cpu" and len(told) == 1 and "onnxruntime-cpu fp32: its tokens differ from those of" in told[0]
    with pytest.raises(GeosegError, match="tokens differ"):
        with_engine(tiny, EngineOptions("onnxruntime", strict=True, **options))


def test_half_precision_may_differ_a_little(tiny):
    def session(noise):
        spec = replace(make_spec(), precision="fp16")
        fake = FakeSession("tensorrt", spec)
        generator = torch.Generator().manual_seed(0)

        def run(images):
            tokens, vectors = tiny.tokens(images.numpy().astype(np.uint8))
            return tokens + noise * tokens.std() * torch.randn(tokens.shape, generator=generator), vectors

        fake.run = run
        return fake

    source = ImageSource(tiny, EngineOptions())
    source.check(session(0.03))
    with pytest.raises(GeosegError, match=r"tensorrt fp16: its tokens differ from those of '.*' \(cosine 0"):
        source.check(session(0.5))


def test_the_export_of_other_weights_is_another_entry(tiny, exported, tmp_path, monkeypatch):
    source = ImageSource(tiny, EngineOptions(cache=exported))
    assert source.exported("onnxruntime", ready=True)[1].onnx.is_file()
    for change in ({"hash": "0" * 64}, {"name": tiny.name}):
        other = type("Other", (), {**vars(tiny), **change, "tokens": tiny.tokens, "__module__": type(tiny).__module__})()
        spec = ImageSource(other, EngineOptions(cache=exported))
        if change.get("hash"):
            with pytest.raises(InputError, match="not exported yet"):
                spec.exported("onnxruntime", ready=True)
        else:
            assert spec.exported("onnxruntime", ready=True)[1].onnx.is_file()
    with pytest.raises(InputError, match="not exported yet"):
        source.exported("tensorrt", ready=True)


def test_recovery_of_a_session_that_fails_takes_less_than_a_second(tiny, exported, monkeypatch):
    """A GPU that is lost: the next picture is answered by what is ready on the processor."""
    broken = FakeSession("tensorrt", make_spec(), fail_at=2)
    real = choose._open

    def open_one(candidate, source, ready=False):
        if candidate == ("tensorrt", "cuda"):
            return broken
        if candidate[1] == "cuda":
            raise RuntimeError("CUDA error: unspecified launch failure")
        return real(candidate, source, ready)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(choose, "_open", open_one)
    told: list[str] = []
    engine = with_engine(tiny, EngineOptions(cache=exported, log=told.append))
    assert engine.backend == "tensorrt"
    engine.tokens(pictures(1))
    begin = time.monotonic()
    tokens, _ = engine.tokens(pictures(1))
    assert time.monotonic() - begin < 1.0
    assert engine.backend == "onnxruntime-cpu" and told == [engine.trouble]
    assert (tokens - tiny.tokens(pictures(1))[0]).abs().max() < 1e-5 * tokens.abs().max()


def test_one_engine_for_all_sides_up_to_the_usual_one():
    usual = ImageShapes.up_to(640)
    assert ImageShapes.up_to(320) == usual and [side[2] for side in usual.alone] == [640, 640]
    large = ImageShapes.up_to(1024)
    assert [side[2] for side in large.alone] == [1024, 1024] and large.batch == usual.batch
