"""Make training data of results: labelled images and clouds in the layouts that detectors and segmenters are trained from.

RESULTS is what geoseg replay wrote, or a recording of the node's outputs (points_labeled, objects or mask, and label_info). Images come
from the recording of the inputs, paired by the stamp of the header; clouds take their intensity from there.

coco, yolo, png: images with masks; every connected part of a mask is an instance. Images without the target are exported too.
semantickitti: a label and an instance per point. kitti: upright 3D boxes; there is no camera, so boxes in the image are -1.
The labels are what the packs found: look at them before a network learns them.

Of several RESULTS, as geoseg replay of several recordings, --out is a folder with a data set for each; --recording has as many.

example:
  geoseg export OUT.mcap --recording drive/ --format coco --out mugs/
  geoseg export OUT.mcap --recording drive/ --format semantickitti --every 5 --out mugs_3d/
  geoseg export results/*/out.mcap --recording monday/*.mcap --format coco --out mugs/ --workers 4
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from geoseg_ros.cli.many import add_many, are_many, run_many
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output

FORMATS = ("coco", "yolo", "png", "kitti", "semantickitti")
_MOST_LINES = 10  # of rejected messages that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="recording of results: rosbag2 folder, .mcap, .db3")
    parser.add_argument("--recording", nargs="+", metavar="BAG", help="recording of the inputs (default: RESULTS)")
    parser.add_argument("--format", choices=FORMATS, required=True, help="layout of the files")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the data set, new or empty")
    parser.add_argument("--node", metavar="NAME", help="node whose results are taken (default: the only one)")
    parser.add_argument("--image", metavar="TOPIC", help="topic of the images (default: the only one whose stamps fit)")
    parser.add_argument(
        "--frame",
        choices=("body", "optical"),
        help="axes of the clouds for kitti: body (x forward, z up) or optical (default: by the name of the frame, REP 103)",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth result (default 1)")
    parser.add_argument("--least", type=int, default=16, metavar="N", help="pixels of the smallest instance in an image (default 16)")
    add_many(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Export and return the counts."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.recordings import Recording
    from geoseg_ros.runtime.dataset_export import export_dataset

    if are_many(options, options.results):
        return run_many(options, {"results": options.results, "recording": options.recording}, "dataset")
    if options.recording is not None and len(options.recording) > 1:
        raise InputError(f"--recording: expected one for 1 of RESULTS, got {len(options.recording)}")
    source, recording = options.results[0], (options.recording or [None])[0]
    begin, out = time.monotonic(), Path(options.out)
    for name in ("every", "least"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}: expected at least 1, got {getattr(options, name)}")
    with ExitStack() as stack:
        results = stack.enter_context(Recording(source))
        inputs = results if recording is None else stack.enter_context(Recording(recording))
        progress = stack.enter_context(Stages("item", options.json))
        report = export_dataset(
            results,
            inputs,
            options.format,
            stack.enter_context(_new_folder(out, [source, recording])),
            node=options.node,
            image=options.image,
            frame=options.frame,
            every=options.every,
            least=options.least,
            progress=partial(progress, "export"),
        )
    for line in report.rejected[:_MOST_LINES]:
        print(f"rejected {line}", file=sys.stderr)
    if len(report.rejected) > _MOST_LINES:
        print(f"rejected {len(report.rejected) - _MOST_LINES} more", file=sys.stderr)
    if not options.json:
        missing = f"; {report.without_input} masks without their image" if report.without_input else ""
        axes = f", axes {report.frame}" if options.format == "kitti" else ""
        print(f"{out}: {report.items} items with {report.instances} instances ({options.format}{axes}){missing}")
    return {
        "out": str(out),
        "format": options.format,
        "items": report.items,
        "instances": report.instances,
        "without_input": report.without_input,
        "rejected": report.rejected,
        "seconds": round(time.monotonic() - begin, 1),
    }


@contextmanager
def _new_folder(out: Path, inputs: list[str | None]) -> Iterator[Path]:
    """A temporary folder beside ``out`` that becomes ``out`` when everything is written, and is removed otherwise."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"--out: {out} exists, expected a new or an empty folder")
    check_output(out, "--out", inputs)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / out.name
        made.mkdir()
        yield made
        os.replace(made, out)
