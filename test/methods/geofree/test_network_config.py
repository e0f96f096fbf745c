"""The register of open decisions: presets, and that every setting is read somewhere."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

import geoseg_ros
from geoseg_ros.errors import InputError
from geoseg_ros.methods.geofree.config import NetworkConfig, preset
from geoseg_ros.settings import with_values


def leaves(config):
    for f in fields(config):
        value = getattr(config, f.name)
        yield from leaves(value) if is_dataclass(value) else [f.name]


def test_paper_types_the_formulas_in_as_printed():
    paper = preset("paper").network
    assert paper.sampler.mutual == "released" and paper.sampler.choose == "pool" and paper.loss.tau_object == 0.007
    assert paper.gcsf.mask_mode == "paper" and paper.sfe.prior_mode == "paper" and paper.gcsf.tau_z == 1.0
    assert paper.mgcm.squash == "sigmoid" and paper.mgcm.signal == "correlation" and not paper.mgcm.standardise
    assert not paper.loss.cross_concept and paper.loss.po_pool == "gap"
    # what the paper fixes is the same in both
    for config in (paper, preset("views").network):
        assert (config.gcsf.k, config.mgcm.cls_weight, config.sfe.scale) == (20, 0.2, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mgcm.squash", "hard", "mgcm.squash: expected one of minmax, sigmoid, got 'hard'"),
        ("gcsf.k", 0, "gcsf.k: expected at least 1, got 0"),
        ("gcsf.tau_z", 0.0, "gcsf.tau_z: expected at least 1e-06, got 0.0"),
        ("loss.sem", float("inf"), "loss.sem: expected at least 0, got inf"),
        ("sfe.heads", 5, "sfe.heads: 5 does not divide gcsf.width 128"),
        ("sampler.samples", 1025, "sampler.samples: scores draw two sets apart, expected at most half of 2048 points"),
        ("sampler.samples", 1, "sampler.samples: expected at least 2, got 1"),
    ],
)
def test_wrong_settings_are_one_line(name, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        with_values(NetworkConfig(), {name: value})


def test_every_setting_is_read():
    folder = Path(geoseg_ros.__file__).parent / "methods" / "geofree"
    files = [f for f in folder.glob("*.py") if f.name != "config.py"]
    read = {n.attr for f in files for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.Attribute)}
    assert set(leaves(NetworkConfig())) <= read


def test_settings_survive_json():
    for name in ("views", "paper"):
        assert with_values(NetworkConfig(), json.loads(json.dumps(asdict(preset(name).network)))) == preset(name).network
    assert with_values(NetworkConfig(), {"contrast": 7}) == replace(NetworkConfig(), contrast=7)
    for values in ({"contrast": "7"}, {"mgcm": {"standardise": 1}}):
        with pytest.raises(InputError):
            with_values(NetworkConfig(), values)
