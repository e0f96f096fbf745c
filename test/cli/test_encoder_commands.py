"""``geoseg train --recipe encoder``."""

from __future__ import annotations

import argparse

import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.cli.recipe_encoder import EncoderRecipe, run
from geoseg_ros.learning.cloud_distillation import EncoderConfig
from geoseg_ros.nets.encoder_file import load_encoder

TINY = EncoderRecipe(
    rooms=2, held_out=1, preset="tiny", frames=2, views=1, sweeps=1, side=160, network={"width": 16, "voxel": 0.1, "drop": 0.0},
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
