"""Lists of class names: a text file with one name a line."""

from __future__ import annotations

import os
from pathlib import Path

from geoseg_ros.errors import InputError

MOST_NAMES = 254  # ids that a mono8 mask holds


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of a UTF-8 text file; class k is line k. Empty lines at the end do not count.

    Raises:
        InputError: no such file, another encoding, an empty line between names, or what :func:`check_names` refuses.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: expected a text file in UTF-8, one name a line") from None
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return check_names(lines, f"{file}: ")


def check_names(names: list[str] | tuple[str, ...], where: str = "") -> tuple[str, ...]:
    """The names, where they can be those of classes.

    Raises:
        InputError: fewer than 2 or more than 254, a name that is not 1 to 64 printable characters, or one that repeats.
    """
    if not 2 <= len(names) <= MOST_NAMES:
        raise InputError(f"{where}expected 2 to {MOST_NAMES} names, one a line, got {len(names)}")
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name or len(name) > 64 or not name.isprintable():
            raise InputError(f"{where}line {number}: expected a name of 1 to 64 printable characters, got {name[:80]!r}")
        if name.casefold() in first:
            raise InputError(f"{where}line {number}: the name {name!r} is that of line {first[name.casefold()]}")
        first[name.casefold()] = number
    return tuple(names)
