"""Exported backbones: the same answers at other sizes than they were exported with, the same bytes every time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.tiny import GeosegTiny, Projection, TinyConfig, save_tiny
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.export import export_image
from geoseg_ros.runtime.engines.sessions import OnnxRuntimeSession
from geoseg_ros.runtime.engines.spec import ANY_SHAPE, ImageShapes, image_profiles
from support.fake_world import FakeBackbone
from support.paths import ROOT

pytestmark = pytest.mark.slow

SMALL = TinyConfig(widths=(8, 8, 16, 32), depths=(1, 1, 1), dim=16)


def needs(*names):
    for name in names:
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")


def pictures(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small geoseg_tiny with random weights."""
    torch.manual_seed(0)
    network = GeosegTiny(SMALL).train()
    network(torch.rand(4, 3, 64, 64) * 255)  # running statistics other than 0 and 1
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_tiny(path, network, Projection(torch.zeros(20), torch.ones(20, 16)), {})
    return open_backbone(f"geoseg_tiny:{path}")


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    """Its specs in both precisions."""
    needs("onnx", "onnxscript", "onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    return {precision: export_image(small, folder / "deep" / "er", precision, ANY_SHAPE) for precision in ("fp32", "fp16")}


def answers(spec, images):
    """Tokens and vectors of the exported network."""
    return OnnxRuntimeSession(spec).run(torch.from_numpy(images).float())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_tokens_are_those_of_the_backbone(small, exported, precision, tolerance) -> None:
    spec = exported[precision]
    assert spec.precision == precision and small.hash[:12] in spec.source
    for shape in ((1, 32, 48), (3, 128, 128), (5, 96, 224), (1, 480, 640)):
        images = pictures(*shape)
        for found, expected in zip(answers(spec, images), small.tokens(images), strict=True):
            assert found.shape == expected.shape and found.dtype == torch.float32
            assert float((found - expected).abs().max()) < tolerance * float(expected.abs().max())


@pytest.mark.slow
def test_geoseg_base_is_exported(tmp_path) -> None:
    needs("onnx", "onnxscript", "onnxruntime")
    backbone = open_backbone("geoseg_base")
    spec = export_image(backbone, tmp_path, "fp32", ANY_SHAPE)
    for shape in ((1, 32, 48), (3, 128, 128), (1, 480, 640)):
        images = pictures(*shape)
        for found, expected in zip(answers(spec, images), backbone.tokens(images), strict=True):
            assert found.shape == expected.shape
            assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_half_precision_is_in_the_file(exported) -> None:
    import onnx

    sizes = {precision: spec.onnx.stat().st_size for precision, spec in exported.items()}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    for precision, spec in exported.items():
        model = onnx.load(spec.onnx)
        onnx.checker.check_model(model, full_check=True)
        kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.dims}
        assert (onnx.TensorProto.FLOAT16 in kinds) == (precision == "fp16")
        assert {opset.version for opset in model.opset_import if not opset.domain} == {18}


def test_bytes_depend_on_nothing_but_the_weights(small, exported, tmp_path) -> None:
    """Another process with another hash seed, another folder; and no trace of this machine."""
    first = exported["fp32"].onnx.read_bytes()
    code = (
        "import sys, torch\n"
        "from geoseg_ros.backbones.registry import open_backbone\n"
        "from geoseg_ros.runtime.engines.export import export_image\n"
        "export_image(open_backbone(sys.argv[1]), sys.argv[2])\n"
    )
    environment = {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, small.name, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert (tmp_path / "image-fp32.onnx").read_bytes() == first
    for trace in (str(ROOT).encode(), b"site-packages", b".py"):
        assert trace not in first


def test_shapes_are_rounded_to_the_stride_and_batches_are_for_small_pictures(small) -> None:
    alone, together = image_profiles(small.stride, ImageShapes())
    assert alone.maximum == (1, 640, 640, 3) and together.maximum == (8, 224, 224, 3)
    (both,) = image_profiles(small.stride, ANY_SHAPE)
    assert both.maximum == (32, 2048, 2048, 3)
    side = (30, 40, 50)
    (range_,) = image_profiles(small.stride, ImageShapes((side, side), (1, 1, 2), side))
    assert (range_.minimum, range_.optimum, range_.maximum) == ((1, 32, 32, 3), (1, 32, 32, 3), (2, 48, 48, 3))


def mixing(path, last=False, batch=None, side=None):
    """An ONNX backbone: two maps of stride 16, the mean colour and its negative. Its names are those that the export adds."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("AveragePool", ["centred"], ["tokens"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Neg", ["tokens"], ["mean"]),
    ]
    names = ["tokens", "mean"]
    if last:
        nodes.insert(0, helper.make_node("Transpose", ["images"], ["centred"], perm=[0, 3, 1, 2]))
        nodes += [helper.make_node("Transpose", [n], [f"{n}_last"], perm=[0, 2, 3, 1]) for n in names]
        names = [f"{n}_last" for n in names]
    else:
        nodes.insert(0, helper.make_node("Identity", ["images"], ["centred"]))
    sides = [side, side] if side else ["H", "W"]
    shape = [batch or "N", *([*sides, 3] if last else [3, *sides])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("last", [False, True])
def test_an_onnx_backbone_gets_its_pixels_prepared(tmp_path, last) -> None:
    needs("onnx", "onnxruntime")
    backbone = open_backbone(f"onnx:{mixing(tmp_path / 'm.onnx', last)}?norm=imagenet")
    spec = export_image(backbone, tmp_path, "fp32", ANY_SHAPE)
    for shape in ((2, 32, 64), (1, 160, 96)):
        images = pictures(*shape)
        for found, expected in zip(answers(spec, images), backbone.tokens(images), strict=True):
            assert torch.allclose(found, expected, atol=1e-5)
    assert export_image(backbone, tmp_path / "again", "fp32", ANY_SHAPE).onnx.read_bytes() == spec.onnx.read_bytes()
    with pytest.raises(InputError, match="a precision of its own; expected fp32, got fp16"):
        export_image(backbone, tmp_path, "fp16")


def test_what_an_onnx_backbone_fixes_stays_fixed(tmp_path) -> None:
    needs("onnx", "onnxruntime")
    backbone = open_backbone(f"onnx:{mixing(tmp_path / 'm.onnx', batch=1, side=64)}")
    spec = export_image(backbone, tmp_path)
    assert [(r.minimum, r.maximum) for r in spec.profiles] == [((1, 64, 64, 3),) * 2]
    images = pictures(1, 64, 64)
    assert torch.allclose(answers(spec, images)[0], backbone.tokens(images)[0], atol=1e-3)


def test_hub_models_are_exported_with_interpolated_positions(tmp_path, monkeypatch) -> None:
    needs("onnx", "onnxscript", "onnxruntime")
    transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
    sides = (32, 64, 128)
    for name, precision, tolerance in (("ViT", "fp32", 1e-4), ("Dinov2", "fp16", 2e-2)):
        torch.manual_seed(0)
        folder = tmp_path / name
        getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**shape)).save_pretrained(folder)
        backbone = open_backbone(f"hub:{folder}?norm=imagenet")
        spec = export_image(backbone, folder, precision, ImageShapes((sides, sides), (1, 2, 3), sides))
        for size in ((2, 64, 64), (3, 48, 96)):
            images = pictures(*size)
            for found, expected in zip(answers(spec, images), backbone.tokens(images), strict=True):
                assert found.shape == expected.shape
                assert float((found - expected).abs().max()) < tolerance * float(expected.abs().max())


class Unpredictable(nn.Module):
    """What is done depends on what goes in."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, pixels):
        return self.weight * pixels if pixels.sum() > 3 else self.weight - pixels


class UnpredictableTokens(TokenModule):
    def forward(self, images):
        return self.network(images), images.mean((1, 2))


class UnpredictableBackbone(FakeBackbone):
    name = "unpredictable"

    def __init__(self):
        self.module = UnpredictableTokens(Unpredictable())


def test_what_cannot_be_exported_is_told_in_one_line(tmp_path, monkeypatch, small) -> None:
    needs("onnx", "onnxscript")
    cases = [
        (FakeBackbone(), {}, InputError, "backbone 'fake': expected a torch module or an ONNX file; a FakeBackbone has no engine"),
        (UnpredictableBackbone(), {}, GeosegError, "UnpredictableTokens cannot be exported"),
    ]
    for backbone, options, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            export_image(backbone, tmp_path, **options)
        assert "\n" not in str(caught.value)
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the Python package onnx, which is not installed"):
        export_image(small, tmp_path)
    assert not list(tmp_path.iterdir())
