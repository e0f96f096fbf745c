"""What an engine is built from: shapes and profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.spec import EngineSpec, ShapeRange

ALONE = ShapeRange((1, 8), (1, 16), (1, 64))
TOGETHER = ShapeRange((1, 8), (4, 8), (8, 16))
SPEC = EngineSpec(Path("folder/x.onnx"), (ALONE, TOGETHER), "fp16", "a network")


@pytest.mark.parametrize(("shape", "profile"), [((1, 64), 0), ((1, 8), 0), ((2, 8), 1), ((8, 16), 1), ((2, 64), None), ((9, 8), None)])
def test_a_shape_finds_its_profile(shape, profile) -> None:
    assert SPEC.profile_of(shape) == profile
    if profile is not None:
        assert SPEC.check(torch.zeros(shape)) == profile


def test_wrong_inputs_are_named_in_one_line() -> None:
    for given, words in (
        (torch.zeros(2, 64), "expected float32 1x8 .. 1x16 .. 1x64; 1x8 .. 4x8 .. 8x16; got torch.float32 2x64"),
        (torch.zeros(8), "got torch.float32 8"),
        (torch.zeros(1, 8, dtype=torch.float64), "got torch.float64 1x8"),
    ):
        with pytest.raises(InputError) as caught:
            SPEC.check(given)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_impossible_ranges_are_refused() -> None:
    for shapes in (((2, 8), (1, 8), (4, 8)), ((1, 8), (1, 9), (1, 8)), ((0, 8), (1, 8), (1, 8)), ((1,), (1, 8), (1, 8))):
        with pytest.raises(ValueError, match=r"expected 1 <= minimum|shorter|longer"):
            ShapeRange(*shapes)


def test_a_spec_survives_json() -> None:
    assert EngineSpec.from_json(json.loads(json.dumps(SPEC.as_json()))) == SPEC
