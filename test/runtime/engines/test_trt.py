"""Building with TensorRT: what a machine without it is told; where TensorRT for RTX is installed, real engines, without a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.export import export_image
from geoseg_ros.runtime.engines.options import TENSORRT
from geoseg_ros.runtime.engines.sessions import PlanError, TensorRTSession
from geoseg_ros.runtime.engines.spec import IMAGES, OUTPUTS, EngineSpec, ImageShapes, ShapeRange, image_profiles
from geoseg_ros.runtime.engines.trt import build_plan, load_tensorrt, progress_monitor, shared_logger
from support.fake_tensorrt import PlainStream, module

pytestmark = pytest.mark.slow

DESKTOP = (80, 86, 89, 120)
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def rtx():
    """TensorRT for RTX, and what is needed to export for it."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")
    try:
        return load_tensorrt("tensorrt_rtx")
    except InputError as error:
        pytest.skip(str(error))


def a_module(name, version):
    made = ModuleType(name)
    made.__version__ = version
    return made


def test_absent_and_old_versions_are_told_in_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for name in ("tensorrt_rtx", "tensorrt_rtx_libs", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    for flavour in TENSORRT:
        with pytest.raises(InputError, match=f"^backend '{flavour}': the Python package {flavour} is not installed$"):
            load_tensorrt(flavour)
    for version, fits in (("8.6.2", False), ("10.2.0.19", False), ("10.3.0", True), ("11.4.1.2", True), ("10.13.0.dev1", True)):
        made = a_module("tensorrt", version)
        monkeypatch.setitem(sys.modules, "tensorrt", made)
        if fits:
            assert load_tensorrt("tensorrt") is made
        else:
            with pytest.raises(InputError, match=rf"10\.3 or newer \(JetPack 6\.1\), found {version}"):
                load_tensorrt("tensorrt")
    with pytest.raises(InputError, match="expected one of tensorrt, tensorrt_rtx"):
        load_tensorrt("openvino")


def test_both_packagings_of_the_rtx_wheels_are_found(monkeypatch) -> None:
    bare = a_module("tensorrt_rtx_bindings", "1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_libs", a_module("tensorrt_rtx_libs", "1.7.1"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", bare)
    assert load_tensorrt("tensorrt_rtx") is bare
    whole = a_module("tensorrt_rtx", "1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", whole)
    assert load_tensorrt("tensorrt_rtx") is whole


def test_a_library_that_does_not_load_says_why(monkeypatch, tmp_path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(InputError, match=r"not loadable \(libnvinfer.so.10: cannot open"):
        load_tensorrt("tensorrt")


def test_activation_memory_is_read_from_the_log() -> None:
    lines = ["Total Weights Memory: 9999999 bytes", "Total Activation Memory: 1048576 bytes", "[MS] total activation memory: 7 Bytes"]
    trt = module()
    logger = shared_logger(trt)
    assert shared_logger(trt) is logger, "TensorRT keeps the first"
    logger.reset()
    logger.log("info", lines[0])
    assert logger.activation_bytes is None
    for line in lines[1:]:
        logger.log("info", line)
    assert logger.activation_bytes == 1048576
    for line in ("first", "second"):
        logger.log("error", line)
    assert logger.first_error == "first"


def test_progress_never_falls_and_counts_inner_phases() -> None:
    seen = []
    monitor = progress_monitor(module(), lambda stage, done, total: seen.append(done))
    monitor.phase_start("all", None, 2)
    monitor.phase_start("first", "all", 4)
    for step in range(4):
        assert monitor.step_complete("first", step), "False would end the build"
    monitor.phase_finish("first")
    monitor.step_complete("all", 0)
    monitor.phase_start("second", "all", 2)
    monitor.step_complete("second", 0)
    monitor.phase_finish("second")
    monitor.phase_finish("all")
    monitor.phase_start("another", None, 100)  # a phase of its own after the first does not take anything back
    monitor.step_complete("another", 0)
    assert seen == [12, 25, 38, 50, 50, 75, 75]


def small_spec(path):
    return EngineSpec(path, (ShapeRange((1, 8), (1, 16), (1, 64)),), "fp32", "relu")


@pytest.fixture
def relu_onnx(tmp_path, rtx):
    import onnx

    helper = onnx.helper
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, "n"]) for name in (IMAGES, *OUTPUTS)]
    nodes = [helper.make_node("Relu", [IMAGES], [name]) for name in OUTPUTS]
    graph = helper.make_graph(nodes, "relu", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


def test_a_build_reports_its_progress(relu_onnx, rtx) -> None:
    seen = []
    plan, notes = build_plan(small_spec(relu_onnx), "tensorrt_rtx", (86,), lambda stage, done, total: seen.append(done))
    assert len(plan) > 1000 and notes["seconds"] > 0 and seen == sorted(seen) and 0 < seen[-1] <= 100


USED = {
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (*("num_io_tensors", "num_optimization_profiles", "get_tensor_name", "create_execution_context"),),
    "IExecutionContext": (
        *("set_optimization_profile_async", "set_input_shape", "infer_shapes", "get_tensor_shape", "set_tensor_address"),
        "execute_async_v3",
    ),
}
"""What :class:`TensorRTSession` calls, by class."""


def test_the_real_module_has_what_a_session_calls(rtx) -> None:
    for kind, names in USED.items():
        assert not [name for name in names if not hasattr(getattr(rtx, kind), name)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_real_engine_is_refused_without_a_gpu(relu_onnx, rtx, tmp_path) -> None:
    plan, _ = build_plan(small_spec(relu_onnx), "tensorrt_rtx", (86,))
    (tmp_path / "engine.plan").write_bytes(plan)
    with pytest.raises(PlanError, match=r"relu: tensorrt_rtx [\d.]+ cannot use the engine on this GPU"):
        TensorRTSession(tmp_path / "engine.plan", small_spec(relu_onnx), "tensorrt_rtx", "cpu", PlainStream())


def test_what_cannot_be_built_is_told_in_one_line(relu_onnx, rtx, tmp_path) -> None:
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no model")
    cases = [
        (small_spec(relu_onnx), (87,), InputError, "compute capability 87: .* expected one of 75, 80, 86"),  # Orin: a Jetson
        (small_spec(noise), (86,), GeosegError, "cannot read it"),
    ]
    for spec, capabilities, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            build_plan(spec, "tensorrt_rtx", capabilities)
        assert "\n" not in str(caught.value)


def test_the_shipped_backbone_compiles_for_desktop_gpus(rtx, tmp_path) -> None:
    """As the product builds it, and eight pictures as large as fit 60 MB."""
    backbone, side = open_backbone("geoseg_tiny"), (480, 480, 480)
    usual = export_image(backbone, tmp_path, "fp16")
    eight = replace(usual, profiles=image_profiles(backbone.stride, ImageShapes((side, side), (1, 8, 8), side)))
    for spec, most in ((usual, 25), (eight, 60)):
        plan, notes = build_plan(spec, "tensorrt_rtx", DESKTOP)
        size = f"{notes['activation_bytes'] / MEGABYTE:.1f} MB for activations, {len(plan) / MEGABYTE:.1f} MB in all"
        print(f"geoseg_tiny fp16, {'; '.join(map(str, spec.profiles))}: {size}, {notes['seconds']:.1f} s")
        assert notes["activation_bytes"] <= most * MEGABYTE


class Block(nn.Module):
    """A transformer block of ViT (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        q, k, v = self.qkv(self.first(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.second(x))


class Vit(nn.Module):
    """ViT-S/16 at 224 pixels."""

    def __init__(self, width=384, depth=12, heads=6, patch=16, side=224):
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.place = nn.Parameter(torch.randn(1, (side // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels):
        return self.norm(self.blocks(self.embed(pixels).flatten(2).transpose(1, 2) + self.place))


class VitTokens(TokenModule):
    def forward(self, images):
        tokens = self.network(((images - 127.5) / 127.5).permute(0, 3, 1, 2).to(self.precision)).float()
        return tokens.unflatten(1, (14, 14)), tokens.mean(1)


class VitBackbone:
    name, stride, dim, hash, supervision = "vit_s16", 16, 384, "0" * 64, "none"

    def __init__(self):
        torch.manual_seed(0)
        self.module = VitTokens(Vit()).eval()

    def tokens(self, images):
        return self.module(torch.from_numpy(images).float())


def test_a_vision_transformer_compiles_with_fused_attention(rtx, tmp_path) -> None:
    """Eight pictures; were the attention not fused, its weights alone would take 30 MB for each of two buffers."""
    side = (224, 224, 224)
    spec = export_image(VitBackbone(), tmp_path, "fp16", ImageShapes((side, side), (1, 4, 8), side))
    _, notes = build_plan(spec, "tensorrt_rtx", DESKTOP)
    print(f"ViT-S/16 fp16, 8 pictures of 224: {notes['activation_bytes'] / MEGABYTE:.1f} MB, {notes['seconds']:.1f} s")
    assert notes["activation_bytes"] <= 60 * MEGABYTE
