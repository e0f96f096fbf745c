"""Time and memory of the networks for clouds, by the number of occupied voxels.

::

    python -m benchmarks.point_networks --voxels 10000 100000 1000000 --out latency.json

Every figure comes from a process of its own, as the peak of memory never falls. Time is the least of several runs, as other programs only
add to it; processor time stands beside it, as it suffers less from them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.nets.sparse_unet import SparseUNet
from geoseg_ros.runtime.engines.points import OnnxPointEncoder, export_encoder

VOXEL = 0.05
KINDS = ("sparse_unet torch", "encoder torch", "encoder onnxruntime")


def hall(voxels: int) -> NDArray[np.float32]:
    """Floor, walls and furniture of a hall as large as fills about so many voxels of 5 cm, float32 [N, 3], metres; 6 points per voxel."""
    rng = np.random.default_rng(0)
    points, height = 6 * voxels, 2.7
    area = voxels * VOXEL**2  # of all surfaces
    side = (-4 * height + math.sqrt(16 * height**2 + 4 * 1.3 * area)) / (2 * 1.3)  # floor, furniture of .3 of it, four walls
    side = round(side / VOXEL) * VOXEL
    share = np.array([side**2, 0.3 * side**2, *[height * side] * 4])
    part = rng.choice(6, points, p=share / share.sum())
    xyz = rng.uniform(0, 1, (points, 3)) * [side, side, height]
    xyz[part == 0, 2] = 0
    furniture = part == 1
    tables = rng.uniform(0, side, (max(1, int(side**2 / 5)), 2))
    top = rng.integers(0, len(tables), int(furniture.sum()))
    xyz[furniture] = np.column_stack([tables[top] + rng.uniform(-0.6, 0.6, (len(top), 2)), 0.4 + 0.4 * (top % 3)])
    for wall, (axis, place) in enumerate(((0, 0), (0, side), (1, 0), (1, side))):
        xyz[part == 2 + wall, axis] = place
    return (xyz + 0.5 * VOXEL + rng.normal(0, 0.004, xyz.shape)).astype(np.float32)  # surfaces in the middle of their voxels


def measure(kind: str, voxels: int, onnx: str, runs: int, threads: int) -> dict[str, Any]:
    """One cell of the table."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network: Any = SparseUNet(channels=3, voxel=VOXEL) if kind.startswith("sparse") else PointEncoder(voxel=VOXEL)
    network.eval()
    if kind.endswith("onnxruntime"):
        network = OnnxPointEncoder(network, onnx)
    xyz = hall(voxels)
    network.prepare(xyz[:1000])  # compiles
    start = time.process_time()
    prepared = network.prepare(xyz)
    preparing = time.process_time() - start
    inputs = network.collate([prepared]).inputs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walls, spent = [], []
    with torch.inference_mode():
        for _ in range(runs):
            wall, cpu = time.perf_counter(), time.process_time()
            network(*inputs)
            walls.append(time.perf_counter() - wall)
            spent.append(time.process_time() - cpu)
    return {
        "network": kind,
        "voxels": prepared.rows,
        "milliseconds": round(1e3 * min(walls), 1),
        "processor_milliseconds": round(1e3 * min(spent), 1),
        "prepare_processor_milliseconds": round(1e3 * preparing, 1),
        "megabytes": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--onnx", help="an encoder that was exported before")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(measure(options.cell, options.voxels[0], options.onnx, options.runs, options.threads)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        onnx = options.onnx or str(export_encoder(PointEncoder(voxel=VOXEL).eval(), Path(folder) / "points.onnx").onnx)
        for kind in options.kinds:
            for voxels in options.voxels:
                words = ["--cell", kind, "--voxels", voxels, "--onnx", onnx, "--runs", options.runs, "--threads", options.threads]
                done = subprocess.run([sys.executable, "-m", "benchmarks.point_networks", *map(str, words)], capture_output=True, text=True)
                if done.returncode:
                    rows.append(
                        {"network": kind, "voxels": voxels, "failed": (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]}
                    )
                else:
                    rows.append(json.loads(done.stdout) | {"load": round(os.getloadavg()[0], 1)})
                print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
