"""Parameters of the node from a ROS 2 parameter file, and from ``name:=value``, without ROS."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.settings import list_settings, unknown_setting, with_values

NODE = "coseg_node"
_MOST_BYTES, _MOST_VALUES = 2**20, 10_000
_OTHERS = ("qos_overrides.", "start_type_description_service", "use_sim_time")  # of ROS itself; they mean nothing without topics


def read_parameters(path: str | os.PathLike[str] | None, assignments: Collection[str] = ()) -> NodeParameters:
    """Read the parameters that a node would have.

    Args:
        path: a parameter file, as ``ros2 run --params-file`` takes it, or None. Entries of nodes with another name are left out; the
            namespace does not matter.
        assignments: ``name:=value``, the value in YAML, as ``ros2 run -p`` takes them; they beat the file.

    Raises:
        InputError: no such file, not a parameter file, a parameter that the node does not have, or a value that it refuses.
    """
    values: dict[str, Any] = {} if path is None else _from_file(Path(path))
    for text in assignments:
        name, separator, value = text.partition(":=")
        if not (name and separator):
            raise InputError(f"parameter {text}: expected name:=value")
        values[name] = _parsed(value, f"parameter {name}")
    known = [setting.name for setting in list_settings(NodeParameters())]
    values = {name: value for name, value in values.items() if not name.startswith(_OTHERS)}
    for name in values:
        if name not in known:
            raise InputError(f"parameter {_shown(name)}: {unknown_setting(name, known, 'config/coseg.yaml')}")
    try:
        return with_values(NodeParameters(), values)
    except InputError as error:
        raise InputError(f"parameter {error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    """Dotted names and values of the node."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: larger than {_MOST_BYTES} bytes, expected a parameter file")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    found: dict[str, Any] = {}
    nodes = []
    for name, parameters in _nodes(_parsed(text, str(path)), str(path)):
        nodes.append(name)
        if fnmatchcase(NODE, name.rsplit("/", 1)[-1]):
            for number, (key, value) in enumerate(_flat(parameters, "")):
                if number >= _MOST_VALUES:
                    raise InputError(f"{path}: more than {_MOST_VALUES} values, expected a parameter file")
                found[key] = value
    if not nodes:
        raise InputError(f"{path}: no ros__parameters in it, expected a ROS 2 parameter file")
    if not found:
        raise InputError(f"{path}: no parameters of {NODE}, it has those of {', '.join(map(_shown, nodes[:5]))}")
    return found


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())[:200]}") from None


def _nodes(tree: Any, where: str, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Full name and parameters of every node; namespaces may be part of the name or levels of their own."""
    if not isinstance(tree, Mapping):
        raise InputError(f"{where}: expected a ROS 2 parameter file, got {type(tree).__name__} {above and f'at {_shown(above)}'}".rstrip())
    for key, value in tree.items():
        name = f"{above}/{str(key).strip('/')}"
        if key == "ros__parameters":
            if not isinstance(value, Mapping):
                raise InputError(f"{where}: ros__parameters of {_shown(above) or 'no node'} is no mapping")
            yield above, value
        elif name.count("/") > 20:
            raise InputError(f"{where}: nested too deeply for a parameter file")
        else:
            yield from _nodes(value, where, name)


def _shown(name: str) -> str:
    """A name of a file in one line."""
    return name if name.isprintable() else repr(name)


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    if prefix.count(".") > 20:
        raise InputError(f"parameter {_shown(prefix[:60])}: nested too deeply")
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
