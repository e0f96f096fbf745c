"""Distillation on a handful of generated pictures with a teacher made for the test."""

import json
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.tiny import load_tiny
from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.backbones import known_again, milliseconds
from geoseg_ros.learning import distillation as room
from geoseg_ros.learning.distillation import DistillConfig, agreement, distill, fit_projection, teacher_tokens
from geoseg_ros.learning.image_views import GREY, disturb, list_images, square
from support.distillation_world import Teacher, small_student, write_photos

pytestmark = pytest.mark.train

CONFIG = DistillConfig(epochs=24, batch=4, sides=(64,), projection_views=24, held_out=4, average=0.8, rate=4e-3, warm_up=5)


@pytest.fixture(autouse=True)
def students_are_small(monkeypatch):
    monkeypatch.setattr(room, "TinyConfig", small_student)


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_it_learns_and_is_repeatable(photos, tmp_path):
    seen = []
    summary = distill(Teacher(), list_images([photos]), tmp_path / "a.safetensors", CONFIG, report=lambda p, f: seen.append((p, f["loss"])))
    again = distill(Teacher(), list_images([photos]), tmp_path / "b.safetensors", CONFIG)
    assert summary["loss_last"] < 0.9 * summary["loss_first"] and summary["cosine"] > 0.2
    assert summary["images"] == 9 and summary["held_out_images"] == 3 and summary["steps"] == 54
    assert seen[-1][0] == 1.0 and len(seen) == 54
    assert again["loss_last"] == summary["loss_last"]
    backbone = open_backbone(f"geoseg_tiny:{tmp_path / 'a.safetensors'}")
    assert backbone.dim == 8 and "none" in backbone.supervision
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "photos"]  # no temporary files


def test_checkpoints_leave_a_usable_file(photos, tmp_path, monkeypatch):
    out = tmp_path / "s.safetensors"
    usable = []

    def stop(progress, figures):
        if out.exists():
            usable.append(load_tiny(out)[2]["steps"])
        if len(usable) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(Teacher(), list_images([photos]), out, replace(CONFIG, checkpoint_minutes=0.0), report=stop)
    assert usable == sorted(usable) and usable[0] >= 1
    load_tiny(out)


def test_an_interrupted_run_ends_with_the_same_bytes(photos, tmp_path):
    paths, out, steps = list_images([photos]), tmp_path / "broken.safetensors", []
    config = replace(CONFIG, epochs=4, checkpoint_minutes=0.0)  # 9 steps
    distill(Teacher(), paths, tmp_path / "whole.safetensors", replace(config, checkpoint_minutes=60.0))

    def stop(progress, figures):
        steps.append(progress)
        if len(steps) in (1, 6, 9):
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            distill(Teacher(), paths, out, config, report=stop)
        assert (tmp_path / "broken.safetensors.state").is_file()
    with pytest.raises(InputError, match="the state of another training"):
        distill(Teacher(), paths, out, replace(config, seed=1))
    with pytest.raises(InputError, match="the state of another training"):
        distill(Teacher(), paths[:-1], out, config)
    summary = distill(Teacher(), paths, out, config, report=stop)
    assert summary["steps"] == 9 and len(steps) == 9
    whole, broken = (load_tiny(path)[0].state_dict() for path in (tmp_path / "whole.safetensors", out))
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.safetensors", "photos", "whole.safetensors"]


def test_it_goes_on_from_earlier_weights(photos, tmp_path):
    paths = list_images([photos])
    first = distill(Teacher(), paths, tmp_path / "a.safetensors", CONFIG)
    second = distill(Teacher(), paths, tmp_path / "b.safetensors", CONFIG, start=tmp_path / "a.safetensors")
    assert second["loss_first"] < 0.9 * first["loss_first"]
    other = Teacher()
    other.hash = "another"
    third = distill(other, paths, tmp_path / "c.safetensors", CONFIG, start=tmp_path / "a.safetensors")
    assert third["loss_last"] < third["loss_first"] and third["teacher_hash"] == "another"
    kept, fitted = (load_tiny(tmp_path / f"{name}.safetensors")[1].matrix for name in ("b", "c"))
    assert torch.equal(kept, load_tiny(tmp_path / "a.safetensors")[1].matrix) and fitted.abs().sum() > 0


@pytest.mark.parametrize("stride", [8, 14, 16, 32])
def test_any_stride_of_the_teacher_gives_the_same_grid(stride):
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    tokens = teacher_tokens(Teacher(stride), image[None])
    assert tokens.shape == (1, 4, 4, 24)
    same = teacher_tokens(Teacher(16), image[None])
    assert torch.cosine_similarity(tokens[..., :12], same[..., :12], dim=-1).mean() > 0.9


def test_projection_is_centred_and_ordered():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4000, 12, generator=generator) * torch.logspace(1, -1, 12) + 5
    for whitening in (0.0, 0.5, 1.0):
        projected = fit_projection(tokens, 6, whitening)(tokens)
        spread = projected.std(0)
        assert projected.mean(0).abs().max() < 1e-3
        assert projected.square().mean().item() == pytest.approx(1.0, rel=0.01)
        assert spread[0] / spread[5] == pytest.approx(10 ** ((2 / 11) * 5 * (1 - whitening)), rel=0.15)
    with pytest.raises(InputError, match="at least 13"):
        fit_projection(tokens, 13, 0.5)


def test_agreement_bounds():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(20, 4, 4, 8, generator=generator)
    assert agreement(tokens, 3 * tokens) == 1.0
    assert agreement(tokens, torch.randn(20, 4, 4, 8, generator=generator)) < 0.1


def test_places_are_known_again_by_what_withstands_the_disturbance():
    rng = np.random.default_rng(3)
    pictures = [cv2.resize(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC) for _ in range(6)]

    generator = torch.Generator().manual_seed(0)

    class Blind(Teacher):
        def tokens(self, images):
            tokens = torch.from_numpy(np.random.default_rng(0).normal(size=(*super().tokens(images)[0].shape[:3], 24)))
            return tokens[torch.randperm(len(tokens), generator=generator)].float(), tokens.mean((1, 2)).float()

    class Gradients(Teacher):
        """Signs of the slopes of brightness, which changes of colour and contrast leave alone."""

        def tokens(self, images):
            grey = torch.from_numpy(images).float().mean(3)
            parts = F.avg_pool2d(grey[:, None], 4)[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).flatten(3)
            tokens = parts - parts.mean(3, keepdim=True)
            return tokens, tokens.mean((1, 2))

    blind, colours, slopes = (known_again(backbone, pictures) for backbone in (Blind(), Teacher(), Gradients()))
    assert blind < 0.1 < colours and slopes > colours + 0.03 and slopes == known_again(Gradients(), pictures)


def test_milliseconds_are_of_one_picture():
    seen = []

    class Slow(Teacher):
        def tokens(self, images):
            seen.append(images.shape)
            time.sleep(0.02)
            return super().tokens(images)

    assert 5 <= milliseconds(Slow(14), 4, 100, runs=3) < 100
    assert seen == [(4, 98, 98, 3)] * 4


def test_the_student_is_disturbed_but_the_background_is_not():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 120, (64, 64, 3), dtype=np.uint8)
    image[:20] = GREY
    changed = [disturb(image, rng) for _ in range(40)]
    assert all((c[:20] == GREY).all() for c in changed)
    grey = [c for c in changed if (np.ptp(c.astype(int), axis=2) <= 1).all()]
    assert 3 < len(grey) < 25  # some look like shaded geometry
    assert len({c.tobytes() for c in changed}) > 30


def test_command(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geoseg_ros.backbones.registry.open_backbone", lambda spec: Teacher())
    out = tmp_path / "s.safetensors"
    given = ["distill", "--teacher", "toy", "--images", str(photos), "--out", str(out), "--batch", "5", "--json"]
    monkeypatch.setattr(room, "random_view", lambda image, side, rng: np.ascontiguousarray(square(image, 32)))  # quick
    assert main([*given, "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["teacher"] == "toy" and summary["steps"] == 2 and "cosine to the teacher" in printed.err
    compared = summary.pop("side_by_side")
    assert load_tiny(out)[2] == summary
    assert [(compared[kind]["stride"], compared[kind]["dim"]) for kind in ("teacher", "student")] == [(16, 24), (16, 8)]
    for kind in ("teacher", "student"):
        assert min(compared[kind]["milliseconds"]) > 0 and 0 <= compared[kind]["known_again"] <= 1
        (line,) = [line for line in printed.err.splitlines() if line.startswith(kind)]
        assert line.split()[-1] == f"{compared[kind]['known_again']:.3f}"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--epochs": None}, "--epochs or --minutes"),
        ({"--epochs": "0"}, "--epochs"),
        ({"--epochs": "nan"}, "--epochs"),
        ({"--batch": "0"}, "--batch"),
        ({"--seed": "-1"}, "--seed"),
        ({"--threads": "0"}, "--threads"),
        ({"--out": "s.pt"}, ".safetensors"),
        ({"--images": "absent"}, "absent: no such folder"),
        ({"--teacher": "nothing"}, "backbone 'nothing'"),
        ({"--teacher": "absent.onnx"}, "absent.onnx: no such file"),
    ],
)
def test_wrong_command_lines_are_refused(tmp_path, capsys, monkeypatch, changed, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.png").touch()
    given = {"--teacher": "geoseg_tiny", "--images": "some", "--out": "s.safetensors", "--epochs": "1"} | changed
    assert main(["distill", *(part for pair in given.items() if pair[1] is not None for part in pair)]) == 2
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


def test_sides_must_fit_the_stride():
    with pytest.raises(InputError, match="sides: expected multiples of 32"):
        DistillConfig(epochs=1, sides=(64, 100))


def test_folders_without_usable_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="no images"):
        list_images([tmp_path])
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="a.png: 10 bytes that cannot be decoded, expected an image"):
        distill(Teacher(), [tmp_path / "a.png"] * 4, tmp_path / "s.safetensors", CONFIG)
