"""The one thread that works with the pipeline."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.mailbox import Mailbox


class Worker(threading.Thread):
    """Handles one item of the mailbox after the other until the mailbox is closed.

    An error of one item is counted and reported, and the next item is taken.
    """

    def __init__(self, mailbox: Mailbox, handle: Callable[[str, Any], None], report: Callable[[str, Exception], None]) -> None:
        super().__init__(name="pipeline", daemon=True)
        self._mailbox, self._work, self._report = mailbox, handle, report  # a Thread has a _handle of its own (Python 3.13)

    def run(self) -> None:
        while (taken := self._mailbox.take()) is not None:
            stream, item = taken
            del taken  # nothing may hold the message while the next one is awaited
            try:
                self._work(stream, item)
                accepted = True
            except Exception as error:  # one bad message must not stop the node
                accepted = False
                self._report(stream, error)
            self._mailbox.finish(stream, accepted)
            del item


class Throttle:
    """Lets a line through at most once per ``period`` seconds and kind, and tells how many were held back.

    Two lines are of one kind if they differ only in numbers.
    """

    def __init__(self, period: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = period, clock
        self._held: dict[str, tuple[float, int]] = {}

    def __call__(self, line: str) -> str | None:
        """The line to log, or None."""
        now, kind = self._clock(), re.sub(r"\d+", "#", line)
        since, held = self._held.get(kind, (-float("inf"), 0))
        if now - since < self._period:
            self._held[kind] = (since, held + 1)
            return None
        if len(self._held) > 1000:  # a stream of ever new errors must not fill the memory
            self._held.clear()
        self._held[kind] = (now, 0)
        return f"{line} (and {held} more like this)" if held else line


def describe(error: Exception) -> str:
    """One line for the log: what was expected for bad input, and for anything else the type and the place."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {place[0].filename.rsplit('/', 1)[-1]}:{place[0].lineno}" if place else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())}"
