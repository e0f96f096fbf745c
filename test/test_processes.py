"""Supervised child processes: what they say, how they end, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import Cancelled, Child, Children, run_job
from support.paths import ROOT

SERVE = "from geoseg_ros.errors import GeosegError, InputError\nfrom geoseg_ros.processes import serve_job\n"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pid: int, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.01)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Writes a module that is a job's child and returns its name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))

    def write(code: str) -> str:
        (tmp_path / "odd_child.py").write_text(SERVE + code + "\n")
        return "odd_child"

    return write


def test_lines_both_ways_and_the_log(tmp_path):
    code = "import sys; print('ready', flush=True); print(sys.stdin.readline().strip(), flush=True); sys.exit('over\\n\\n')"
    with Child("echo", python(code), tmp_path / "echo.log") as child:
        assert child.line(20) == "ready" and child.line(0.01) == "" and child.code is None
        child.send("hello")
        assert child.line(20) == "hello" and child.line(20) is None
        error = child.error()
        assert type(error) is GeosegError and str(error) == "the echo ended with code 1: over"
    assert (tmp_path / "echo.log").read_text().strip() == "over"
    child.end()  # a second time it does nothing


def test_the_last_line_of_a_long_log_is_found_without_its_prefix():
    code = "import sys; sys.exit('x' * 100_000 + '\\n[FATAL] [17.5] [coseg_node]: no pack')"
    with Child("node", python(code)) as child:
        assert child.line(20) is None
        assert str(child.error()) == "the node ended with code 1: no pack"


def test_it_is_ended_politely_or_at_once_with_all_it_started():
    stubborn = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, lambda *_: print('asked', flush=True)); "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); "
        "[time.sleep(0.1) for _ in range(600)]"
    )
    for grace, said in ((0.3, ["asked"]), (0.0, [])):
        child = Child("stubborn", python(stubborn), grace=grace)
        below = int(child.line(20) or 0)
        begin = time.monotonic()
        child.end()
        assert time.monotonic() - begin < 5 and child.code == -signal.SIGKILL
        wait_for_end(below)
        lines = []
        while (line := child.line(1)) is not None:
            lines.append(line)
        assert lines == said


@pytest.mark.parametrize("grace", [0.0, 5.0])
def test_it_dies_with_its_parent_however_that_dies(grace):
    code = (
        "import sys, time; from geoseg_ros.processes import Child; "
        f"child = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'], grace={grace}); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.communicate(timeout=10)
    wait_for_end(child)


def test_interrupts_reach_it_although_its_parent_ignores_them():
    """As of a command that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Child("c", python("import time; print(1, flush=True); time.sleep(60)"), grace=10.0)
        assert child.line(20) == "1"
        begin = time.monotonic()
        child.end()
        assert time.monotonic() - begin < 5
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_group_waits_for_one_and_watches_the_others(tmp_path):
    with Children(tmp_path / "logs", os.environ, grace=1.0) as children:
        one = children.start("one", ["-c", "import time; print('a'); print('ready 1', flush=True); time.sleep(60)"])
        assert children.expect(one, "ready", 20) == "ready 1"
        assert children.expect(children.start("two", ["-c", "print(1); print(2)"]), None, 20) == "2"
        with pytest.raises(GeosegError, match="the one was not done after 0 s; see .*one.log"):
            children.expect(one, "never", 0.2)
        children.start("three", ["-c", "import sys; print('bad file', file=sys.stderr); sys.exit(2)"])
        with pytest.raises(InputError, match="the three ended with code 2: bad file"):
            children.expect(one, "never", 20)
    assert one.code is not None
    with pytest.raises(GeosegError, match="the silent ended with code 0: no message"), Children(tmp_path, os.environ) as children:
        children.expect(children.start("silent", ["-c", ""]), None, 20)


@pytest.mark.parametrize(
    ("code", "error", "line"),
    [
        ("raise SystemExit(7)", GeosegError, "^the work ended with code 7: no message$"),
        ("import os; os.kill(os.getpid(), 9)", GeosegError, r"^the work was killed by signal 9 \(out of memory\?\)$"),
        ("raise ValueError('odd\\nvalue')", GeosegError, "ended with code 1: value"),
        ("serve_job(lambda o, p: (_ for _ in ()).throw(InputError('no\\nparser')))", InputError, "^no parser$"),
        ("serve_job(lambda o, p: (_ for _ in ()).throw(GeosegError('no memory')))", GeosegError, "^no memory$"),
        ("import os; os.write(1, b'5\\n{\"stage\": '); os._exit(4)", GeosegError, "ended with code 4: no message"),
    ],
)
def test_a_job_that_fails_says_why_in_one_line(code, error, line, serve):
    with pytest.raises(error, match=line) as raised:
        run_job("work", serve(code), {})
    assert type(raised.value) is error and "\n" not in str(raised.value)


def test_a_job_reports_its_progress_and_its_result_alone(serve):
    module = serve("serve_job(lambda job, progress: [print('chatter'), progress('half', 1, 2)] and {'seconds': job['n']})")
    seen: list[tuple[str, int, int]] = []
    assert run_job("work", module, {"n": 3}, lambda *step: seen.append(step)) == {"seconds": 3}
    assert seen == [("half", 1, 2)]


def test_a_cancelled_job_is_gone_at_once(serve, tmp_path):
    module = serve("import os, time\nserve_job(lambda job, progress: [progress(str(os.getpid()), 0, 0), time.sleep(60)])")
    cancel, seen = threading.Event(), []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append(int(stage))
        cancel.set()

    begin = time.monotonic()
    with pytest.raises(Cancelled, match="^work: cancelled$"):
        run_job("work", module, {}, progress, cancel)
    assert time.monotonic() - begin < 20
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
