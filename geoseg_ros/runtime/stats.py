"""Rates and latencies over a sliding window. No ROS import."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np


class Latency:
    """Percentiles of the last durations; one thread adds, others read."""

    def __init__(self, window: int = 200) -> None:
        self._seconds: deque[float] = deque(maxlen=window)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Add one duration."""
        with self._lock:
            self._seconds.append(seconds)

    def percentiles(self, *percents: float) -> tuple[float, ...]:
        """In seconds; NaN while nothing was added."""
        with self._lock:
            seconds = list(self._seconds)
        return tuple(np.percentile(seconds, percents).tolist()) if seconds else tuple(float("nan") for _ in percents)


class Rate:
    """Events per second over the last ``seconds``, and the age of the newest event."""

    def __init__(self, seconds: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._span = seconds
        self._clock = clock
        self._start = clock()
        self._times: deque[float] = deque()
        self._last: float | None = None
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count one event now."""
        with self._lock:
            self._last = self._clock()
            self._times.append(self._last)
            self._forget(self._last)

    def hertz(self) -> float:
        """Events per second."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            return len(self._times) / max(min(self._span, now - self._start), 1e-3)

    def age(self) -> float:
        """Seconds since the newest event, or since the start where there was none."""
        with self._lock:
            return self._clock() - (self._start if self._last is None else self._last)

    def seen(self) -> bool:
        """Whether there ever was an event."""
        return self._last is not None

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - self._span:
            self._times.popleft()
