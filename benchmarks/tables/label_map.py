"""A map of labels against single clouds, on simulated walks with exact truth and exact poses: ``python -m benchmarks.tables.label_map``.

For every cloud: the labels of the cloud alone, those of the map after this cloud, and those of the map after the whole walk.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from geoseg_ros import open_pipeline
from geoseg_ros.cli.main import main as geoseg
from geoseg_ros.io.messages import cloud_from_message
from geoseg_ros.io.recordings import Recording
from geoseg_ros.runtime.label_map import LabelMap, MapConfig

KINDS = ("cloud", "map so far", "map of the walk")


def measure(seed: int, seconds: float, sensor: str, voxel: float) -> None:
    """Print one walk's row."""
    names = ("stool", "lamp")
    pipeline = open_pipeline(names)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--seed", str(seed), "--seconds", str(seconds), "--sensor", sensor, "--cloud-rate", "5", "--concepts", *names]
        assert geoseg(["record-demo", "--out", folder + "/walk", *arguments]) == 0
        truth = dict(np.load(Path(folder) / "walk" / "truth.npz"))
        with Recording(Path(folder) / "walk" / "recording") as recording:
            topic = next(name for name, about in recording.topics().items() if about.type.endswith("PointCloud2"))
            clouds = [cloud_from_message(recording.decode(raw)) for raw in recording.messages([topic])]
    offsets, order = truth["cloud_offsets"], [list(truth["concepts"]).index(name) + 1 for name in names]
    found, spent = LabelMap(names, MapConfig(voxel=voxel)), []
    counts = {kind: np.zeros((2, 2), np.int64) for kind in KINDS}  # intersection and union of each target

    def count(kind: str, k: int, label: np.ndarray) -> None:
        true = truth["cloud_labels"][offsets[k] : offsets[k + 1]]
        for column, number in enumerate(order):
            both, either = ((true == number) & (label == column + 1)).sum(), ((true == number) | (label == column + 1)).sum()
            counts[kind][:, column] += both, either

    placed = []
    for k, cloud in enumerate(clouds):
        pose = truth["cloud_poses"][k]
        xyz = cloud.xyz @ pose[:3, :3].T + pose[:3, 3]
        label = pipeline.process_cloud(cloud).label
        begin = time.perf_counter()
        found.update(xyz, label, "odom", int(truth["cloud_stamps"][k]), pose[:3, 3])
        spent.append(time.perf_counter() - begin)
        count("cloud", k, label)
        count("map so far", k, found.label_of(xyz))
        placed.append(xyz)
    for k, xyz in enumerate(placed):
        count("map of the walk", k, found.label_of(xyz))
    points = np.concatenate(placed)
    area = len(np.unique(np.floor(points[np.isfinite(points).all(axis=1), :2]), axis=0))  # square metres with a point
    figures = [" / ".join(f"{both / max(either, 1):.2f}" for both, either in zip(*counts[kind], strict=True)) for kind in KINDS]
    size = found._key.nbytes + found._odds.nbytes
    print(f"| {seed} | {sensor} | {len(clouds)} | {' | '.join(figures)} | {len(found)} | {size / 1e3 / area * 100:.1f} | ", end="")
    print(f"{1e3 * np.median(spent):.0f}, {1e3 * max(spent):.0f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sensors", nargs="+", default=["depth", "lidar"])
    parser.add_argument("--voxel", type=float, default=MapConfig().voxel)
    options = parser.parse_args()
    print(f"| seed | sensor | clouds | IoU stool / lamp: {' | '.join(KINDS)} | voxels | kB per 100 m2 | ms a cloud: median, largest |")
    print("|" + "---|" * 9)
    for sensor in options.sensors:
        for seed in options.seeds:
            measure(seed, options.seconds, sensor, options.voxel)


if __name__ == "__main__":
    main()
