"""The verdict of `make soak`: a run in which anything grows is a failed one."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from support import stress_delivery
from support.stress_delivery import faults, slope

pytestmark = pytest.mark.dds


def report(**changes):
    """A run in which all is well, with changes: cloud__processed=3 changes the row of the clouds."""
    row = {"processed": 300, "answered": 300, "rejected": 0, "latency_p50_first_quarter_ms": 2.0, "latency_p50_last_quarter_ms": 6.0}
    whole = {"cloud": dict(row), "image": dict(row), "resident_growth_mib": 7.9, "node_exit_code": 0}
    whole |= {"files_start": 20, "files_end": 22, "threads_start": 18, "threads_end": 18}
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (whole[part] if part else whole)[key] = value
    return whole


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cloud__answered": 299}, "cloud: 299 answers for 300 processed messages"),
        ({"image__answered": 0, "image__processed": 0}, "image: 0 answers for 0 processed messages"),
        ({"image__rejected": 1}, "image: 1 rejected"),
        ({"cloud__latency_p50_last_quarter_ms": 7.1}, "cloud: latency went from 2.0 to 7.1 ms"),
        ({"image__latency_p50_last_quarter_ms": float("nan")}, "image: latency went from 2.0 to nan ms"),
        ({"resident_growth_mib": 8.1}, "memory grew by 8.1 MiB in the second half"),
        ({"files_end": 23}, "files: 20 after the warm-up, 23 at the end"),
        ({"threads_end": 19}, "threads: 18 after the warm-up, 19 at the end"),
        ({"node_exit_code": -9}, "the node ended with code -9"),
    ],
)
def test_each_fault_is_told(changes, line):
    assert faults(report()) == []
    assert faults(report(**changes)) == [line]


def test_slope_is_per_minute():
    assert slope([(10.0 + i, 400.0 + 0.5 * i) for i in range(20)]) == pytest.approx(30.0)


def test_a_leak_fails_a_real_run():
    command = [sys.executable, stress_delivery.__file__, "--seconds", "9", "--reliable", "--leak", "files"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "wrong: files: " in run.stderr
