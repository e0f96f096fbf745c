"""Progress of several stages on one line of standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Stages:
    """A progress bar per stage; a context manager, called with (stage, done, total), where total 0 means unknown.

    Nothing is drawn where standard error is no terminal, or where ``quiet``.
    """

    def __init__(self, unit: str, quiet: bool) -> None:
        self._unit = unit
        self._disable = True if quiet else None
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.__exit__(None, None, None)
            self._stage, self._bar = stage, tqdm(desc=stage, unit=self._unit, disable=self._disable, leave=False)
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)
