"""Child processes whose output is read line by line, and which end with their parent.

All processes that this package starts use this module: those of a live run, builds of engines, the rerun viewer.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.progress import Progress

_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[\w.]+\]: ")  # of ROS
_NICE = 5  # of jobs: whoever waits for one has other work to do meanwhile
_TAIL = 1 << 14  # bytes of the log that are searched for its last line
_GUARD = """
import ctypes, os, signal, sys
parent, number, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG: the kernel sends it when the parent dies; it survives exec
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that runs the parent in the background has it ignored
if os.getppid() == int(parent):  # else the parent died before the line above
    os.execvp(command[0], command)
"""


class Cancelled(GeosegError):
    """The caller asked to stop."""


class Child:
    """One process in a session of its own, with pipes for standard input and output.

    Ctrl-C in a terminal reaches the parent alone, which ends its children in order. When the parent dies, however it dies, the kernel
    signals the child: SIGINT where there is a grace period, else SIGKILL. The kernel takes the end of the starting *thread* for the end of
    the parent, so that thread must live as long as the child is needed.

    Args:
        name: for error messages, such as ``node``.
        command: program and arguments.
        log: file for standard error; default: a temporary one.
        environment: of the child; default: that of this process.
        grace: seconds between SIGINT and SIGKILL when the child is ended; 0: SIGKILL at once.

    Attributes:
        name: see above.
        pid: process id, which is also that of the child's process group.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path | None = None, environment: Mapping[str, str] | None = None, grace: float = 0.0
    ) -> None:
        self.name, self._grace = name, grace
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._log = open(log, "w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), str(int(signal.SIGINT if grace else signal.SIGKILL))]
        self._process = subprocess.Popen(
            [*guard, *command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def send(self, line: str) -> None:
        """Write a line to standard input; a child that has ended does not get it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def close_input(self) -> None:
        """Close the child's standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def line(self, timeout: float) -> str | None:
        """The next line of standard output, "" when none comes in ``timeout`` seconds, None after the last."""
        try:
            return self._lines.get(timeout=timeout)
        except queue.Empty:
            return ""

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while the child runs."""
        return self._process.poll()

    def last_line(self) -> str:
        """The last line on standard error that is not empty, without the prefix of a ROS log."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _TAIL, max(size - _TAIL, 0)).decode(errors="replace")
        lines = [line for line in map(str.strip, tail.splitlines()) if line]
        return _LOG_PREFIX.sub("", lines[-1]) if lines else "no message"

    def error(self) -> GeosegError | InputError:
        """The exception for a child that has ended too early: InputError for exit code 2, as of this package's commands."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # standard output ends a moment before the process does
        code = self.code
        if code is not None and code < 0:
            memory = " (out of memory?)" if code == -signal.SIGKILL else ""
            return GeosegError(f"the {self.name} was killed by signal {-code}{memory}")
        return (InputError if code == 2 else GeosegError)(f"the {self.name} ended with code {code}: {self.last_line()}")

    def end(self) -> None:
        """End the child and its own children, and close its pipes. A second call has no effect."""
        if self._log.closed:
            return
        if self._grace and self.code is None:
            self._signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)
        self.close_input()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Children:
    """A group of Python processes; leaving the ``with`` block ends all of them, the latest first.

    Args:
        logs: folder for their standard error, ``<name>.log`` each. Made where it is absent.
        environment: of all children.
        grace: seconds, see :class:`Child`.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], grace: float = 8.0) -> None:
        self._logs, self._environment, self._grace = logs, environment, grace
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.end()

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start ``python arguments``."""
        child = Child(name, [sys.executable, *arguments], self._logs / f"{name}.log", self._environment, self._grace)
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
                if other is not child and other.code not in (None, 0):
                    raise other.error()
            if line is None:
                if wanted is None and last:
                    return last
                raise child.error()
            if line and wanted is not None and line.startswith(wanted):
                return line
            last = line or last
        raise GeosegError(f"the {child.name} was not done after {seconds:.0f} s; see {self._logs / child.name}.log")


def run_job(
    name: str,
    module: str,
    job: Mapping[str, Any],
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Run a job in a child process that can be cancelled at once and takes its memory with it.

    Args:
        name: for error messages, such as ``engine build``.
        module: run by ``python -m``; it calls :func:`serve_job`.
        job: as JSON can hold it.
        progress: called in this thread.
        cancel: when set, the child is killed.

    Returns:
        The result of the job.

    Raises:
        Cancelled: ``cancel`` was set.
        InputError, GeosegError: raised by the job, or the child died.
    """
    with Child(name, [sys.executable, "-m", module]) as child:
        return ask(child, job, progress, cancel)


def ask(child: Child, job: Mapping[str, Any], progress: Progress | None = None, cancel: threading.Event | None = None) -> dict[str, Any]:
    """One job of a child that does several; as :func:`run_job`, but a child that is cancelled is for the caller to end."""
    child.send(json.dumps(job))
    while True:
        line = child.line(0.1)
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"{child.name}: cancelled")
        if line is None:
            raise child.error()
        message = _message(line)
        if "error" in message:
            raise (InputError if message["input"] else GeosegError)(message["error"])
        if "result" in message:
            return dict(message["result"])
        if message and progress is not None:
            progress(message["stage"], message["done"], message["total"])


def _message(line: str) -> dict[str, Any]:
    """A line as a message; empty where it is none, such as half a line of a child that was killed."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def serve_job(run: Callable[[dict[str, Any], Progress], dict[str, Any]], several: bool = False) -> int:
    """The child's side of :func:`run_job`: read one job, run it, and send progress and result, one JSON object per line.

    Args:
        run: called with the job and a function for its progress; returns the result as JSON can hold it.
        several: do one job after another, for :func:`ask`.

    Returns:
        The exit code, of the last job: 0, 1 for GeosegError, 2 for InputError.
    """
    # what libraries print goes to standard error, so that standard output holds messages alone
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")

    os.nice(_NICE)
    code = 0
    for line in sys.stdin:
        try:
            send(result=run(json.loads(line), lambda stage, done, total: send(stage=stage, done=done, total=total)))
            code = 0
        except (InputError, GeosegError) as error:
            send(error=" ".join(str(error).split()), input=isinstance(error, InputError))
            code = 2 if isinstance(error, InputError) else 1
        if not several:
            break
    return code
