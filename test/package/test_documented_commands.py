"""What README.md and docs/ tell users to type exists: commands and their options, launch arguments, make targets, files."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

from geoseg_ros.cli.main import COMMANDS
from support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code(page: Path) -> list[str]:
    """Lines of code blocks, continued ones joined, and code spans of a page."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def after(command: str) -> list[tuple[Path, list[str]]]:
    """(page, words behind it) of every line of code that runs a command."""
    found = []
    for page in PAGES:
        for line in code(page):
            match = re.search(rf"(?:^|\s|/){re.escape(command)} ([^#|&]*)", line)
            if match and not re.match(r"\s*(pip|ros2|git) ", line):
                found.append((page, match[1].split()))
    return found


def options(command: str) -> set[str]:
    """The options of one geoseg command."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"geoseg_ros.cli.{COMMANDS[command][0]}").add_arguments(parser)
    return {"--json", "--help", *(option for action in parser._actions for option in action.option_strings)}


def test_geoseg_commands_and_options() -> None:
    lines = [(page, words) for page, words in after("geoseg") if words and not words[0].isupper()]
    assert len(lines) > 20
    known = {name: options(name) for name in {words[0] for _, words in lines} & set(COMMANDS)}
    for page, (name, *words) in lines:
        assert name in COMMANDS, f"{page.name}: geoseg {name}"
        given = {word.split("=")[0].rstrip(",.;)") for word in words if word.startswith("--")}
        assert given <= known[name], f"{page.name}: geoseg {name} has no {sorted(given - known[name])}"


@pytest.mark.parametrize("name", ["coseg.launch.py", "demo.launch.py", "gazebo.launch.py"])
def test_launch_arguments(name: str) -> None:
    declared = set(re.findall(r'(?:_argument|DeclareLaunchArgument)\(\s*"(\w+)"', (ROOT / "launch" / name).read_text()))
    lines = [line for page in PAGES for line in code(page) if f"geoseg_ros {name}" in line]
    assert declared and lines
    for line in lines:
        assert set(re.findall(r"(\w+):=", line)) <= declared, line


def test_make_targets_and_variables() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", text, re.M) for name in line.split()}
    variables = set(re.findall(r"\$\((?:if \$\()?([A-Z]+)", text))
    lines = [(page, words) for page, words in after("make") if words and words[0] != "gcc"]  # not the list of system packages
    assert len(lines) > 5
    for page, words in lines:
        assert words[0] in targets, f"{page.name}: make {words[0]}"
        assert set(re.findall(r"\b([A-Z]+)=", " ".join(words))) <= variables, f"{page.name}: make {' '.join(words)}"


def test_files_that_pages_name() -> None:
    roots = "geoseg_ros|test|benchmarks|config|launch|tools|examples|requirements"
    for page in PAGES:
        named = [word for line in code(page) for word in re.findall(rf"(?<![\w/.$)-])(?:{roots})/[\w./-]*\w", line)]
        files = [re.sub(r"^geoseg_ros/(msg|srv)/(\w+)$", r"\1/\2.\1", name) for name in named]  # types of messages and services
        assert [name for name in files if not (ROOT / name).exists()] == [], page.name
