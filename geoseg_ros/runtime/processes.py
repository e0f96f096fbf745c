"""Child processes that never outlive their parent's work."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from geoseg_ros.errors import GeosegError, InputError

_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[\w.]+\]: ")  # of ROS
_GRACE = 8.0  # seconds between the polite and the hard end


class Child:
    """One Python process with its output in a log file. Standard input is an open pipe.

    Attributes:
        name: for errors.
        log: standard error goes here.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name, self.log = name, log
        self._lines: queue.Queue[str | None] = queue.Queue()
        with open(log, "w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
                text=True, start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the children in order
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, timeout: float) -> str | None:
        """The next line of standard output, "" when none comes in ``timeout`` seconds, None at its end."""
        try:
            return self._lines.get(timeout=timeout)
        except queue.Empty:
            return ""

    def close_input(self) -> None:
        """End the child's standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._process.poll() not in (None, 0)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def error(self) -> GeosegError | InputError:
        """What to raise when the child has ended too early: its last line on standard error. Code 2 means bad input here too."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = _LOG_PREFIX.sub("", lines[-1]) if lines else "it said nothing"
        code = self._process.poll()
        return (InputError if code == 2 else GeosegError)(f"the {self.name} ended with code {code}: {last}")

    def end(self) -> None:
        """SIGINT, and after a grace period SIGKILL, to the child and whatever it started."""
        if self._process.poll() is None:
            self._signal(signal.SIGINT)
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                pass
        self._signal(signal.SIGKILL)
        self._process.wait()
        self.close_input()
        self._reader.join(_GRACE)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Children:
    """A group of children; leaving the ``with`` block ends all of them, the latest first, whatever has happened."""

    def __init__(self, logs: Path, environment: dict[str, str]) -> None:
        self._logs, self._environment = logs, environment
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.end()

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start ``python arguments``; standard error goes to ``<name>.log``."""
        child = Child(name, arguments, self._logs / f"{name}.log", self._environment)
        self._children.append(child)
        return child

    def expect(self, child: Child, wanted: str | None, seconds: float) -> str:
        """Wait for a line of ``child`` that starts with ``wanted`` (None: for the last line before it ends) and return it.

        Raises:
            GeosegError, InputError: ``child`` ends without it, another child fails meanwhile, or ``seconds`` pass.
        """
        deadline, last = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            line = child.line(0.1)
            for other in self._children:
                if other is not child and other.failed():
                    raise other.error()
            if line is None:
                if wanted is None and last:
                    return last
                child.end()
                raise child.error()
            if line and wanted is not None and line.startswith(wanted):
                return line
            last = line or last
        raise GeosegError(f"the {child.name} was not done after {seconds:.0f} s; see {child.log}")
