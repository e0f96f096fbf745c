"""Options that several commands have: the method and its settings."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from geoseg_ros.errors import InputError


def add_method(parser: argparse._ActionsContainer) -> None:
    """Declare ``--method`` and ``--set``."""
    text = "how the target is found: contrast, geofree, or a method of an installed package (default %(default)s)"
    parser.add_argument("--method", default="contrast", metavar="NAME", help=text)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method, such as preset=paper")


def method_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that ``--set`` gives, by dotted name.

    Raises:
        InputError: an entry without a name or a value.
    """
    found = {}
    for entry in options.set:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise InputError(f"--set: expected NAME=VALUE, got {entry!r}")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {name}: cannot be read: {value!r}") from None
    return found
