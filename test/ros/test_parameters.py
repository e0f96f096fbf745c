"""Parameters from dataclasses, and the throttle of the log, without a node."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from geoseg_ros.errors import InputError
from geoseg_ros.ros.parameters import NodeParameters, build, specs
from geoseg_ros.ros.worker import Throttle


@dataclass(frozen=True)
class Inner:
    size: int = field(default=3, metadata={"help": "how large", "range": (1, 9)})
    ratio: float = field(default=0.5, metadata={"range": (0.0, float("inf"))})

    def __post_init__(self):
        if self.size == 4:
            raise ValueError("size: four is no size")


@dataclass(frozen=True)
class Outer:
    mode: Literal["fast", "good"] = "good"
    names: tuple[str, ...] = ()
    numbers: tuple[float, ...] = (1.0, 2.0)
    inner: Inner = field(default_factory=Inner)


def test_nested_dataclasses_become_dotted_names():
    table = {spec.name: spec for spec in specs(Outer())}
    assert list(table) == ["mode", "names", "numbers", "inner.size", "inner.ratio"]
    assert table["names"].default == [""] and table["numbers"].kind == Parameter.Type.DOUBLE_ARRAY
    size = table["inner.size"].descriptor()
    assert (size.description, size.read_only) == ("how large", True)
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (1, 9)
    assert table["inner.ratio"].descriptor().floating_point_range[0].to_value > 1e300
    assert table["mode"].descriptor().additional_constraints == "one of: fast, good"


def test_values_are_built_into_the_dataclass():
    new = build(Outer(), {"inner.size": 5, "names": ["a", ""], "numbers": None})
    assert new == Outer(names=("a",), numbers=(), inner=Inner(size=5))
    with pytest.raises(InputError, match="size: four is no size"):
        build(Outer(), {"inner.size": 4})


def test_fields_that_ros_cannot_hold_are_a_programming_error():
    @dataclass(frozen=True)
    class Odd:
        table: dict = field(default_factory=dict)

    with pytest.raises(TypeError, match="Odd.table"):
        specs(Odd())


def test_defaults_of_the_node_obey_their_own_descriptors():
    for spec in specs(NodeParameters()):
        descriptor = spec.descriptor()
        for span in (*descriptor.integer_range, *descriptor.floating_point_range):
            assert span.from_value <= spec.default <= span.to_value, spec.name
        choices = spec.about.get("choices", ())
        assert not choices or spec.default in choices, spec.name


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
