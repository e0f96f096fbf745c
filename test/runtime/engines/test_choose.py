"""Which backend is taken, what is said about it, and what takes its place when it fails."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import Cancelled
from geoseg_ros.runtime.engines import choose, trt
from geoseg_ros.runtime.engines.backbone import EngineBackbone
from geoseg_ros.runtime.engines.build import PLAN
from geoseg_ros.runtime.engines.choose import open_session
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.sessions import EngineError, PlanError
from support.fake_engines import ABSENT, FAILED, FakeSession, FakeSource, MeanBackbone

IMAGES = np.zeros((1, 32, 32, 3), np.uint8)


def backbone(options):
    """A backbone on the session that is opened, and the source."""
    source = FakeSource(options)
    session, reason, others = open_session(source)
    return EngineBackbone(MeanBackbone(), session, reason, options.strict, options.log, others), source


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine: ``gpu``, and what happens when a backend is opened there (an error, or nothing: it works).

    Returns the list of sessions that were opened."""
    opened: list[FakeSession] = []

    def make(gpu: bool, **errors: Exception) -> list[FakeSession]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

        def open_one(candidate, source, ready=False):
            name, device = candidate
            error = errors.get(f"{name}_{device}")
            if error is not None:
                raise error
            if name == "torch":
                opened.append(source.torch_session(torch.device(device)))
            else:
                source.exported(name, ready)
                opened.append(FakeSession(name if name.startswith("tensorrt") else f"{name}-{device}"))
            return opened[-1]

        monkeypatch.setattr(choose, "_open", open_one)
        return opened

    return make


NO_CUDA = InputError("no CUDA in this one")


@pytest.mark.parametrize(
    ("gpu", "errors", "backend", "reason"),
    [
        (False, {}, "onnxruntime-cpu", "onnxruntime-cpu fp32 (no GPU)"),
        (False, {"onnxruntime_cpu": ABSENT}, "torch-cpu", f"torch-cpu fp32 (no GPU; onnxruntime: {ABSENT})"),
        (True, {}, "tensorrt", "tensorrt fp32 (the first choice)"),
        (True, {"tensorrt_cuda": ABSENT}, "tensorrt_rtx", f"tensorrt_rtx fp32 (tensorrt: {ABSENT})"),
        (True, {"tensorrt_cuda": ABSENT, "tensorrt_rtx_cuda": ABSENT}, "onnxruntime-cuda", None),
        (True, {"tensorrt_cuda": ABSENT, "tensorrt_rtx_cuda": ABSENT, "onnxruntime_cuda": NO_CUDA}, "torch-cuda", None),
        (
            True,
            {f"{n}_cuda": RuntimeError("out of memory") for n in ("tensorrt", "tensorrt_rtx", "onnxruntime", "torch")},
            "onnxruntime-cpu",
            None,
        ),
    ],
)
def test_auto_takes_the_best_that_opens_and_says_why(gpu, errors, backend, reason, machine):
    opened = machine(gpu, **errors)
    session, said, _ = open_session(FakeSource(EngineOptions()))
    assert session.backend == backend == opened[-1].backend and len(opened) == 1
    assert reason in (None, said) and "\n" not in said and said.startswith(backend)


def test_device_cpu_leaves_the_gpu_alone_and_device_cuda_the_processor(machine):
    machine(True)
    assert open_session(FakeSource(EngineOptions(device="cpu")))[0].backend == "onnxruntime-cpu"
    machine(True, **{f"{n}_cuda": ABSENT for n in ("tensorrt", "tensorrt_rtx", "onnxruntime", "torch")})
    with pytest.raises(InputError, match="not installed"):
        open_session(FakeSource(EngineOptions(device="cuda")))
    machine(False)
    with pytest.raises(InputError, match="device cuda: PyTorch finds no CUDA device"):
        open_session(FakeSource(EngineOptions(device="cuda")))


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_asked_for_is_taken(strict, machine):
    machine(True)
    for name, backend in (("tensorrt_rtx", "tensorrt_rtx"), ("onnxruntime", "onnxruntime-cuda"), ("torch", "torch-cuda")):
        session, reason, _ = open_session(FakeSource(EngineOptions(name, strict)))
        assert session.backend == backend and reason == f"{backend} fp32 (as requested)"
    machine(True, onnxruntime_cuda=NO_CUDA)
    assert open_session(FakeSource(EngineOptions("onnxruntime", strict)))[0].backend == "onnxruntime-cpu", "requested, so even there"
    machine(False)
    assert open_session(FakeSource(EngineOptions("torch", strict)))[0].backend == "torch-cpu"


def test_strict_takes_nothing_else(machine):
    machine(False, onnxruntime_cpu=ABSENT)
    with pytest.raises(InputError, match="backend tensorrt: needs a CUDA device"):
        open_session(FakeSource(EngineOptions("tensorrt", strict=True)))
    with pytest.raises(InputError, match="not installed"):
        open_session(FakeSource(EngineOptions("onnxruntime", strict=True)))
    session, reason, _ = open_session(FakeSource(EngineOptions("tensorrt")))
    assert session.backend == "torch-cpu" and reason.startswith("torch-cpu fp32 (no GPU; onnxruntime: ")
    told: list[str] = []
    machine(True, tensorrt_cuda=ABSENT, tensorrt_rtx_cuda=FAILED)
    with pytest.raises(GeosegError, match="the export"):
        open_session(FakeSource(EngineOptions(strict=True)))
    assert open_session(FakeSource(EngineOptions(log=told.append)))[0].backend == "onnxruntime-cuda"
    assert told == ["tensorrt_rtx: the export failed; trying the next backend"], "what is only absent is no news"


def test_cancel_is_no_reason_to_try_the_next(machine):
    opened = machine(True, tensorrt_cuda=Cancelled("engine: cancelled"))
    with pytest.raises(Cancelled):
        open_session(FakeSource(EngineOptions(cancel=threading.Event())))
    assert opened == []


@pytest.mark.parametrize(("values", "line"), [({"backend": "tpu"}, "backend: .*'tpu'"), ({"device": "gpu"}, "device: .*'gpu'")])
def test_unknown_options_are_refused(values, line):
    with pytest.raises(InputError, match=line):
        EngineOptions(**values)


def test_a_session_that_fails_is_replaced_and_the_images_are_not_lost(machine):
    opened, told = machine(True), []
    engine, source = backbone(EngineOptions(log=told.append))
    assert engine.backend == "tensorrt"
    for i, (inside, after) in enumerate((("tensorrt", "torch-cuda"), ("torch-cuda", "onnxruntime-cpu"), ("onnxruntime-cpu", "torch-cpu"))):
        engine.tokens(IMAGES)
        assert opened[-1].backend == inside and told == told[:i]
        opened[-1].fail_at = 0
        tokens, _ = engine.tokens(IMAGES)
        assert engine.backend == after and tokens.shape == (1, 2, 2, 3)
        assert opened[i].closed and told[i:] == [f"{inside} failed (the device is gone); going on with {after}"]
        assert engine.trouble == told[-1]
    assert source.asked[1:] == [("onnxruntime", True)], "nothing is built while the robot drives"
    assert engine.inner.calls == [IMAGES.shape], "the backbone inside is on the processor, and cannot be lost"
    engine.tokens(IMAGES)
    assert len(told) == 3 and len(opened) == 3


def test_what_cannot_open_at_once_is_passed_by(machine):
    lost = RuntimeError("CUDA error: unspecified launch failure")
    opened = machine(True, torch_cuda=lost, onnxruntime_cpu=InputError("not exported yet"))
    engine, _ = backbone(EngineOptions())
    opened[0].fail_at = 0
    engine.tokens(IMAGES)
    assert [s.backend for s in opened] == ["tensorrt"] and engine.backend == "torch-cpu"


def test_a_strict_session_raises(machine):
    opened = machine(True)
    engine, _ = backbone(EngineOptions("tensorrt", strict=True))
    opened[0].fail_at = 0
    with pytest.raises(EngineError):
        engine.tokens(IMAGES)
    assert engine.backend == "tensorrt" and len(opened) == 1 and not opened[0].closed


class Jetson:
    """A machine with a GPU and TensorRT, whose engines hold what they were built for."""

    def __init__(self, folder, monkeypatch) -> None:
        self.name, self.capability, self.version, self.refuses = "Orin", 87, "10.3.0", 0
        self.built, self.told, self.folder = [], [], folder
        self.onnx = folder / "m.onnx"
        self.onnx.write_bytes(b"network of a pack")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: self.name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: divmod(self.capability, 10))
        monkeypatch.setattr(trt, "load_tensorrt", lambda flavour: type("trt", (), {"__version__": self.version}))
        monkeypatch.setattr(choose, "run_job", self._build)
        monkeypatch.setattr(choose, "TensorRTSession", self._load)

    def _build(self, name, module, job, progress, cancel):
        self.built.append(job)
        (Path(job["folder"]) / PLAN).write_text(f"{self.name} {self.version} {self.onnx.read_bytes()}")
        return {"seconds": 1.0}

    def _load(self, plan, spec, flavour):
        if self.refuses:
            self.refuses -= 1
            raise PlanError("engine 'image': cannot be used on this GPU")
        assert plan.read_text() == f"{self.name} {self.version} {self.onnx.read_bytes()}", "an engine that was made for something else"
        return FakeSession(flavour)

    def open(self, backend="tensorrt", strict=False):
        options = EngineOptions(backend, strict, "cuda", cache=self.folder / "cache", log=self.told.append)
        session, _, _ = open_session(FakeSource(options, self.onnx))
        return session.backend


@pytest.fixture
def jetson(tmp_path, monkeypatch):
    return Jetson(tmp_path, monkeypatch)


@pytest.mark.parametrize("change", [{"name": "Orin Nano"}, {"capability": 110}, {"version": "10.7.0"}, {"pack": b"another network"}])
def test_an_engine_for_another_gpu_version_or_pack_is_not_taken_but_built_once(change, jetson):
    for _ in range(2):
        assert jetson.open() == "tensorrt" and len(jetson.built) == 1
    if "pack" in change:
        jetson.onnx.write_bytes(change["pack"])
    vars(jetson).update(change)
    for _ in range(2):
        assert jetson.open() == "tensorrt" and len(jetson.built) == 2
    assert jetson.told == [], "nothing was wrong with the first one, which stays"
    assert len(list((jetson.folder / "cache").glob("image-*"))) == 2


def test_an_engine_that_the_driver_refuses_is_rebuilt_once_and_then_it_is_the_next_backends_turn(jetson):
    jetson.open()
    jetson.refuses = 1
    assert jetson.open() == "tensorrt" and len(jetson.built) == 2
    assert len(jetson.told) == 1 and jetson.told[0].endswith("it could not be loaded; it is rebuilt")
    jetson.told.clear()
    jetson.refuses = 2
    assert jetson.open() == "torch-cuda" and len(jetson.built) == 3
    assert [line.rpartition(": ")[2] for line in jetson.told[-1:]] == ["cannot be used on this GPU; trying the next backend"]
    jetson.refuses = 2
    with pytest.raises(PlanError):
        jetson.open(strict=True)


def test_an_engine_that_vanishes_before_it_is_loaded_is_built_again(jetson, monkeypatch):
    """Another process has made room in the cache."""
    load, found = jetson._load, []

    def load_late(plan, *rest):
        if not found:
            plan.unlink()
        found.append(plan)
        return load(plan, *rest)

    monkeypatch.setattr(choose, "TensorRTSession", load_late)
    assert jetson.open() == "tensorrt" and len(jetson.built) == len(found) == 2


def test_tensorrt_for_rtx_is_built_for_the_gpu_that_is_here(jetson):
    jetson.capability = 89
    assert jetson.open("tensorrt_rtx", strict=True) == "tensorrt_rtx" and jetson.built[0]["capabilities"] == (89,)
    jetson.capability = 90
    with pytest.raises(InputError, match="no engine for compute capability 90"):
        jetson.open("tensorrt_rtx", strict=True)
    assert len(jetson.built) == 1
