"""Compiled functions are kept on disk, and work where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
