"""config/ says the same as the code. Run this file to write config/coseg.yaml anew after a change of the parameters."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from support.paths import ROOT

YAML = ROOT / "config" / "coseg.yaml"
HEADER = """\
# Every parameter of coseg_node with its default; none need be given. `ros2 param describe` shows the same texts.
# Those marked (live) may be changed while the node runs. The key /** fits every node name and namespace.
"""


def documented(kind: type, name: str) -> str:
    """What the docstring of a dataclass says of a field: the text after ``name:`` up to the next field."""
    names = "|".join(f.name for f in fields(kind))
    text = inspect.getdoc(kind) or ""
    found = re.search(rf"^ *{name}: (.*?)(?=^ *(?:{names})\b[\w, ]*: |\Z)", text, re.M | re.S)
    return " ".join(found[1].split()).replace("``", "").rstrip(".") if found else ""


def yaml_value(value: Any) -> str:
    """As ROS reads it: a float keeps its point, and [""] stands for an empty list, which has no type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if re.search(r"[.n]", repr(value)) else f"{value:.1e}"
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(yaml_value(v) for v in value)}]" if isinstance(value, list) else str(value)


def config_lines(defaults: Any, prefix: str = "", indent: int = 4) -> list[str]:
    """The parameters of a dataclass instance as lines of YAML, each under its comment."""
    from geoseg_ros.ros.parameters import specs

    table = {spec.name: spec for spec in specs(defaults)}
    lines: list[str] = []
    for entry in fields(defaults):
        value = getattr(defaults, entry.name)
        pad = " " * indent
        if is_dataclass(value):
            lines += [f"{pad}{entry.name}:", *config_lines(value, f"{prefix}{entry.name}.", indent + 2)]
            continue
        spec = table[entry.name]
        text = spec.about.get("help") or documented(type(defaults), entry.name)
        assert text, f"{prefix}{entry.name} is not documented"
        if spec.about.get("choices"):
            text += f"; one of {', '.join(spec.about['choices'])}"
        if spec.about.get("range"):
            text += "; {} .. {}".format(*spec.about["range"])
        if spec.about.get("changeable"):
            text += " (live)"
        lines += textwrap.wrap(text, 130, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")
        lines.append(f"{pad}{entry.name}: {yaml_value(spec.default)}")
    return lines


def config_text() -> str:
    """config/coseg.yaml as it should be."""
    from geoseg_ros.ros.parameters import NodeParameters

    return "\n".join([HEADER + "/**:", "  ros__parameters:", *config_lines(NodeParameters())]) + "\n"


def test_config_file_names_every_parameter_with_its_default() -> None:
    pytest.importorskip("rclpy", reason="the parameters are declared with rclpy")
    assert YAML.read_text() == config_text(), f"run: python {Path(__file__).relative_to(ROOT)}"


def test_node_reads_config_file() -> None:
    rclpy = pytest.importorskip("rclpy", reason="the parameters are declared with rclpy")
    from geoseg_ros.ros.parameters import NodeParameters, declare, refuse_unknown

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=101)
    node = rclpy.create_node("coseg_node", namespace="/robot", context=context, cli_args=["--ros-args", "--params-file", str(YAML)])
    try:
        assert len(node._parameter_overrides) > 10
        assert declare(node, NodeParameters()) == NodeParameters()
        refuse_unknown(node)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_fastdds_profile_has_room_for_large_messages() -> None:
    tree = ElementTree.parse(ROOT / "config" / "fastdds_shm.xml")
    space = {"d": "http://www.eprosima.com"}
    kinds = {t.findtext("d:transport_id", namespaces=space): t for t in tree.iterfind(".//d:transport_descriptor", space)}
    used = [t.text for t in tree.iterfind(".//d:userTransports/d:transport_id", space)]
    assert sorted(used) == sorted(kinds)
    shared = next(t for t in kinds.values() if t.findtext("d:type", namespaces=space) == "SHM")
    segment, message = (int(shared.findtext(f"d:{n}", namespaces=space) or 0) for n in ("segment_size", "maxMessageSize"))
    assert segment >= 64 << 20 and 1 << 20 <= message < segment


def test_costmap_example_listens_to_the_obstacles() -> None:
    source = (ROOT / "geoseg_ros" / "ros" / "publishers.py").read_text()
    example = yaml.safe_load((ROOT / "config" / "nav2_costmap_example.yaml").read_text())
    costmap = example["local_costmap"]["local_costmap"]["ros__parameters"]
    layers = {name: costmap[name] for name in costmap["plugins"]}
    sources = {name: layer[name] for layer in layers.values() for name in layer.get("observation_sources", "").split()}
    node, _, topic = sources["concepts"]["topic"].strip("/").partition("/")
    assert node == "coseg_node" and f'"{topic}"' in source and sources["concepts"]["data_type"] == "PointCloud2"
    assert not sources["concepts"]["clearing"] and any(entry["clearing"] for entry in sources.values())
    assert "config/nav2_costmap_example.yaml" in (ROOT / "docs" / "navigation.md").read_text()


if __name__ == "__main__":
    YAML.write_text(config_text())
