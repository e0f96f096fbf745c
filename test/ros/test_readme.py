"""The tables of README.md and docs/node.md name what the node has: parameters, topics, services."""

import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from geoseg_ros.ros.message_types import vision_msgs
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.settings import list_settings
from support.paths import ROOT

pytestmark = pytest.mark.dds

README = ROOT / "README.md"
NODE = ROOT / "docs" / "node.md"


def rows(page: Path, head: str) -> list[list[str]]:
    """The cells of the table of a page whose first column has this head."""
    lines = page.read_text().splitlines()
    (start,) = [i for i, line in enumerate(lines) if re.match(rf"\| {head} \|", line)]
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return table


def names(page: Path, head: str) -> set[str]:
    """The names in the first column, without ~/."""
    return {name.strip("` ").removeprefix("~/") for row in rows(page, head) for name in row[0].split(",")}


def test_parameters():
    table = {entry.name: entry for entry in list_settings(NodeParameters())}
    assert len(rows(NODE, "parameter")) > 5
    for cell, default, about in rows(NODE, "parameter"):
        name = cell.strip("`")
        if name.endswith(".*"):
            assert any(known.startswith(name[:-1]) for known in table)
            continue
        entry = table[name]
        shown = {"true": True, "false": False, "": "", "all": ""}.get(default.strip("`"), default.strip("`"))
        value = entry.default or "" if entry.kind is str else entry.default
        assert shown == value if isinstance(value, (bool, str)) else float(shown) == value, name
        assert entry.live == about.endswith("live"), f"{name}: live or not"


def test_topics_and_services(live):
    node = live(listen=()).node
    base = f"{node.get_fully_qualified_name()}/"
    ours = {p.topic_name.removeprefix(base) for p in node.publishers if p.topic_name.startswith(base)} | {"/diagnostics"}
    for page in (README, NODE):
        wanted = names(page, "output") - {"map_labeled"}  # only where the map is on
        if vision_msgs is None:
            wanted -= {"detections", "vision_info"}
        assert wanted == ours - {"transition_event"}
    assert names(NODE, "service") <= {s.srv_name.removeprefix("~/").removeprefix(base) for s in node.services}
    subscribed = {s.topic_name.removeprefix(base) for s in node.subscriptions if s.topic_name.startswith(base)}
    assert subscribed <= names(README, "input") == names(NODE, "input")
