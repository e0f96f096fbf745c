"""Give every point of clouds a class of a scene pack.

Written to the folder --out: for each cloud NAME.npy (uint32 per point in the order of the file: 1 .. C the class, 0 = unlike anything seen
in training, or not a valid point) and NAME.ply in the colours of the classes; and summary.json, which lists the classes and their shares.
NAME is the file's name without its suffix, or with it where several files differ in the suffix only.

example:
  geoseg label --pack home.pack --clouds scans/ --out labelled/
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.outputs import ResultFolder, write_labelled_cloud

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--pack", required=True, metavar="PACK", help="scene pack of geoseg discover")
    parser.add_argument("--clouds", required=True, metavar="DIR", help="PCD, PLY, NPY, NPZ, KITTI BIN")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Label the clouds and return the summary."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.folders import load_clouds
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.packs.scene_pack import check_scene_pack, pack_geometry
    from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline

    begin = time.monotonic()
    pack = Pack.load(options.pack)
    check_scene_pack(pack)
    inputs, folders = [options.clouds, options.pack], {"clouds": load_clouds(options.clouds)}
    results = ResultFolder(options.out, inputs, folders, {"clouds": (".npy", ".ply")})
    pipeline = open_pipeline([pack], device="cpu", config=PipelineConfig(geometry=pack_geometry(pack)))
    palette, counts = pipeline.labels.palette(), np.zeros(len(pack.classes) + 1, np.int64)

    def write(cloud: Cloud, label: NDArray[np.uint32], path: Path) -> dict[str, Any]:
        found = np.bincount(label, minlength=len(counts))
        counts[:] += found
        shares = [round(int(count) / max(len(label), 1), 6) for count in found]
        return {"points": len(label), **write_labelled_cloud(path, cloud, label, palette[label]), "shares": shares}

    with Stages("cloud", options.json) as progress:
        entries = results.write("clouds", lambda _, cloud: pipeline.process_cloud(cloud).label, write, progress)
    shares = counts / max(counts.sum(), 1)
    summary: dict[str, Any] = {
        "pack": {"file": str(options.pack), "version": pack.version},
        "classes": [{"class": k, "name": name, "share": round(float(shares[k]), 6)} for k, name in enumerate(pack.classes, 1)],
        "unlike_anything_seen": round(float(shares[0]), 6),
        "clouds": entries,
        "seconds": round(time.monotonic() - begin, 1),
    }
    results.finish(summary)
    if not options.json:
        results.print_refused()
        named = ", ".join(f"{entry['name']} {100 * entry['share']:.1f} %" for entry in summary["classes"])
        print(f"{len(entries) - len(results.refused)} clouds: {named}, unlike anything seen {100 * shares[0]:.1f} %")
        print(f"{options.out}: labels, coloured clouds and summary.json")
    return {"out": str(options.out), **summary}
