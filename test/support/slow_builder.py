"""A build that takes its time and writes in many small steps, through the real cache and a real child process.

``python slow_builder.py FOLDER LOG``: get the engine from the cache in FOLDER; each child that begins to build adds a line to LOG.
Without arguments: the child.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from geoseg_ros.errors import GeosegError
from geoseg_ros.processes import run_job, serve_job
from geoseg_ros.runtime.engines.build import PLAN
from geoseg_ros.runtime.engines.cache import EngineCache, EngineKey

KEY = EngineKey("tensorrt", {"version": "10.3.0", "onnx": "0" * 64})
PIECES = [bytes([i]) * 2000 for i in range(100)]
PAUSE = 0.002  # seconds between two pieces


def build(job, progress):
    """The child's work."""
    with open(job["log"], "a") as log:
        log.write(f"{os.getpid()}\n")
    with open(Path(job["folder"]) / PLAN, "wb", buffering=0) as plan:
        for i, piece in enumerate(PIECES):
            plan.write(piece)
            progress("building", i, len(PIECES))
            time.sleep(PAUSE)
    return {"seconds": len(PIECES) * PAUSE}


def run_slow(folder, log, progress=None, cancel=None):
    """The parent's side."""
    return run_job("engine build", "support.slow_builder", {"folder": str(folder), "log": str(log)}, progress, cancel)


def main() -> int:
    folder, log = sys.argv[1:]
    told: list[str] = []
    cache = EngineCache(folder, log=told.append)
    try:
        entry = cache.get_or_build(KEY, lambda place: run_slow(place, log))
    except GeosegError as error:
        print("failed", error)
        return 1
    whole = (entry.folder / PLAN).read_bytes() == b"".join(PIECES)
    print(*told, "whole" if whole else "DAMAGED", sep="\n")
    return 0 if whole else 3


if __name__ == "__main__":
    sys.exit(main() if len(sys.argv) > 1 else serve_job(build))
