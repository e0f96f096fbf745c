"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], object]
"""Called with (stage, done, total); total 0: unknown."""


def silent(stage: str, done: int, total: int) -> None:
    """A :data:`Progress` that reports nothing."""
