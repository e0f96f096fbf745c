"""Parameter files of the node, read without ROS."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.parameter_file import read_parameters
from support.paths import ROOT

FILE = """
/**:
  ros__parameters:
    packs: [mug.pack, can.pack]
    max_points: 1000
    use_sim_time: true
    qos_overrides:
      /lidar:
        subscription: {reliability: reliable}
other_node:
  ros__parameters: {speed: 3}
/robot1/coseg_node:
  ros__parameters:
    pipeline: {coseg: {p_max: 0.01}}
    pipeline.views.views: 3
    tracking: {enabled: false}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "parameters.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_holds_the_defaults() -> None:
    assert read_parameters(ROOT / "config" / "coseg.yaml") == NodeParameters()


def test_names_of_all_levels_are_read_and_assignments_beat_them(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    parameters = read_parameters(path, ["max_points:=2000", "wanted_labels:=[mug]", "tracking.max_distance:=0.25", "target_frame:=odom"])
    assert (parameters.packs, parameters.max_points, parameters.wanted_labels) == (("mug.pack", "can.pack"), 2000, ("mug",))
    assert (parameters.pipeline.coseg.p_max, parameters.pipeline.views.views) == (0.01, 3)
    assert not parameters.tracking.enabled and parameters.tracking.max_distance == 0.25 and parameters.target_frame == "odom"
    assert read_parameters(None) == NodeParameters()


def test_namespaces_may_be_levels_of_their_own(tmp_path: Path) -> None:
    path = written(
        tmp_path, "robot1:\n  coseg_node:\n    ros__parameters: {max_points: 7}\n  '*':\n    ros__parameters: {snapshot_keep: 3}\n"
    )
    parameters = read_parameters(path)
    assert (parameters.max_points, parameters.snapshot_keep) == (7, 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "expected a ROS 2 parameter file, got NoneType"),
        ("[1, 2]", "expected a ROS 2 parameter file, got list"),
        ("a: {b: 3}", "expected a ROS 2 parameter file, got int at /a/b"),
        ("a: [", "not YAML"),
        ("{}", "no ros__parameters in it"),
        ("/**: {ros__parameters: 3}", "ros__parameters of /\\*\\* is no mapping"),
        ("/other: {ros__parameters: {x: 1}}", "no parameters of coseg_node, it has those of /other"),
        ("/**: {ros__parameters: {max_point: 3}}", "parameter max_point: unknown, did you mean max_points"),
        ("/**: {ros__parameters: {max_points: many}}", "parameter max_points: expected an integer.* got 'many'"),
        ("/**: {ros__parameters: {max_points: 0}}", "parameter max_points: expected 1 .. 100000000.*got 0"),
        ("/**: {ros__parameters: {pipeline: {coseg: {p_max: .nan}}}}", "parameter pipeline.coseg.p_max: expected"),
        ("/**: {ros__parameters: {cloud_source: radar}}", "parameter cloud_source: expected one of points, depth, none"),
    ],
)
def test_what_is_no_parameter_file_of_the_node_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        read_parameters(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    bomb = "a: &a {x: 1, y: 2}\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} {{{', '.join(f'k{k}: *{chr(97 + i)}' for k in range(9))}}}\n" for i in range(8)
    )
    indented = "".join(f"    {line}\n" for line in bomb.splitlines())
    for text, line in (
        (f"/**:\n  ros__parameters:\n{indented}", "more than 10000 values"),
        ("{a: " * 30 + "1" + "}" * 30, "nested too deeply"),
        ("/**: {ros__parameters: " + "{a: " * 30 + "1" + "}" * 31, "nested too deeply"),
        ("#" * 2**20 + "#", "larger than 1048576 bytes"),
        ("&a {b: *a}", "nested too deeply"),
    ):
        with pytest.raises(InputError, match=line) as caught:
            read_parameters(written(tmp_path, text))
        assert "\n" not in str(caught.value)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.yaml", tmp_path, tmp_path / "nowhere.yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            read_parameters(path)


@pytest.mark.parametrize("text", ["max_points", ":=3", "max_points:=[", "unknown:=3", "max_points:=x"])
def test_bad_assignments_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="parameter"):
        read_parameters(None, [text])


# ---- whatever a file holds: parameters, or one InputError of one line

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def refused_or_read(path: Path) -> NodeParameters | None:
    try:
        return read_parameters(path)
    except InputError as error:
        assert "\n" not in str(error)
        return None


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["max_points", "packs", "device", "target_frame", "pipeline.coseg.p_max", "pipeline", "tracking", "packz", "*"])


@FEW
@given(values=st.dictionaries(NAMES, YAML_VALUES, max_size=3), node=st.sampled_from(["/**", "coseg_node", "other", ""]), deep=st.booleans())
def test_parameter_files(values: dict[str, Any], node: str, deep: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(yaml.safe_dump({node: {"ros__parameters": values}} if deep else values, allow_unicode=True))
        found = refused_or_read(path)
    assert found is None or found.max_points >= 1


@FEW
@given(text=st.binary(max_size=80))
def test_parameter_files_of_any_bytes(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_bytes(text)
        refused_or_read(path)


def test_strange_names_stay_on_one_line(tmp_path: Path) -> None:
    for tree in (
        {"max_points": {"\n0": None}},
        {"/**": {"ros__parameters": {"max\n_points": 1}}},
        {"\n": {"ros__parameters": {"max_points": 1}}},
    ):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
        assert refused_or_read(tmp_path / "a.yaml") is None
