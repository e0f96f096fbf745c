"""Write the files that are made from the settings of the node: ``make settings``.

``config/coseg.yaml`` names every parameter with its default, ``docs/parameters.md`` lists them in a table.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
YAML_HEAD = """\
# Every parameter of coseg_node with its default; none need be given. `ros2 param describe` shows the same texts.
# In brackets: unit, range or choices, and `live` for what may be changed while the node runs (`ros2 param set`).
# The key /** fits every node name and namespace. This file is made from the code by `make settings`.
/**:
  ros__parameters:
"""
TABLE_HEAD = """\
# Parameters of coseg_node

Set them in a YAML file (`params_file:=FILE` of the launch file; [config/coseg.yaml](../config/coseg.yaml) holds every one with its default)
or one by one: `ros2 run geoseg_ros coseg_node --ros-args -p packs:="[mug.pack]"`. Those marked live may be changed while the node runs:
`ros2 param set /coseg_node pipeline.coseg.p_max 0.01`. A name that the node does not have is refused, and so is a value out of range.

This page is made from the code by `make settings`.
"""
WIDTH = 130


def yaml_value(value: Any) -> str:
    """A value as ROS reads it: a float keeps its point, and [""] stands for an empty list, which has no type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if re.search(r"[.n]", repr(value)) else f"{value:.1e}"
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(yaml_value, value or ('',)))}]" if isinstance(value, tuple) else str(value)


def yaml_text(config: Any) -> str:
    """``config/coseg.yaml`` of these settings: each under its comment."""
    from geoseg_ros.settings import list_sections, list_settings

    sections, written, lines = list_sections(config), set[str](), []

    def comment(text: str, pad: str) -> list[str]:
        return textwrap.wrap(text, WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")

    for setting in list_settings(config):
        parts = setting.name.split(".")
        for depth in range(1, len(parts)):
            name, pad = ".".join(parts[:depth]), " " * (2 + 2 * depth)
            if name not in written:
                written.add(name)
                lines += [*comment(sections[name], pad), f"{pad}{parts[depth - 1]}:"]
        pad = " " * (2 + 2 * len(parts))
        lines += [*comment(setting.text, pad), f"{pad}{parts[-1]}: {yaml_value(setting.default)}"]
    return YAML_HEAD + "\n".join(lines) + "\n"


def table_text(config: Any) -> str:
    """``docs/parameters.md`` of these settings: a table for the node's own and one for each section."""
    from geoseg_ros.settings import list_sections, list_settings

    tables: dict[str, list[str]] = {"": []}
    for setting in list_settings(config):
        section, _, name = setting.name.rpartition(".")
        facts = ", ".join(fact for fact in (setting.unit, setting.limits) if fact)
        cells = [f"`{name}`", f"`{yaml_value(setting.default)}`", facts, "live" if setting.live else "", setting.help]
        tables.setdefault(section, []).append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    sections, lines = list_sections(config), [TABLE_HEAD]
    for section, rows in tables.items():
        if section:
            lines.append(f"## {section}\n\n{sections[section][0].upper()}{sections[section][1:]}. The names begin with `{section}.`\n")
        lines += ["| parameter | default | unit, range or choices | live | meaning |", "| --- | --- | --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def texts() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    from geoseg_ros.runtime.node_parameters import NodeParameters

    config = NodeParameters()
    return {ROOT / "config" / "coseg.yaml": yaml_text(config), ROOT / "docs" / "parameters.md": table_text(config)}


def main() -> int:
    """Write the files, or with ``--check`` name those that are out of date (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    check = parser.parse_args().check
    sys.path.insert(0, str(ROOT))
    old = [path for path, text in texts().items() if not path.is_file() or path.read_text() != text]
    for path in old:
        print(f"{path.relative_to(ROOT)}: {'out of date, run make settings' if check else 'written'}")
        if not check:
            path.write_text(texts()[path])
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
