"""Settings: declaration, checks, dotted names, and every settings class of the package."""

import importlib
import json
import math
import pkgutil
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Literal

import pytest

import geoseg_ros
from geoseg_ros.errors import InputError
from geoseg_ros.settings import (
    Settings,
    declared,
    list_sections,
    list_settings,
    section,
    setting,
    unknown_setting,
    with_values,
)


@dataclass(frozen=True)
class Inner(Settings):
    size: int = setting(3, "how large", unit="m", range=(1, 9), live=True)
    ratio: float = setting(0.5, "how wide", range=(0.0, math.inf))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size == 4:
            raise InputError("size: four is no size")


@dataclass(frozen=True)
class Outer(Settings):
    mode: Literal["fast", "good"] = setting("good", "how well")
    names: tuple[str, ...] = setting((), "of what", path=True)
    pair: tuple[float, float] = setting((1.0, 2.0), "two numbers", range=(-math.inf, 10.0))
    limit: float | None = setting(None, "an end, or none", range=(-math.inf, math.inf))
    on: bool = setting(True, "whether")
    device: str = setting("cpu", "where", choices=("cpu", "cuda"))
    inner: Inner = section(lambda: Inner(ratio=0.25), "what is inside")


def test_nested_settings_have_dotted_names_and_their_own_defaults() -> None:
    table = {entry.name: entry for entry in list_settings(Outer())}
    assert list(table) == ["mode", "names", "pair", "limit", "on", "device", "inner.size", "inner.ratio"]
    assert table["inner.ratio"].default == 0.25 and declared(Inner)["ratio"].default == 0.5
    assert (table["pair"].kind, table["pair"].many, table["pair"].length) == (float, True, 2)
    assert (table["limit"].kind, table["limit"].optional, table["mode"].choices) == (float, True, ("fast", "good"))
    assert list_sections(Outer()) == {"inner": "what is inside"}


def test_texts() -> None:
    table = {entry.name: entry.text for entry in list_settings(Outer())}
    assert table["inner.size"] == "how large [m, 1 .. 9, live]"
    assert table["inner.ratio"] == "how wide [at least 0]"
    assert table["pair"] == "two numbers [at most 10]"
    assert table["limit"] == "an end, or none"
    assert table["mode"] == "how well [one of fast, good]"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("mode", "slow", "mode: expected one of fast, good, got 'slow'"),
        ("device", 3, "device: expected one of cpu, cuda, got 3"),
        ("names", "a", "names: expected a list, got 'a'"),
        ("names", ("a", 2), "names: expected a text, got 2"),
        ("pair", (1.0,), r"pair: expected a list of 2, got \(1.0,\)"),
        ("pair", (1.0, 11.0), "pair: expected at most 10, got 11.0"),
        ("limit", math.nan, "limit: expected a finite number, got nan"),
        ("limit", "many", "limit: expected a number, got 'many'"),
        ("on", 1, "on: expected true or false, got 1"),
        ("inner.size", 12, "inner.size: expected 1 .. 9 m, got 12"),
        ("inner.size", 2.0, "inner.size: expected an integer, got 2.0"),
        ("inner.size", True, "inner.size: expected an integer, got True"),
        ("inner.size", None, "inner.size: expected an integer, got None"),
        ("inner.size", 4, "inner.size: four is no size"),
        ("inner.ratio", math.inf, "inner.ratio: expected at least 0, got inf"),
        ("inner.ratio", math.nan, "inner.ratio: expected at least 0, got nan"),
        ("inner.ratio", -1e-9, "inner.ratio: expected at least 0, got -1e-09"),
    ],
)
def test_bad_values_are_one_line(name: str, value: object, line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}$"):
        with_values(Outer(), {name: value})
    if "." in name:
        with pytest.raises(InputError, match=f"^{line.removeprefix('inner.')}$"):
            Inner(**{name.removeprefix("inner."): value})


def test_good_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/robot")
    values = {"inner.size": 5, "names": ["~/mug.pack", "", "lamp"], "pair": [1, 2], "limit": None}
    assert with_values(Outer(), values) == Outer(names=("/home/robot/mug.pack", "lamp"), pair=(1, 2), inner=Inner(5, 0.25))
    assert with_values(Outer(names=("a",)), {"names": None}).names == ()
    assert with_values(Outer(), {"inner.ratio": 9}, "").inner.ratio == 9
    assert with_values(Outer(), {"inner": {"size": 8}, "inner.ratio": 0.5}).inner == Inner(8)
    changed = Outer("fast", ("a",), inner=Inner(7))
    assert with_values(Outer(), json.loads(json.dumps(asdict(changed)))) == changed


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"inner.sizes": 1}, "inner.sizes: unknown, did you mean inner.size?"),
        ({"inner": {"sizes": 1}}, "inner.sizes: unknown, did you mean inner.size?"),
        ({"inner": 3}, "inner: unknown, did you mean inner.size?"),
        ({"mode.fast": 1}, "mode.fast: unknown, did you mean mode?"),
        ({"weight": 1}, "weight: unknown"),
        ({"__class__": 1}, "__class__: unknown"),
        ({3: 1}, "3: unknown"),
    ],
)
def test_names_that_are_no_setting_are_refused(values: dict, line: str) -> None:
    with pytest.raises(InputError) as caught:
        with_values(Outer(), values)
    assert str(caught.value) == line


def test_unknown_names() -> None:
    assert unknown_setting("inner.siz", ["mode", "inner.size"], "the list") == "unknown, did you mean inner.size?"
    assert unknown_setting("colour", ["mode", "inner.size"], "the list") == "unknown; see the list"


def test_declarations_that_cannot_be_are_errors_of_the_program() -> None:
    @dataclass(frozen=True)
    class Table(Settings):
        table: dict = setting(None, "a table")

    @dataclass(frozen=True)
    class Endless(Settings):
        count: int = setting(1, "a number without a range")

    @dataclass(frozen=True)
    class Bare(Settings):
        count: int = 1

    with pytest.raises(TypeError, match="Table.table: .* cannot be a setting"):
        Table()
    with pytest.raises(TypeError, match="Endless.count: a number needs a range"):
        Endless()
    with pytest.raises(TypeError, match="Bare.count is not declared"):
        list_settings(Bare())


def settings_classes() -> list[type[Settings]]:
    """Every settings class of the package."""
    for module in pkgutil.walk_packages(geoseg_ros.__path__, "geoseg_ros."):
        if not module.name.startswith(("geoseg_ros.ros", "geoseg_ros.msg", "geoseg_ros.cli.__main__")):
            importlib.import_module(module.name)

    def below(kind: type[Settings]) -> list[type[Settings]]:
        return [found for child in kind.__subclasses__() for found in (child, *below(child))]

    return sorted((kind for kind in below(Settings) if kind.__module__.startswith("geoseg_ros.")), key=lambda kind: kind.__qualname__)


def test_every_setting_of_the_package_describes_itself_and_obeys_its_own_limits() -> None:
    kinds = settings_classes()
    assert {"GeometryConfig", "NodeParameters", "PipelineConfig", "ViewConfig"} <= {kind.__name__ for kind in kinds}
    for kind in kinds:
        for name, entry in declared(kind).items():
            assert 4 < len(entry.help) < 200 and "\n" not in entry.help, f"{kind.__name__}.{name}"
            assert not entry.help.endswith("."), f"{kind.__name__}.{name}"
            if entry.default is not MISSING:
                assert entry.refusal(entry.default) == "", f"{kind.__name__}.{name}"
        for entry in fields(kind):
            documented = entry.name in declared(kind) or entry.metadata.get("help") or f"{entry.name}: " in (kind.__doc__ or "")
            assert documented, f"{kind.__name__}.{entry.name}"
