"""The walls between the rooms of the package: which module may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "geoseg_ros"
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py")))
BASE = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "api"}  # modules that every room may use; they use only one another
LOWER = ["geometry", "io", "backbones", "projection", "nets", "learning"]  # each knows those before it
SHARED_ROOMS = {*LOWER, "packs"}
ALLOWED = {  # room -> the rooms that it may use
    **{room: set(LOWER[:k]) for k, room in enumerate(LOWER)},
    "packs": set(LOWER),
    "methods": SHARED_ROOMS,
    "runtime": SHARED_ROOMS | {"methods"},
    "simulation": SHARED_ROOMS,
    "display": {"geometry", "io", "projection"},
    "ros": SHARED_ROOMS | {"runtime", "display"},
    "evaluate": SHARED_ROOMS | {"methods", "runtime", "simulation", "display"},
    "cli": {*ROOMS, "api"},
}
EDGES = {"ros", "cli"}  # the only rooms that touch ROS
PERMANENT = {"geometry/cloud.py -> io"}  # Cloud.read(path) is part of the Python API; it imports the readers when it is called
# What still crosses a wall. Each line goes when what it names has moved; a line that is not needed fails.
EXCEPTIONS: set[str] = set()
METHOD_EXCEPTIONS: set[str] = {
    "cli/build_engine.py",
}

ROS_MODULES = {
    *("ament_index_python", "cv_bridge", "launch", "launch_ros", "message_filters", "rclpy", "rosbag2_py", "sensor_msgs_py", "tf2_ros")
}


class Import(NamedTuple):
    """One imported module. Attributes: file; line; dotted name; lazy: inside a function."""

    file: Path
    line: int
    name: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"


def imports_in(file: Path, text: str) -> Iterator[Import]:
    """Every import of a module, relative ones resolved; ``from a import b`` gives ``a.b``."""
    package = file.relative_to(ROOT).parent.parts

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, lazy)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) + 1 - child.level] if child.level else ()
                base = ".".join([*above, *([child.module] if child.module else [])])
                for alias in child.names:
                    yield Import(file, child.lineno, f"{base}.{alias.name}", lazy)
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from visit(child, lazy or inside)

    return visit(ast.parse(text, str(file)), False)


IMPORTS = {room: [i for f in sorted((PACKAGE / room).rglob("*.py")) for i in imports_in(f, f.read_text())] for room in ROOMS}


def target(name: str) -> str:
    """The room or top module of the package that an import reaches, or an empty string."""
    parts = name.split(".")
    return parts[1] if parts[0] == "geoseg_ros" and len(parts) > 1 else ""


def is_ros(name: str) -> bool:
    """Whether a module belongs to ROS: rclpy, messages, or the ROS edge of the package itself."""
    top = name.split(".")[0]
    return top in ROS_MODULES or top.endswith(("_msgs", "_interfaces")) or target(name) in {"ros", "msg", "srv"}


def test_import_reader_sees_every_form() -> None:
    text = "import a.b\nfrom . import c\nfrom ..ros import d\ndef f():\n    import rclpy\n    from geoseg_ros.msg import X\n"
    found = [(i.name, i.lazy) for i in imports_in(PACKAGE / "runtime" / "x.py", text)]
    assert found == [
        *(("a.b", False), ("geoseg_ros.runtime.c", False), ("geoseg_ros.ros.d", False)),
        *(("rclpy", True), ("geoseg_ros.msg.X", True)),
    ]
    assert is_ros("rclpy.node") and is_ros("std_msgs.msg") and is_ros("geoseg_ros.msg.X") and not is_ros("rosbags.rosbag2")
    assert {"geometry", "backbones", "methods", "runtime", "ros", "cli"} <= set(ROOMS) and all(IMPORTS.values())


def test_every_room_is_named() -> None:
    assert set(ALLOWED) == set(ROOMS)


def test_base_modules_use_only_one_another() -> None:
    inside = [i for f in PACKAGE.glob("*.py") if f.stem in BASE for i in imports_in(f, f.read_text())]
    assert not [str(i) for i in inside if target(i.name) and target(i.name) not in BASE]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_use_only_what_they_may(room: str) -> None:
    allowed = ALLOWED[room] | BASE | {room, "__version__"} | ({"msg", "srv"} if room in EDGES else set())
    crossing = {f"{i.file.relative_to(PACKAGE)} -> {target(i.name)}" for i in IMPORTS[room] if target(i.name) not in allowed | {""}}
    excepted = {line for line in EXCEPTIONS | PERMANENT if line.startswith(f"{room}/")}
    assert sorted(crossing - excepted) == []
    assert sorted(excepted - crossing) == [], "not needed any more"


def test_methods_know_only_shared_rooms_and_the_contract() -> None:
    folders = sorted(p.name for p in (PACKAGE / "methods").iterdir() if p.is_dir() and any(p.glob("*.py")))
    assert {"contrast", "geofree"} <= set(folders)
    crossing = set()
    for i in IMPORTS["methods"]:
        place = i.file.relative_to(PACKAGE / "methods").parts[0]
        if place in folders and target(i.name) == "methods" and i.name.split(".")[2] not in {place, "base"}:
            crossing.add(str(i))
    assert sorted(crossing) == []


def test_nobody_imports_a_method_but_the_registry() -> None:
    inside = [i for room in ROOMS if room != "methods" for i in IMPORTS[room] if target(i.name) == "methods"]
    crossing = {str(i.file.relative_to(PACKAGE)) for i in inside if i.name.split(".")[2] not in {"base", "registry"}}
    assert sorted(crossing - METHOD_EXCEPTIONS) == []
    assert sorted(METHOD_EXCEPTIONS - crossing) == [], "not needed any more"


@pytest.mark.parametrize("room", sorted(set(ROOMS) - EDGES))
def test_ros_stays_at_the_edge(room: str) -> None:
    """Only ``io`` makes messages, and imports their types when it does."""
    assert not [str(i) for i in IMPORTS[room] if is_ros(i.name) and not (room == "io" and i.lazy and i.name.startswith("sensor_msgs.msg"))]


def test_top_modules_do_not_import_ros() -> None:
    assert not [str(i) for f in PACKAGE.glob("*.py") for i in imports_in(f, f.read_text()) if is_ros(i.name)]


def test_commands_import_ros_only_when_they_run_and_through_its_room() -> None:
    assert not [str(i) for i in IMPORTS["cli"] if is_ros(i.name) and not (i.lazy and target(i.name) == "ros")]


def test_the_node_loads_what_teaches_it_only_when_it_learns() -> None:
    teaching = {"geoseg_ros.ros.learning", "geoseg_ros.runtime.teaching", "geoseg_ros.runtime.picking"}
    users = [i for room in ("ros", "runtime") for i in IMPORTS[room] if any(i.name.startswith(f"{name}.") for name in teaching)]
    apart = {PACKAGE / "ros/learning.py", PACKAGE / "ros/teacher.py"}  # the latter is the node of `geoseg teach`
    assert {i.file for i in users} == {*apart, PACKAGE / "ros/services.py"} and all(i.lazy or i.file in apart for i in users)


def test_rooms_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {room: set() for room in ROOMS}
    for i in (i for room in ROOMS for i in IMPORTS[room]):
        line = f"{i.file.relative_to(PACKAGE)} -> {target(i.name)}"
        if line in PERMANENT:
            assert i.lazy, line
        elif target(i.name) in ROOMS:
            graph[line.split("/")[0]] |= {target(i.name)} - {line.split("/")[0]}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {' -> '.join(error.args[1])}")


def test_package_does_not_reach_outside_itself() -> None:
    """No path of the checkout's surroundings, and no import of the tests."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        assert not [t for t in texts if "../shared" in t or t == "shared"], file
        assert not [str(i) for i in imports_in(file, file.read_text()) if i.name.split(".")[0] in {"test", "conftest"}]


def test_walls_of_loaded_modules() -> None:
    """The core really runs without ROS: nothing of it gets imported behind the back of the source."""
    core = [room for room in ROOMS if room not in EDGES]
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for room in core for f in sorted((PACKAGE / room).rglob("*.py"))]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules if m.startswith('rclpy') or m.split('.')[0].endswith('_msgs')}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
