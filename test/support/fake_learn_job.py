"""Stands in for the child that builds a pack: what it does is the name of what is learnt."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from geoseg_ros.errors import InputError
from geoseg_ros.processes import serve_job


def write_pack(path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, path, {"geoseg_pack": "{}"})


def work(job, progress):
    progress("clouds", 1, 2)
    if job["name"] == "slow":
        time.sleep(60)
    if job["name"] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if job["name"] == "bad":
        raise InputError("no proposal in any cloud")
    write_pack(Path(job["folder"]) / "made.pack")
    return {}


if __name__ == "__main__":
    sys.exit(serve_job(work))
