"""Compiled functions are kept on disk, work where nothing can be written, and run in parts on several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest

from geoseg_ros.compiled import in_parts
from support.paths import ROOT

MODULE = "from geoseg_ros.compiled import compiled\n@compiled\ndef double(x):\n    return 2 * x\n"
PROGRAM = "import kernels; print(kernels.double(4), sum(kernels.double.stats.cache_hits.values()))"


def run(folder: Path, **environment: str) -> list[str]:
    """Double 4 in a process of its own; the result and the number of functions that were found on disk."""
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, env=known)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_the_second_process_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(MODULE)
    assert [run(tmp_path), run(tmp_path)] == [["8", "0"], ["8", "1"]]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="takes a folder in which nobody can write")
def test_a_read_only_installation_without_a_home_compiles_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "kernels.py").write_text(MODULE)
    (folder / "__pycache__").write_text("in the way")  # even for root
    nowhere = {"HOME": "/proc/self", "XDG_CACHE_HOME": "/proc/self"}
    assert [run(folder, **nowhere), run(folder, **nowhere)] == [["8", "0"], ["8", "0"]]


@pytest.mark.parametrize(
    ("threads", "count", "least", "sizes"), [(4, 10, 2, [2, 3, 2, 3]), (4, 10, 4, [5, 5]), (1, 10, 1, [10]), (4, 0, 1, [0])]
)
def test_parts_cover_the_range_on_as_many_threads(
    threads: int, count: int, least: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    together = threading.Barrier(len(sizes))  # met only by parts that run at the same time
    parts: list[tuple[int, int]] = []

    def work(first: int, end: int) -> None:
        together.wait(30)
        parts.append((first, end))

    in_parts(count, work, least)
    assert [end - first for first, end in sorted(parts)] == sizes
    assert [i for first, end in sorted(parts) for i in range(first, end)] == list(range(count))


@pytest.mark.parametrize("bad", [0, 3])  # on the caller's thread, and on another
def test_what_a_part_raises_comes_out_when_all_have_ended(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    ended: set[int] = set()

    def work(first: int, end: int) -> None:
        ended.add(first)
        if first == bad:
            raise ValueError(f"part {first}")

    with pytest.raises(ValueError, match=f"part {bad}"):
        in_parts(4, work, 1)
    assert ended == {0, 1, 2, 3}


def test_without_another_thread_the_caller_does_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    in_parts(4, lambda first, end: done.extend(range(first, end)), 1)
    assert sorted(done) == [0, 1, 2, 3]
