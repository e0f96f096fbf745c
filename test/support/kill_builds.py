"""Kills builds of engines at random moments: the process that asked, its child, or both; sometimes another process waits for the engine.

After every kill: what is in the cache is whole or not there, the lock is free, and whoever was not killed got its engine.

  PYTHONPATH=test python -m support.kill_builds --kills 200
  PYTHONPATH=test python -m support.kill_builds --kills 20 --rtx
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from geoseg_ros.runtime.engines.build import PLAN  # noqa: E402
from geoseg_ros.runtime.engines.cache import LOCK, EngineCache, EngineKey, _take  # noqa: E402
from support.slow_builder import KEY, PIECES  # noqa: E402

TARGETS = ("parent", "child", "both")


def start(*command: object) -> subprocess.Popen:
    """A process of a script beside this one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[1]), *sys.path])}
    script, *arguments = map(str, command)
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def children(process: subprocess.Popen) -> list[int]:
    """Process ids of those that it has started."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for_build(process: subprocess.Popen, folder: Path) -> None:
    """Until it, or another, has begun to build."""
    while process.poll() is None and not list(folder.glob(".*~*")):
        time.sleep(0.001)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def free_soon(lock: Path, seconds: float = 5.0) -> bool:
    """Whether nobody holds the lock. A child that was just being started holds it until it runs its own program, some milliseconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open(lock, "a") as handle:
            if _take(handle):
                return True
        time.sleep(0.01)
    return False


def kill_builds(kills: int, seed: int, folder: Path, command: Sequence[object], key: EngineKey, plan: bytes | None = None) -> Counter:
    """Kill that many builds; returns how often what was seen. AssertionError: the cache was not as it should be.

    Args:
        folder: of the cache. command: asks for the engine ``key``, and prints "whole" when it has it.
        plan: what the engine must be, byte by byte; None: what its digests say.
    """
    rng, seen = random.Random(seed), Counter()
    cache = EngineCache(folder)
    first = start(*command)
    wait_for_build(first, folder)
    begin = time.monotonic()
    assert first.wait(120) == 0
    usual = time.monotonic() - begin
    for _ in range(kills):
        shutil.rmtree(folder / key.folder, ignore_errors=True)
        victim, target = start(*command), rng.choice(TARGETS)
        other = start(*command) if rng.random() < 0.3 else None
        if rng.random() < 0.8:  # else while Python starts
            wait_for_build(victim, folder)
        time.sleep(rng.uniform(0, usual))
        below = children(victim)
        for pid in {"parent": [victim.pid], "child": below, "both": [victim.pid, *below]}[target]:
            kill(pid)
        code = victim.wait(120)
        seen[f"{target}: " + {0: "was ready before", 1: "build failed", -9: "killed"}[code]] += 1
        if other is not None:
            text = other.communicate(timeout=120)[0]
            assert other.returncode == 0 and text.strip().endswith("whole"), f"the other process: {text}"
            seen["another process finished the work"] += 1
        assert free_soon(folder / LOCK), "a stale lock"
        found = cache.find(key)
        assert found is None or plan is None or (found.folder / PLAN).read_bytes() == plan, "a damaged engine"
        seen["engine there" if found else "no engine"] += 1
    assert start(*command).wait(120) == 0
    left = [p.name for p in folder.iterdir() if p.name not in (key.folder, LOCK)]
    assert cache.find(key) and not left, f"left behind: {left}"
    return seen


def kill_slow_builds(kills: int, seed: int, folder: Path) -> Counter:
    """Of ``slow_builder``: many small steps."""
    return kill_builds(kills, seed, folder / "cache", ("slow_builder.py", folder / "cache", folder / "log"), KEY, b"".join(PIECES))


def kill_real_builds(kills: int, seed: int, folder: Path) -> Counter:
    """Of TensorRT for RTX, of the backbone that ships."""
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.export import export_image
    from support.real_builder import real_key

    spec = folder / "spec.json"
    spec.write_text(json.dumps(export_image(open_backbone("geoseg_tiny"), folder, "fp16").as_json()))
    return kill_builds(kills, seed, folder / "cache", ("real_builder.py", folder / "cache", spec), real_key(str(spec)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rtx", action="store_true", help="build with TensorRT for RTX, which must be installed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = kill_real_builds if options.rtx else kill_slow_builds
        for what, count in sorted(run(options.kills, options.seed, Path(folder)).items()):
            print(f"{count:5d}  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
