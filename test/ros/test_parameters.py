"""Settings as ROS parameters, and the throttle of the log."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from geoseg_ros.errors import InputError
from geoseg_ros.ros.parameters import declare, descriptor, follow, ros_default, ros_type
from geoseg_ros.ros.worker import Throttle
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.settings import Settings, list_settings, section, setting


@dataclass(frozen=True)
class Inner(Settings):
    size: int = setting(3, "how large", unit="m", range=(1, 9), live=True)
    ratio: float = setting(0.5, "how wide", range=(0.0, math.inf))


@dataclass(frozen=True)
class Outer(Settings):
    mode: Literal["fast", "good"] = setting("good", "how well", live=True)
    names: tuple[str, ...] = setting((), "of what", live=True, path=True)
    numbers: tuple[float, ...] = setting((1.0, 2.0), "how many", range=(0.0, 10.0))
    inner: Inner = section(Inner, "what is inside")


@pytest.fixture
def make_node() -> Iterator[Any]:
    """A node that was given these parameters."""
    context, nodes = Context(), []
    rclpy.init(context=context, domain_id=101)

    def make(**values: object) -> Node:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(rclpy.create_node("settings_test", context=context, parameter_overrides=overrides, use_global_arguments=False))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_descriptors() -> None:
    table = {entry.name: entry for entry in list_settings(Outer())}
    assert ros_default(table["names"]) == [""] and ros_type(table["numbers"]) == Parameter.Type.DOUBLE_ARRAY
    size = descriptor(table["inner.size"])
    assert (size.description, size.read_only) == ("how large [m]", False)
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (1, 9)
    ratio = descriptor(table["inner.ratio"])
    assert ratio.read_only and ratio.floating_point_range[0].to_value > 1e300
    assert descriptor(table["mode"]).additional_constraints == "one of: fast, good"


def test_values_are_declared_and_followed(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/robot")
    node, stored = make_node(**{"inner.ratio": 0.75, "names": ["~/a"]}), []
    first = declare(node, Outer())
    assert first == Outer(names=("/home/robot/a",), inner=Inner(ratio=0.75))
    follow(node, first, lambda new: "no" if new.inner.size == 2 else "", stored.append)

    def set_(name: str, value: object) -> str:
        result = node.set_parameters([Parameter(name, value=value)])[0]
        return "" if result.successful else result.reason

    assert set_("mode", "slow") == "mode: expected one of fast, good, got 'slow'"
    assert set_("inner.size", 2) == "no" and set_("inner.size", 12) and set_("inner.ratio", 1.0) and not stored
    assert not set_("inner.size", 5) and not set_("mode", "fast") and not set_("names", [""])
    assert stored[-1] == Outer("fast", inner=Inner(5, 0.75))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("mode", "slow", "parameter mode: expected one of fast, good, got 'slow'"),
        ("inner.size", "large", "parameter inner.size: expected integer, got 'large'"),
        ("inner.size", 12, "parameter inner.size: .*out of range"),
        ("numbers", [1.0, 11.0], "parameter numbers: expected 0 .. 10, got 11.0"),
    ],
)
def test_bad_values_are_refused_at_the_start(make_node: Any, name: str, value: object, line: str) -> None:
    with pytest.raises(InputError, match=line):
        declare(make_node(**{name: value}), Outer())


def test_every_parameter_of_the_node_describes_itself(make_node: Any) -> None:
    """Over a real node, as ``ros2 param describe`` asks for it."""
    node, defaults = make_node(), NodeParameters()
    assert declare(node, defaults) == defaults
    names = [entry.name for entry in list_settings(defaults)]
    assert len(names) >= 69
    for described in node.describe_parameters(names):
        assert len(described.description) > 4, described.name
        spans = [*described.integer_range, *described.floating_point_range]
        assert len(spans) == (described.type in (Parameter.Type.INTEGER.value, Parameter.Type.DOUBLE.value)), described.name
        for span in spans:
            assert span.from_value <= node.get_parameter(described.name).value <= span.to_value, described.name


def test_throttle():
    now = [0.0]
    throttle = Throttle(10.0, lambda: now[0])
    assert throttle("12 bytes, expected 13") == "12 bytes, expected 13"
    assert throttle("another line") == "another line"
    for i in range(4):
        now[0] += 1.0
        assert throttle(f"{i} bytes, expected 13") is None
    now[0] += 10.0
    assert throttle("5 bytes, expected 13") == "5 bytes, expected 13 (and 4 more like this)"
