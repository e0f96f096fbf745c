"""A mailbox with one slot per input stream, which holds the newest item. No ROS import."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class StreamCounts:
    """Counts of items of one stream since the start: received = processed + dropped + rejected + waiting + in work.

    Attributes:
        received: put into the mailbox.
        processed: taken and finished.
        dropped: replaced by a newer one before they were taken.
        rejected: taken and found unreadable, or failed.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    rejected: int = 0


class Mailbox:
    """Hands the newest item of every stream to one worker.

    ``put`` never blocks, so a callback may call it. ``take`` serves the streams in turn, so a stream that always has an item does not
    starve the others.
    """

    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = tuple(streams)
        self._items: dict[str, Any] = {}
        self._counts = {name: StreamCounts() for name in self._streams}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, stream: str, item: Any) -> None:
        """Store ``item``, in place of one that still waits. Without effect once closed."""
        with self._changed:
            if self._closed:
                return
            counts = self._counts[stream]
            self._counts[stream] = replace(counts, received=counts.received + 1, dropped=counts.dropped + (stream in self._items))
            self._items[stream] = item
            self._changed.notify()

    def take(self, timeout: float | None = None) -> tuple[str, Any] | None:
        """Wait for an item and remove it: (stream, item), or None after ``timeout`` seconds or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            if self._closed or not self._items:
                return None
            turn = len(self._streams)
            at = next(i % turn for i in range(self._next, self._next + turn) if self._streams[i % turn] in self._items)
            self._next = at + 1
            stream = self._streams[at]
            return stream, self._items.pop(stream)

    def finish(self, stream: str, accepted: bool) -> None:
        """Count a taken item as processed or rejected."""
        with self._changed:
            counts = self._counts[stream]
            self._counts[stream] = (
                replace(counts, processed=counts.processed + 1) if accepted else replace(counts, rejected=counts.rejected + 1)
            )

    def counts(self) -> dict[str, StreamCounts]:
        """A consistent snapshot for all streams."""
        with self._changed:
            return dict(self._counts)

    def clear(self) -> None:
        """Count what waits as dropped, and forget it."""
        with self._changed:
            for stream in self._items:
                self._counts[stream] = replace(self._counts[stream], dropped=self._counts[stream].dropped + 1)
            self._items.clear()

    def close(self) -> None:
        """Forget what waits, refuse what comes, and wake the worker."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
