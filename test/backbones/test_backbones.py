"""Backbones: the shipped one, ONNX files, hub models, and what they say about wrong input."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.tiny import SHIPPED, GeosegTiny, Projection, TinyConfig, load_tiny, save_tiny
from geoseg_ros.errors import InputError

SMALL = TinyConfig(widths=(8, 8, 16, 32), depths=(1, 1, 1), dim=16)


def pictures(count=2, height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture
def small(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    network = GeosegTiny(SMALL).train()
    network(torch.rand(4, 3, 64, 64) * 255)  # running statistics other than 0 and 1
    save_tiny(path, network, Projection(torch.zeros(20), torch.ones(20, 16)), {"supervision": "none at all"})
    return path


def test_shipped_weights_give_tokens_offline():
    backbone = open_backbone("geoseg_tiny")
    tokens, whole = backbone.tokens(pictures())
    assert tokens.shape == (2, 4, 6, backbone.dim) and tokens.dtype == torch.float32 and backbone.stride == 16
    assert torch.allclose(whole, tokens.mean((1, 2)))
    assert torch.isfinite(tokens).all() and tokens.std() > 0.1
    assert "ImageNet" in backbone.supervision
    assert SHIPPED.stat().st_size < 8e6
    assert all(value.dtype == torch.float16 for value in load_file(SHIPPED).values())
    assert sum(p.numel() for p in load_tiny(SHIPPED)[0].parameters()) < 4e6


def test_shipped_tokens_mean_something():
    """Tokens of one texture are closer to each other than to another's, at other places and scales."""
    rows = np.indices((128, 128)).sum(0)
    texture_a = np.repeat((rows // 4 % 2 * 200 + 20)[..., None], 3, 2).astype(np.uint8)
    texture_b = (np.random.default_rng(0).normal(90, 5, (128, 128, 3)) * (1.2, 1, 0.4)).clip(0, 255).astype(np.uint8)
    first, second, other = open_backbone("geoseg_tiny").tokens(np.stack([texture_a, np.roll(texture_a, 37, 1), texture_b]))[1]
    assert torch.cosine_similarity(first, second, dim=0) > torch.cosine_similarity(first, other, dim=0) + 0.3


def test_batches_and_folding_change_nothing(small):
    backbone = open_backbone(f"geoseg_tiny:{small}")
    images = pictures(20, 32, 32)
    together = backbone.tokens(images)[0]
    alone = torch.cat([backbone.tokens(image[None])[0] for image in images])
    with torch.no_grad():
        plain = load_tiny(small)[0](torch.from_numpy(images).permute(0, 3, 1, 2).float()).permute(0, 2, 3, 1)
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(together, plain, atol=1e-4)
    assert backbone.supervision == "none at all"


def test_hash_follows_weights_only(small, tmp_path):
    network, projection, _, first = load_tiny(small)
    again, other = tmp_path / "again.safetensors", tmp_path / "other.safetensors"
    save_tiny(again, network, projection, {"supervision": "other words"})
    with torch.no_grad():
        network.head.bias[0] += 1
    save_tiny(other, network, projection, {})
    assert load_tiny(again)[3] == first == open_backbone(f"geoseg_tiny:{small}").hash
    assert load_tiny(other)[3] != first


@pytest.mark.parametrize("images", [pictures().astype(np.float32), pictures()[0], pictures(2, 60, 64), pictures()[..., :2], pictures()[:0]])
def test_wrong_arrays_are_refused(small, images):
    with pytest.raises(ValueError, match="images"):
        open_backbone(f"geoseg_tiny:{small}").tokens(images)


def test_damaged_weights_are_refused(small, tmp_path):
    content = small.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: len(content) // 2])
    other = tmp_path / "other.safetensors"
    other.write_bytes(content.replace(b"geoseg_tiny/1", b"geoseg_tiny/9"))
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(content.replace(b"depths", b"deepts"))
    for path, words in (
        (cut, "not readable"),
        (other, "geoseg_tiny/9"),
        (odd, "config.deepts: unknown"),
        (tmp_path / "absent.safetensors", "no such file"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            open_backbone(f"geoseg_tiny:{path}")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_names_are_refused():
    for spec in ("resnet", "onnx", "hub:", ""):
        with pytest.raises(InputError, match="geoseg_base, geoseg_tiny, dino_vits8"):
            open_backbone(spec)


@pytest.fixture
def write_onnx():
    pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")
    pytest.importorskip("onnx", reason="the package onnx, which writes the test's files, is not installed")
    return pools_onnx


def pools_onnx(path, last=False, side=None, second_stride=16, rank=4):
    """Write two average pools of the picture: output channels are its mean colour and the negative of it."""
    import onnx
    from onnx import TensorProto, helper

    size = [side, side] if side else ["H", "W"]
    nodes = [
        helper.make_node("AveragePool", ["chw"], ["one"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("AveragePool", ["chw"], ["pool"], kernel_shape=[second_stride] * 2, strides=[second_stride] * 2),
        helper.make_node("Neg", ["pool"], ["two"]),
    ]
    names = ["one", "two"]
    if last:
        nodes.insert(0, helper.make_node("Transpose", ["picture"], ["chw"], perm=[0, 3, 1, 2]))
        nodes += [helper.make_node("Transpose", [n], [f"{n}_last"], perm=[0, 2, 3, 1]) for n in names]
        names = [f"{n}_last" for n in names]
    else:
        nodes.insert(0, helper.make_node("Identity", ["picture"], ["chw"]))
    if rank == 2:
        nodes.append(helper.make_node("Flatten", ["one"], ["flat"]))
        names = ["flat"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, *size, 3] if last else [1, 3, *size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * rank) for n in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("last", [False, True])
def test_onnx_maps_are_concatenated(tmp_path, write_onnx, last):
    backbone = open_backbone(f"onnx:{write_onnx(tmp_path / 'm.onnx', last)}?supervision=none")
    images = pictures(3, 32, 64)
    tokens, whole = backbone.tokens(images)
    mean = images.reshape(3, 2, 16, 4, 16, 3).mean((2, 4), dtype=np.float64)
    assert (backbone.stride, backbone.dim, backbone.supervision) == (16, 6, "none")
    assert np.allclose(tokens.numpy(), np.concatenate([mean, -mean], 3), atol=1e-2)
    assert torch.allclose(whole, tokens.mean((1, 2)))


def test_onnx_options(tmp_path, write_onnx):
    path = write_onnx(tmp_path / "m.onnx", side=64)
    raw = open_backbone(f"onnx:{path}")
    one = open_backbone(f"onnx:{path}?norm=imagenet&outputs=one&threads=1")
    images = pictures(1, 64, 64)
    expected = (raw.tokens(images)[0][..., :3] / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert one.dim == 3 and torch.allclose(one.tokens(images)[0], expected, atol=1e-4)
    assert one.hash != raw.hash == open_backbone(f"onnx:{path}").hash
    with pytest.raises(InputError, match="32 x 32"):  # a file for 64 x 64 only
        raw.tokens(pictures(1, 32, 32))


def test_onnx_metadata_sets_the_options(tmp_path, write_onnx):
    import onnx

    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"geoseg.norm": "unit", "geoseg.supervision": "labels of nothing"})
    onnx.save(model, path)
    backbone = open_backbone(f"onnx:{path}")
    assert backbone.supervision == "labels of nothing"
    assert backbone.tokens(pictures())[0].abs().max() <= 1


def test_wrong_onnx_files_are_refused(tmp_path, write_onnx):
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no model")
    good = write_onnx(tmp_path / "good.onnx")
    cases = {
        f"{tmp_path}/absent.onnx": "no such file",
        f"{noise}": "not a readable ONNX file",
        f"{write_onnx(tmp_path / 'flat.onnx', rank=2)}": "4-D float feature maps",
        f"{write_onnx(tmp_path / 'sizes.onnx', second_stride=32)}": "of one size",
        f"{good}?outputs=three": "three",
        f"{good}?norm=other": "imagenet",
        f"{good}?colour=1": "colour",
        f"{good}?threads=no": "threads",
    }
    for file, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            open_backbone(f"onnx:{file}")
        assert "\n" not in str(caught.value)


def test_hub_models(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
    for name in ("ViT", "Dinov2"):
        folder = tmp_path / name
        getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**shape)).save_pretrained(folder)
        backbone = open_backbone(f"hub:{folder}")
        images = pictures(3)
        tokens, whole = backbone.tokens(images)
        assert tokens.shape == (3, 8, 12, 32) and whole.shape == (3, 32) and backbone.stride == 8
        assert torch.allclose(tokens[1:2], backbone.tokens(images[1:2])[0], atol=1e-4)
        assert not torch.allclose(whole, tokens.mean((1, 2)), atol=1e-3)
        assert backbone.hash == open_backbone(f"hub:{folder}").hash != open_backbone(f"hub:{folder}?norm=unit").hash
    with pytest.raises(InputError, match="cannot be loaded"):
        open_backbone(f"hub:{tmp_path}")


def test_hub_without_the_package_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match="transformers, which is not installed"):
        open_backbone("dino_vits8")
