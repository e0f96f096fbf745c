"""Options of commands that mirror a setting: type, default, choices and help come from its declaration."""

from __future__ import annotations

import argparse
from typing import Any

from geoseg_ros.errors import InputError
from geoseg_ros.settings import Config, Settings, declared, with_values


def add_setting(parser: argparse._ActionsContainer, kind: type[Settings], name: str, flag: str = "", metavar: str = "") -> None:
    """Declare the option of a setting; it is kept under the setting's name.

    Args:
        parser: of the command, or a group of it.
        kind: settings class.
        name: of its setting; a switch must be off by default.
        flag: of the option; empty: the name with dashes.
        metavar: what stands for the value in the help.
    """
    entry = declared(kind)[name]
    flag = flag or f"--{name.replace('_', '-')}"
    unit = f", {entry.unit}" if entry.unit.upper() not in ("", metavar) else ""
    if entry.kind is bool:
        parser.add_argument(flag, dest=name, action="store_true", help=entry.help)
        return
    more: dict[str, Any] = {"choices": entry.choices} if entry.choices else {"metavar": metavar or None}
    if entry.many:
        more["nargs"] = "+"
    shown = " ".join(map(str, entry.default)) if isinstance(entry.default, tuple) else entry.default
    default = f" (default {shown})" if shown not in (None, "") else ""
    help_text = f"{entry.help}{unit}{default}".replace("%", "%%")
    parser.add_argument(flag, dest=name, type=entry.kind, default=entry.default, help=help_text, **more)


def settings_from_options(config: Config, options: argparse.Namespace, *names: str) -> Config:
    """Settings like ``config`` with the options of these ``names``.

    Raises:
        InputError: a value that its setting refuses, or settings that do not go together.
    """
    try:
        return with_values(config, {name: getattr(options, name) for name in names})
    except InputError as error:
        name, separator, reason = str(error).partition(": ")
        if not separator or name not in names:
            raise
        raise InputError(f"--{name.replace('_', '-')}: {reason}") from None
