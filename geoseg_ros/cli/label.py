"""Give every point of clouds a class of a scene pack.

Written to the folder --out: for each cloud NAME.npy (uint32 per point in the order of the file: 1 .. C the class, 0 = unlike anything seen
in training, or not a valid point) and NAME.ply in the colours of the classes; and summary.json, which lists the classes and their shares.
NAME is the file's name without its suffix, or with it where several files differ in the suffix only.

example:
  geoseg label --pack home.pack --clouds scans/ --out labelled/
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.coseg import result_names
from geoseg_ros.errors import InputError

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
    from geoseg_ros.files import mark_results, write_text
    from geoseg_ros.io.folders import load_clouds
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.packs.scene_pack import check_scene_pack, pack_geometry
    from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline

    begin = time.monotonic()
    pack = Pack.load(options.pack)
    check_scene_pack(pack)
    folder = load_clouds(options.clouds)
    names, out = result_names(folder.paths), Path(options.out)
    _check_out(out, [options.clouds, options.pack], list(names.values()))
    pipeline = open_pipeline([pack], device="cpu", config=PipelineConfig(geometry=pack_geometry(pack)))
    palette = pipeline.labels.palette()
    entries, counts, total = [], np.zeros(len(pack.classes) + 1, np.int64), 0
    refused: dict[Path, str] = {}
    with Stages("cloud", options.json) as progress:
        for number, (path, cloud) in enumerate(folder):
            try:
                label = pipeline.process_cloud(cloud).label
            except InputError as error:
                refused[path] = f"{path}: {error}"
                continue
            mark_results(out)
            _write(cloud, label, out, names[path], palette)
            found = np.bincount(label, minlength=len(counts))
            counts, total = counts + found, total + len(label)
            entries.append({"file": path.name, "points": len(label), "labels": f"{names[path]}.npy", "coloured": f"{names[path]}.ply"})
            entries[-1]["shares"] = [round(int(k) / max(len(label), 1), 6) for k in found]
            progress("clouds", number + 1, len(folder))
    if not entries:
        raise InputError(f"{options.clouds}: no cloud can be labelled; first: {next(iter(refused.values()))}")
    refused |= folder.skipped
    entries += [{"file": path.name, "error": line} for path, line in refused.items()]
    shares = counts / max(total, 1)
    summary: dict[str, Any] = {
        "pack": {"file": str(options.pack), "version": pack.version},
        "classes": [{"class": k, "name": name, "share": round(float(shares[k]), 6)} for k, name in enumerate(pack.classes, 1)],
        "unlike_anything_seen": round(float(shares[0]), 6),
        "clouds": entries,
        "seconds": round(time.monotonic() - begin, 1),
    }
    write_text(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    if not options.json:
        for line in refused.values():
            print(f"skipped {line}", file=sys.stderr)
        named = ", ".join(f"{entry['name']} {100 * entry['share']:.1f} %" for entry in summary["classes"])
        print(f"{len(entries) - len(refused)} clouds: {named}, unlike anything seen {100 * shares[0]:.1f} %")
        print(f"{out}: labels, coloured clouds and summary.json")
    return {"out": str(out), **summary}


def _check_out(out: Path, inputs: list[str], names: list[str]) -> None:
    """Raise InputError if results would lie among the inputs, or replace files that are not results."""
    from geoseg_ros.files import check_output, check_result_names

    if out.is_file():
        raise InputError(f"--out: {out} is a file, expected a folder")
    check_output(out, "--out", inputs)
    # also others that a later run, for which the folder is one of results, would replace
    there = [path.name for path in sorted(out.glob("*")) if path.suffix in (".npy", ".ply")]
    check_result_names(out, ["summary.json", *(name + end for name in names for end in (".npy", ".ply")), *there], "--out")


def _write(cloud: Cloud, label: NDArray[np.uint32], out: Path, name: str, palette: NDArray[np.uint8]) -> None:
    from geoseg_ros.files import atomic_path
    from geoseg_ros.io.cloud_files import write_ply

    with atomic_path(out / f"{name}.npy") as temporary:
        np.save(temporary, label)
    write_ply(out / f"{name}.ply", replace(cloud, rgb=palette[label]))
