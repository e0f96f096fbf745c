"""Seconds per stage of a longer piece of work."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the time of stages; ``stop`` adds the time since the last stop, or since the start, to a stage.

    Attributes:
        seconds: stage name -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def restart(self) -> None:
        """Forget the time since the last stop."""
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        """Add the time since the last stop to ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
