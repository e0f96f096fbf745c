"""What an engine is built from: shapes and profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.sessions import check_inputs, most_items
from geoseg_ros.runtime.engines.spec import EngineSpec, TensorRange

ALONE = TensorRange("x", (1, 8), (1, 16), (1, 64))
TOGETHER = TensorRange("x", (1, 8), (4, 8), (8, 16))


def spec(*inputs, outputs=("y",), precision="fp32"):
    return EngineSpec("image", Path("folder/x.onnx"), inputs, outputs, precision, "a network")


def test_profiles_are_the_first_second_ranges_of_all_inputs() -> None:
    assert spec(ALONE).profiles == ((ALONE,),)
    assert spec(ALONE, TOGETHER).profiles == ((ALONE,), (TOGETHER,))
    other = TensorRange("z", (1,), (2,), (3,))
    assert spec(ALONE, other).profiles == ((ALONE, other),)
    both = spec(ALONE, other, TOGETHER, TensorRange("z", (4,), (4,), (4,)))
    assert both.profile_of({"x": (8, 16), "z": (4,)}) == 1 and both.profile_of({"x": (8, 16), "z": (3,)}) is None


@pytest.mark.parametrize(("shape", "profile"), [((1, 64), 0), ((1, 8), 0), ((2, 8), 1), ((8, 16), 1), ((2, 64), None), ((9, 8), None)])
def test_a_shape_finds_its_profile(shape, profile) -> None:
    given = {"x": torch.zeros(shape)}
    made = spec(ALONE, TOGETHER)
    assert made.profile_of({"x": shape}) == profile
    if profile is not None:
        check_inputs(made, given)
        assert most_items(made, given) == (1, 8)[profile]


def test_wrong_inputs_are_named_in_one_line() -> None:
    made = spec(ALONE, TOGETHER)
    for given, words in (
        ({"x": torch.zeros(2, 64)}, "x 1x8 .. 1x16 .. 1x64; x 1x8 .. 4x8 .. 8x16; got x 2x64"),
        ({"w": torch.zeros(1, 8)}, "got w 1x8"),
        ({}, "got nothing"),
        ({"x": torch.zeros(8)}, "got x 8"),
        ({"x": torch.zeros(1, 8, dtype=torch.float64)}, "x: expected float32, got torch.float64"),
    ):
        with pytest.raises(InputError) as caught:
            check_inputs(made, given)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_impossible_specs_are_refused() -> None:
    for shapes in (((2, 8), (1, 8), (4, 8)), ((1, 8), (1, 9), (1, 8)), ((0, 8), (1, 8), (1, 8)), ((1,), (1, 8), (1, 8))):
        with pytest.raises(ValueError, match="x: expected 1 <= minimum"):
            TensorRange("x", *shapes)
    with pytest.raises(ValueError, match="precision"):
        spec(ALONE, precision="int8")
    for inputs in ((), (ALONE, TOGETHER, TensorRange("z", (1,), (1,), (1,)))):
        with pytest.raises(ValueError, match="inputs"):
            spec(*inputs)


def test_a_spec_survives_json() -> None:
    made = spec(ALONE, TOGETHER, outputs=("y", "z"), precision="fp16")
    assert EngineSpec.from_json(json.loads(json.dumps(made.as_json()))) == made
    for wrong in ({}, made.as_json() | {"inputs": [{"name": "x"}]}, made.as_json() | {"precision": "no"}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            EngineSpec.from_json(wrong)
