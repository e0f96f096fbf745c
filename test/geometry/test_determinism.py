"""The analysis gives the same bytes on every run and with every number of threads, and compiles only when it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from geoseg_ros.geometry import analysis, kdtree, neighbours, normals, planes, proposals, superpoints, voxels
from geoseg_ros.geometry.cloud import Cloud
from support.geometry_worlds import TABLE, camera_scene, digests
from support.paths import ROOT

BOXES = [((-0.2, 0, 0.1), (0.12, 0.1, 0.2), 0.3), ((0.2, 0.1, 0.06), (0.2, 0.15, 0.12), -0.4)]
PROGRAM = """
import sys
from support.geometry_worlds import digests
print(*digests(int(sys.argv[1])))
"""


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_same_bytes_with_every_number_of_threads(threads: int) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "test")])}
    result = subprocess.run([sys.executable, "-c", PROGRAM, "3"], capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == set(digests(1))


def test_same_bytes_with_every_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests(1)
    cut: set[str] = set()
    parts = 1

    def in_parts(count: int, work: Callable[[int, int], object], least: int) -> None:
        ends = np.linspace(0, count, parts + 1).astype(int).tolist()
        for part in reversed(range(parts)):  # also in another order
            work(ends[part], ends[part + 1])
        cut.add(work.__qualname__.split(".")[0])

    for module in (kdtree, normals, voxels):
        monkeypatch.setattr(module, "in_parts", in_parts)
    for parts in (1, 2, 4, 7):  # noqa: B007
        assert digests(1) == expected
    assert cut == {"nearest", "normals", "_keys"}


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_same_bytes_on_several_threads_at_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests(1)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(digests, (1, 1, 1))] == 3 * [expected]


def test_nothing_is_compiled_after_warming() -> None:
    modules = (analysis, kdtree, neighbours, normals, planes, proposals, superpoints, voxels)
    kernels = {f"{m.__name__}.{n}": k for m in modules for n, k in vars(m).items() if hasattr(k, "signatures")}
    assert len(kernels) > 15
    analysis.analyse_cloud(analysis.example_cloud())
    before = {name: list(kernel.signatures) for name, kernel in kernels.items()}
    # what only compiled functions call is part of them where they come from disk
    assert {name.split(".")[-1] for name, signatures in before.items() if not signatures} <= {
        "_bend",
        "_ones",
        "_outside",
        "_select",
    }
    cloud, _ = camera_scene((0, -1.0, 0.8), (0, 0.1, 0.05), BOXES, [TABLE], 0.002)
    rgb = np.zeros(cloud.xyz.shape, np.uint8)
    locked = cloud.xyz.copy()
    locked.flags.writeable = False  # as arrays inside messages are
    for xyz in (cloud.xyz, np.asfortranarray(cloud.xyz), locked):
        for colour in (rgb, None):
            analysis.analyse_cloud(Cloud(xyz, colour, cloud.shape))
    assert {name: list(kernel.signatures) for name, kernel in kernels.items()} == before
