"""Run the node's processing on a recording, without DDS and ROS. Equal input gives equal bytes (a recording contains its name).

Of several recordings (also @FILE, a list of them), --out is a folder with one for each: out.mcap, the counts in result.json, log.txt.
What is complete is left out the next time, and one that fails does not stop the others.

The output holds what the live node would have published. It takes the node's parameter file and its inputs: clouds, or depth images with
their calibration and colour, and images, raw or compressed; for target_frame it reads /tf and /tf_static of the recording.

example:
  geoseg replay drive/ --packs mug.pack --out OUT.mcap
  geoseg replay drive/ --packs mug.pack --params-file coseg.yaml -p target_frame:=odom --out OUT.mcap
  geoseg replay old.bag --packs mug.pack can.pack --points /camera/depth/points --out OUT.mcap
  geoseg replay monday/*.mcap --packs mug.pack --out results/ --workers 4
  geoseg replay drive/ --packs mug.pack -p "point_topics:=[/front/points, /rear/points]" -p target_frame:=base_link --out OUT.mcap
  geoseg replay rgbd/ --packs mug.pack -p cloud_source:=depth --depth /depth/image --color /color/image --out OUT.mcap
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace as with_changes
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg_ros.cli.many import add_many, are_many, run_many
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output
from geoseg_ros.runtime.engines.options import BACKENDS, DEVICES

if TYPE_CHECKING:
    from geoseg_ros.runtime.node_parameters import NodeParameters
    from geoseg_ros.runtime.opening import OpenedPipeline
    from geoseg_ros.runtime.replay import ReplayReport, ReplayTopics

_INPUTS = {
    "points": "cloud topic (default: the only one)",
    "depth": "topic of depth images, with cloud_source depth",
    "camera-info": "topic of their calibration (default: the one beside them, or the only one)",
    "color": "topic of their colour images (default: none)",
    "image": "image topic, raw or compressed (default: the only one)",
}
_MOST_LINES = 10  # of rejected messages and of warnings that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", nargs="+", metavar="BAG", help="rosbag2 folder, .mcap, .db3, or ROS 1 .bag")
    parser.add_argument("--packs", nargs="+", metavar="PACK", help="concept packs and part packs: files, or names of shipped ones")
    parser.add_argument("--out", required=True, metavar="OUT", help="recording to write: an .mcap file or a folder")
    parser.add_argument(
        "--outputs",
        nargs="+",
        choices=("points_labeled", "points_obstacles", "objects", "parts", "map_labeled", "mask", "overlay"),
        help="what to write (default: points_labeled objects mask; with wanted_labels also points_obstacles, with a part pack also parts, "
        "with map.enabled also map_labeled)",
    )
    add_stream_arguments(parser)
    add_many(parser)
    parser.add_argument("--backbone", metavar="NAME", help="image backbone (default: the one the packs were made with)")
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the image backbone (default auto); it must work")


def add_stream_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare what says how a recording is worked on, but for packs, backbone and backend."""
    parser.add_argument("--params-file", metavar="FILE", help="the node's parameter file (YAML)")
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME:=VALUE", help="one parameter of the node; may be repeated"
    )
    for name, text in _INPUTS.items():
        parser.add_argument(f"--{name}", metavar="TOPIC", help=text)
    parser.add_argument("--device", choices=DEVICES, help="default auto")


def _snapshot_parameters(bag: Path) -> Path | None:
    """The parameter file of a snapshot, which lies beside its recording."""
    folder = bag if bag.is_dir() else bag.parent
    found = folder / "parameters.yaml"
    return found if found.is_file() and (folder / "messages.mcap").is_file() else None


def stream_parameters(options: argparse.Namespace, bag: str) -> tuple[NodeParameters, ReplayTopics]:
    """The node's parameters and the topics, from the options."""
    from geoseg_ros.runtime.parameter_file import read_parameters
    from geoseg_ros.runtime.replay import ReplayTopics

    file = options.params_file
    if file is None and (file := _snapshot_parameters(Path(bag))) is not None:
        print(f"geoseg {options.command}: parameters of the snapshot, {file}", file=sys.stderr)
    parameters = read_parameters(file, options.param)
    given = {"packs": options.packs and tuple(options.packs), "backbone": options.backbone, "device": options.device}
    if options.backend is not None:
        given |= {"backend": options.backend, "backend_strict": options.backend != "auto"}
    parameters = with_changes(parameters, **{name: value for name, value in given.items() if value is not None})
    if not parameters.packs:
        raise InputError("no packs, expected some from --packs or from the parameter file")
    return parameters, ReplayTopics(**{name: getattr(options, name) for name in (key.replace("-", "_") for key in _INPUTS)})


def open_stream(options: argparse.Namespace, parameters: NodeParameters) -> OpenedPipeline:
    """The pipeline; lines for the user go to standard error."""
    from geoseg_ros.runtime.opening import PipelineOpener

    return PipelineOpener(log=lambda line: print(f"geoseg {options.command}: {line}", file=sys.stderr))(parameters)


def print_defects(report: ReplayReport) -> None:
    """What was wrong with messages, on standard error."""
    for kind, lines in (("rejected", report.rejected), ("warning:", report.warnings)):
        for line in lines[:_MOST_LINES]:
            print(f"{kind} {line}", file=sys.stderr)
        if len(lines) > _MOST_LINES:
            print(f"{kind} {len(lines) - _MOST_LINES} more", file=sys.stderr)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Replay and return the counts."""
    if are_many(options, options.bag):
        stream_parameters(options, options.bag[0])  # refuses what cannot be before the work begins
        return run_many(options, {"bag": options.bag}, "out.mcap")
    (bag,) = options.bag
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.recordings import Recording, is_own_recording
    from geoseg_ros.runtime.replay import replay

    parameters, topics = stream_parameters(options, bag)
    check_output(options.out, "--out", [bag, options.params_file, *(options.packs or ())], is_own_recording, "a recording made by geoseg")
    with Recording(bag) as recording:
        pipeline = open_stream(options, parameters)
        with Stages("message", options.json) as stages:
            progress = partial(stages, "replay")
            report = replay(recording, pipeline, options.out, parameters, topics, options.outputs, progress=progress)
    print_defects(report)
    medians = {
        "cloud_ms": 1e3 * float(np.median(report.cloud_seconds)) if report.cloud_seconds else None,
        "image_ms": 1e3 * float(np.median(report.image_seconds)) if report.image_seconds else None,
    }
    if not options.json:
        print(f"backend: {getattr(pipeline, 'backend_reason', pipeline.backend)}")
        times = ", ".join(f"{name.removesuffix('_ms')} {value:.0f} ms" for name, value in medians.items() if value is not None)
        print(f"{options.out}: {report.clouds} clouds with {report.objects} objects, {report.images} masks; median {times or 'none'}")
    return {
        "out": options.out,
        "backend": pipeline.backend,
        "clouds": report.clouds,
        "images": report.images,
        "objects": report.objects,
        "unplaced": report.unplaced,
        "rejected": report.rejected,
        "warnings": report.warnings,
        **medians,
    }
