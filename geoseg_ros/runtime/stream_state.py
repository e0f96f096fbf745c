"""The state of one input stream: rates, losses, latencies, and current problems."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geoseg_ros.io.messages import IMAGE_TYPE
from geoseg_ros.results import Presence
from geoseg_ros.runtime.node_parameters import Sensor

_REMIND = 30.0  # seconds between two lines of a kind about the same topic
_WINDOW = 200  # results that the presence rate is taken over


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

    def started(self) -> bool:
        """Whether there ever was an event."""
        return self._last is not None

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - self._span:
            self._times.popleft()


@dataclass
class StreamState:
    """One input. The executor's thread counts arrivals, the worker's thread results.

    Attributes:
        name: as in the mailbox.
        topic: resolved.
        message_type: as ROS names it.
        kind: ``cloud`` or ``image``.
        prefix: before the names of its outputs.
        best_effort: whether our subscription is.
        rate: of arrivals.
        latency: from arrival to publication.
        stages: stage of the work -> its durations.
        busy: seconds that were worked on its messages.
        refusal: why the last message that could not be read was rejected.
        unheard: messages whose results had no subscriber; they count as processed.
        paused: messages that came while the node was paused.
        lost: messages that were sent but did not arrive, as reported by the middleware.
        uncoloured: depth images without colour, though colour was expected.
        color_age: seconds between the stamps of the last depth image and the nearest colour, NaN while there was none.
        unplaced: results without obstacles and objects, because a transform was missing.
        silent, losing, mismatched, displaced, refusing: current problems: no input; messages get lost; a publisher offers a quality of
            service that the subscription cannot take; transforms are missing; messages cannot be read.
    """

    name: str
    topic: str
    message_type: str
    kind: str
    prefix: str = ""
    best_effort: bool = True
    rate: Rate = field(default_factory=Rate)
    latency: Latency = field(default_factory=Latency)
    stages: dict[str, Latency] = field(default_factory=dict)
    busy: float = 0.0
    refusal: str = ""
    unheard: int = 0
    paused: int = 0
    lost: int = 0
    unplaced: int = 0
    uncoloured: int = 0
    color_age: float = float("nan")
    silent: bool = False
    losing: bool = False
    mismatched: bool = False
    displaced: bool = False
    refusing: bool = False
    _lost_before: int = 0
    _lost_earlier: int = 0
    _unplaced_before: int = 0
    _rejected_before: int = 0
    _told: dict[str, float] = field(default_factory=dict)
    _presence: dict[str, deque[bool]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, sensor: Sensor, topic: str, message_type: str = "") -> StreamState:
        """The stream of a sensor on this topic, with messages of the sensor's type where no other is given."""
        return cls(sensor.name, topic, message_type or sensor.message_type, sensor.kind, sensor.prefix)

    @property
    def depth(self) -> bool:
        """Whether its clouds come from depth images."""
        return self.kind == "cloud" and self.message_type == IMAGE_TYPE

    def begin(self) -> None:
        """Called when the input is subscribed: silence counts from now."""
        self.rate = Rate()
        self.silent = self.losing = False
        self.count_losses_anew()
        self._told.clear()

    def count_losses_anew(self) -> None:
        """Called when the input is subscribed with another quality of service: the middleware counts anew for every subscription."""
        self._lost_earlier, self.mismatched = self.lost, False

    def lose(self, total: int) -> None:
        """Called by the middleware."""
        self.lost = self._lost_earlier + total

    def mismatch(self, total: int) -> None:
        """Called by the middleware."""
        self.mismatched = total > 0

    def note_result(self, seconds: Mapping[str, float], presence: Sequence[Presence] = ()) -> None:
        """Count a result: seconds per stage, and which concepts were present."""
        with self._lock:
            for stage, value in seconds.items():
                self.stages.setdefault(stage, Latency()).add(value)
            for entry in presence:
                self._presence.setdefault(entry.name, deque(maxlen=_WINDOW)).append(entry.present)

    def forget_concepts(self) -> None:
        """Start the presence rates anew, for other packs."""
        with self._lock:
            self._presence.clear()

    def presence_rates(self) -> dict[str, float]:
        """Concept -> share of the last results in which it was present."""
        with self._lock:
            return {name: sum(flags) / len(flags) for name, flags in self._presence.items()}

    def stage_percentiles(self) -> dict[str, tuple[float, float]]:
        """Stage -> median and 95th percentile of its seconds."""
        with self._lock:
            stages = dict(self.stages)
        return {stage: (values[0], values[1]) for stage, times in stages.items() for values in (times.percentiles(50, 95),)}

    def watch(self, timeout: float, rejected: int) -> str:
        """Update the current problems, and return the event to log.

        Args:
            timeout: seconds without input that count as silence.
            rejected: messages so far that could not be read; their reader logs them.

        Returns:
            "mismatch", "silent", "losing", "back", or "" for nothing new.
        """
        was, self.silent = self.silent, self.rate.age() >= timeout
        self.losing, self._lost_before = self.lost > self._lost_before, self.lost
        self.displaced, self._unplaced_before = self.unplaced > self._unplaced_before, self.unplaced
        self.refusing, self._rejected_before = rejected > self._rejected_before, rejected
        for news, wrong in (("mismatch", self.mismatched), ("silent", self.silent), ("losing", self.losing)):
            if wrong and time.monotonic() - self._told.get(news, -float("inf")) > _REMIND:
                self._told[news] = time.monotonic()
                return news
        if was and not self.silent:
            self._told.pop("silent", None)  # the next silence is news
            return "back"
        return ""


@dataclass
class CompanionState:
    """An input that goes with another one: colour or calibration of depth images.

    Attributes:
        name: such as ``color``.
        topic: resolved.
        message_type: as ROS names it.
        expected: its silence is worth a warning.
        rate: of arrivals.
        received: messages so far.
    """

    name: str
    topic: str
    message_type: str
    expected: bool
    rate: Rate = field(default_factory=Rate)
    received: int = 0

    def arrive(self) -> None:
        """Count a message."""
        self.rate.add()
        self.received += 1
