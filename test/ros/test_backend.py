"""The node and what runs its network: which backend, said where; what happens when it fails; building without running."""

from __future__ import annotations

import gc
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")


from geoseg_ros.ros.coseg_node import main
from geoseg_ros.runtime.engines.backbone import EngineBackbone
from geoseg_ros.runtime.engines.sessions import EngineError
from geoseg_ros.runtime.engines.spec import EngineSpec, ShapeRange
from geoseg_ros.runtime.opening import PipelineOpener
from support.fake_world import picture, table
from support.live_node import LiveNode
from support.ros_cases import image_message, large_cloud_message

pytestmark = pytest.mark.dds

CONFIG = {"pipeline.coseg.image_side": 256, "pipeline.coseg.image_margin": 0.1}
FAILED = "tensorrt failed (the device is gone); going on with onnxruntime-cpu"


class Session:
    """Runs a backbone as an engine would, until ``broken``."""

    def __init__(self, inner, backend):
        self.inner, self.backend, self.broken = inner, backend, False
        self.spec = EngineSpec(None, (ShapeRange((1, 16, 16, 3), (1, 64, 64, 3), (8, 512, 512, 3)),), "fp16", "")

    def run(self, images):
        self.spec.check(images)
        if self.broken:
            raise EngineError("the device is gone")
        return self.inner.tokens(images.numpy().astype(np.uint8))

    def close(self):
        pass


@pytest.fixture
def packs(tmp_path, fake_packs, fake_backbone, monkeypatch):
    monkeypatch.setattr("geoseg_ros.runtime.pipeline.open_backbone", lambda spec, device: fake_backbone)
    paths = []
    for name, pack in fake_packs.items():
        paths.append(str(tmp_path / f"{name}.pack"))
        pack.save(paths[-1])
    return paths


@pytest.fixture
def gpu(monkeypatch):
    """A machine with TensorRT: the sessions that run there, in order."""
    sessions = []

    def with_engine(inner, options, side):
        sessions[:] = [Session(inner, "tensorrt"), Session(inner, "onnxruntime-cpu")]
        return EngineBackbone(inner, sessions[0], "tensorrt fp16 (the first choice)", options.strict, options.log, sessions[1:])

    monkeypatch.setattr("geoseg_ros.runtime.pipeline.with_engine", with_engine)
    return sessions


def start(packs, **parameters):
    told = []
    node = LiveNode(PipelineOpener(log=told.append), packs=packs, status_period=0.1, **CONFIG, **parameters)
    return node, told


def pipeline_status(node):
    found = [s for s in node.diagnostics[-1].status if s.name == "coseg_node: pipeline"] if node.diagnostics else []
    return (found[0].level, found[0].message, {v.key: v.value for v in found[0].values}) if found else (b"", "", {})


def found_red(node):
    image, truth = picture(70, ("red", "green"))
    node.received["mask"].clear()
    node.send("image", image_message(image, "rgb8"))
    node.wait(lambda: node.received["mask"])
    mask = np.frombuffer(node.received["mask"][0].data, np.uint8).reshape(truth.shape)
    return np.count_nonzero((mask == 1) & truth) > 0.6 * np.count_nonzero((mask == 1) | truth)


def test_a_backend_that_fails_while_the_node_runs_is_replaced_within_a_second(packs, gpu):
    node, told = start(packs)
    try:
        messages = pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")
        node.listen("status", messages.NodeStatus)
        assert found_red(node)
        node.wait(lambda: pipeline_status(node)[:2] == (b"\0", "running"))
        values = pipeline_status(node)[2]
        assert values["backend"] == "tensorrt" and values["backend_reason"] == "tensorrt fp16 (the first choice)"
        node.wait(lambda: node.received["status"] and node.received["status"][-1].backend == "tensorrt")
        gpu[0].broken = True
        begin = time.monotonic()
        assert found_red(node), "the very picture at which it failed is answered"
        assert time.monotonic() - begin < 1.0
        cloud, truth = table(70, ("red", "green"))
        node.send("points", large_cloud_message(cloud.xyz, cloud.rgb))
        node.wait(lambda: node.received["points_labeled"])
        label = np.frombuffer(node.received["points_labeled"][0].data, np.uint32).reshape(-1, 7)[:, 4]
        assert np.count_nonzero((label == 1) & (truth == 1)) > 0.8 * np.count_nonzero((label == 1) | (truth == 1))
        node.wait(lambda: pipeline_status(node)[:2] == (b"\1", FAILED))
        assert pipeline_status(node)[2]["backend"] == "onnxruntime-cpu" and told == [FAILED], "said once"
        node.wait(lambda: node.received["status"][-1].backend == "onnxruntime-cpu")
        assert node.counts("image").rejected == node.counts("cloud").rejected == 0
    finally:
        node.close()


def test_strict_rejects_and_recovers_with_the_device(packs, gpu):
    node, told = start(packs, backend="tensorrt", backend_strict=True)
    try:
        assert found_red(node)
        gpu[0].broken = True
        image = image_message(picture(70, ("red",))[0], "rgb8")
        for _ in range(3):
            node.send_and_wait("image", image, "image")
        assert node.counts("image").rejected == 3 and told == [] and gpu[1].broken is False
        node.wait(lambda: node.lines)
        assert len(node.lines) == 1 and node.lines[0].startswith("image rejected: EngineError") and "the device is gone" in node.lines[0]
        node.wait(lambda: any("3 rejected" in s.message and s.level == b"\1" for s in node.diagnostics[-1].status))
        gpu[0].broken = False
        begin = time.monotonic()
        assert found_red(node) and time.monotonic() - begin < 1.0
    finally:
        node.close()


def test_the_diagnostics_show_how_far_a_build_is_and_a_stop_ends_it(packs, monkeypatch):
    building = threading.Event()

    def with_engine(inner, options, side):
        options.progress("building", 43, 100)
        building.set()
        assert options.cancel.wait(20)
        raise RuntimeError("cancelled")

    monkeypatch.setattr("geoseg_ros.runtime.pipeline.with_engine", with_engine)
    stop = threading.Event()
    opener = PipelineOpener(stop)
    node = LiveNode(opener, packs=packs, autostart=False, status_period=0.1, stop=stop, **CONFIG)
    try:
        transition = threading.Thread(target=node.node.trigger_configure)
        transition.start()
        assert building.wait(10)
        node.wait(lambda: pipeline_status(node)[:2] == (b"\1", "engine: building 43 %"))
        begin = time.monotonic()
        node.node.stop()
        transition.join(10)
        assert time.monotonic() - begin < 5 and not node.node.worker.is_alive()
        assert opener.progress == ""
    finally:
        node.close()


@pytest.fixture
def run_main():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda *parameters: main(["--ros-args", *(part for p in parameters for part in ("-p", p))])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.collect()  # the node, or it would take the log of the next one away with it


def test_build_only_builds_and_ends(packs, gpu, run_main, capfd):
    begin = time.monotonic()
    assert run_main(f"packs:={packs}", "build_only:=true", "autostart:=false") == 0
    assert time.monotonic() - begin < 10 and len(gpu) == 2
    text = "".join(capfd.readouterr())
    assert "ready: 1 red, 2 blue; backbone fake on tensorrt fp16 (the first choice)" in text
    assert "[ERROR]" not in text and "Traceback" not in text


def test_a_strict_backend_that_is_not_here_ends_the_node_with_one_line(packs, run_main, capfd):
    assert run_main(f"packs:={packs}", "backend:=tensorrt", "backend_strict:=true") == 2
    told = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line or "[FATAL]" in line or "Traceback" in line]
    assert len(told) == 1 and "backend tensorrt" in told[0]
    assert run_main(f"packs:={packs}", "backend:=tpu") == 2
    told = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line or "[FATAL]" in line or "Traceback" in line]
    assert len(told) == 1 and "parameter backend: expected one of auto, tensorrt, tensorrt_rtx, onnxruntime, torch, got 'tpu'" in told[0]
