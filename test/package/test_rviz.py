"""config/coseg.rviz fits the node, and RViz: RViz itself cannot run here, and says nothing about what it does not know.

The names of classes, properties and options are those of rviz_common and rviz_default_plugins; they are the same in their Humble, Jazzy
and Rolling sources.
"""

from __future__ import annotations

import ast
from typing import Any

import pytest
import yaml

from geoseg_ros.io.messages import LABELLED_FIELDS
from support.paths import ROOT

CONFIG = yaml.safe_load((ROOT / "config" / "coseg.rviz").read_text())
MANAGER = CONFIG["Visualization Manager"]
DISPLAYS = MANAGER["Displays"]

TYPES = {"PointCloud2": "PointCloud2", "MarkerArray": "MarkerArray", "Image": "Image"}  # display -> what it subscribes
OWN: dict[str, set[str]] = {
    "Grid": {"Alpha", "Cell Size", "Color", "Line Style", "Normal Cell Count", "Offset", "Plane", "Plane Cell Count", "Reference Frame"},
    "PointCloud2": {
        *("Alpha", "Color Transformer", "Decay Time", "Position Transformer", "Selectable", "Size (Pixels)", "Size (m)", "Style"),
        *("Autocompute Intensity Bounds", "Channel Name", "Invert Rainbow", "Max Color", "Max Intensity", "Min Color", "Min Intensity"),
        *("Use rainbow", "Color"),
    },
    "MarkerArray": {"Namespaces"},
    "Image": {"Max Value", "Median window", "Min Value", "Normalize Range"},
}
COMMON = {"Class", "Name", "Enabled", "Value", "Topic"}
OPTIONS = {
    "Style": {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"},
    "Color Transformer": {"Intensity", "RGB8", "RGBF32", "AxisColor", "FlatColor"},
    "Position Transformer": {"XYZ"},
    "Plane": {"XY", "XZ", "YZ"},
}
TOPIC = {
    "History Policy": {"Keep Last", "Keep All", "System Default"},
    "Reliability Policy": {"Reliable", "Best Effort", "System Default"},
    "Durability Policy": {"Volatile", "Transient Local", "System Default"},
}
TOOLS = {"FocusCamera", "Interact", "Measure", "MoveCamera", "PublishPoint", "Select", "SetGoal", "SetInitialPose"}
PANELS = {"Displays", "Help", "Selection", "Time", "Tool Properties", "Transformation", "Views"}
ORBIT = {"Class", "Name", "Value", "Distance", "Focal Point", "Near Clip Distance", "Pitch", "Target Frame", "Yaw"}


def published() -> dict[str, str]:
    """Topic of the node's outputs -> name of the message class, read from where they are made."""
    tree = ast.parse((ROOT / "geoseg_ros" / "ros" / "publishers.py").read_text())
    found = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "_publisher":
            kind, name = call.args
            assert isinstance(name, ast.Constant)
            found[str(name.value)] = kind.id if isinstance(kind, ast.Name) else kind.attr if isinstance(kind, ast.Attribute) else ""
    return found


def kind_of(display: dict[str, Any]) -> str:
    package, _, name = display["Class"].partition("/")
    assert package == "rviz_default_plugins"
    return name


SHOWN = [d for d in DISPLAYS if kind_of(d) in TYPES]


def test_the_nodes_outputs_are_known() -> None:
    topics = published()
    assert topics["points_labeled"] == "PointCloud2" and topics["overlay"] == "Image" and topics["markers"] == "MarkerArray"


@pytest.mark.parametrize("display", SHOWN, ids=lambda d: d["Name"])
def test_displays_show_topics_of_the_node_with_their_types(display: dict[str, Any]) -> None:
    topic = display["Topic"]
    node, _, name = topic["Value"].partition("/")
    assert node == "coseg_node", "relative, so that a namespace works"
    assert published()[name] == TYPES[kind_of(display)]
    assert set(topic) == {"Value", "Depth", *TOPIC} and topic["Depth"] >= 1
    assert all(topic[policy] in options for policy, options in TOPIC.items())
    assert (topic["Reliability Policy"], topic["Durability Policy"]) == ("Reliable", "Volatile"), "as the node offers"


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda d: d["Name"])
def test_properties_are_those_of_the_displays(display: dict[str, Any]) -> None:
    assert set(display) - COMMON <= OWN[kind_of(display)]
    assert all(display[name] in options for name, options in OPTIONS.items() if name in display)
    if display.get("Color Transformer") == "Intensity":
        assert display["Channel Name"] in dict(LABELLED_FIELDS)
        assert not display["Autocompute Intensity Bounds"], "or colours would change from cloud to cloud"
    if display.get("Color Transformer") == "RGB8":
        assert "rgb" in dict(LABELLED_FIELDS)


def test_clouds_boxes_and_overlay_are_on() -> None:
    on = [kind_of(d) for d in DISPLAYS if d["Enabled"]]
    assert sorted(on) == ["Grid", "Image", "MarkerArray", "PointCloud2"], "one cloud at a time"
    assert len({d["Name"] for d in DISPLAYS}) == len(DISPLAYS)


def test_the_rest_of_the_window_exists() -> None:
    assert {panel["Class"] for panel in CONFIG["Panels"]} <= {f"rviz_common/{name}" for name in PANELS}
    assert {tool["Class"] for tool in MANAGER["Tools"]} <= {f"rviz_default_plugins/{name}" for name in TOOLS}
    assert set(MANAGER["Global Options"]) <= {"Background Color", "Fixed Frame", "Frame Rate"}
    view = MANAGER["Views"]["Current"]
    assert view["Class"] == "rviz_default_plugins/Orbit" and set(view) <= ORBIT
