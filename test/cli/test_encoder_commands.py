"""``geoseg train --recipe encoder`` and ``geoseg adapt-encoder``."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from geoseg_ros.backbones import registry
from geoseg_ros.cli.main import main
from geoseg_ros.cli.recipe_encoder import EncoderRecipe, run
from geoseg_ros.learning.cloud_distillation import EncoderConfig
from geoseg_ros.nets.encoder_file import load_encoder, save_encoder
from geoseg_ros.nets.point_encoder import PointEncoder
from support.fake_world import FakeBackbone
from support.frame_worlds import walk, write_seven_scenes

TINY = EncoderRecipe(
    rooms=2, held_out=1, preset="tiny", frames=2, sweeps=1, background=2, side=160, network={"width": 16, "voxel": 0.1, "drop": 0.0},
    training=EncoderConfig(epochs=2, batch=1, points=100),
)  # fmt: skip


@pytest.mark.slow
def test_recipe_writes_an_encoder_with_its_figures(tmp_path) -> None:
    out = tmp_path / "encoder.safetensors"
    options = argparse.Namespace(
        out=str(out), name="", images=[], clouds=[], without=[], without_clouds=[], seconds=None, backbone="geoseg_tiny", backend="torch",
        device="cpu", json=True,
    )  # fmt: skip
    summary = run(options, TINY)
    found = load_encoder(out)
    assert found.info["steps"] == summary["steps"] == 4 and found.network.voxel == 0.1
    assert len(found.background) and torch.allclose(found.background.norm(dim=1), torch.ones(len(found.background)), atol=1e-2)
    assert {"room", "depth", "depth without colour", "lidar without colour"} <= set(summary["cosine_held_out"])
    assert summary["classes_by_neighbours"]["lidar without colour"].keys() == {"encoder", "untrained", "colour, normal, height"}
    assert not list(tmp_path.glob(".*"))  # intermediate results are gone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "encoder.pack"], "expected a .safetensors file"),
        (["--out", "encoder.safetensors", "--images", "photos"], "cannot be combined with --images"),
    ],
)
def test_recipe_refuses_what_it_cannot_do(arguments, message, capsys) -> None:
    assert main(["train", "--recipe", "encoder", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A folder of posed frames, and an untrained encoder for the tokens of the fake backbone."""
    monkeypatch.setattr(registry, "open_backbone", lambda name, device="cpu": FakeBackbone())
    write_seven_scenes(tmp_path / "room", walk(4))
    save_encoder(
        tmp_path / "start.safetensors", PointEncoder(16, FakeBackbone.dim, drop=0.0), FakeBackbone.hash, torch.zeros(FakeBackbone.dim), {}
    )
    return tmp_path


def test_adapted_encoder_is_another_one_for_the_same_tokens(begun, capsys) -> None:
    out = begun / "mine.safetensors"
    arguments = ["--frames", str(begun / "room"), "--start", str(begun / "start.safetensors"), "--minutes", "0.02", "--out", str(out)]
    assert main(["adapt-encoder", *arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    start, found = load_encoder(begun / "start.safetensors"), load_encoder(out)
    assert found.hash != start.hash == summary["started_from"] and found.backbone == start.backbone
    assert {"room", "depth", "depth without colour"} <= set(summary["cosine_after"]) and summary["steps"] > 0
    assert not list(begun.glob(".mine*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --recording or --frames"),
        (["--frames", "room", "--minutes", "0"], "--minutes: expected more than 0"),
        (["--frames", "absent"], "absent"),
    ],
)
def test_adapting_refuses_what_it_cannot_do(begun, monkeypatch, arguments, message, capsys) -> None:
    monkeypatch.chdir(begun)
    assert main(["adapt-encoder", *arguments, "--start", "start.safetensors", "--out", "mine.safetensors"]) == 2
    assert message in capsys.readouterr().err


def test_encoder_of_another_backbone_is_refused(begun, capsys) -> None:
    save_encoder(begun / "start.safetensors", PointEncoder(16, FakeBackbone.dim), "another", torch.zeros(FakeBackbone.dim), {})
    arguments = ["--frames", str(begun / "room"), "--start", str(begun / "start.safetensors"), "--out", str(begun / "mine.safetensors")]
    assert main(["adapt-encoder", *arguments]) == 2
    assert "another backbone" in capsys.readouterr().err
