"""Write a procedural recording with ground truth, and folders to train from.

A robot walks through two furnished rooms with a LiDAR or a depth camera. Another topic carries pictures of other rooms with other
instances of the same kinds of objects: nothing is paired. The truth goes to a file beside the recording.

With --meshes the objects of your own OBJ, GLB and PLY files stand in the rooms too, each named by its file. One that is smaller than 0.7 m
stands on a pillar. GLB is in metres with y up, as its standard says.

example:
  geoseg record-demo --out demo --concepts chair lamp
  geoseg record-demo --training folders --concepts chair
  geoseg record-demo --out demo --sensor depth --meshes objects/ --mesh-unit mm --concepts mug
  geoseg play demo/recording
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geoseg_ros.cli.setting_options import add_setting, settings_from_options
from geoseg_ros.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from geoseg_ros.simulation.families import NAMES
    from geoseg_ros.simulation.meshes import UNITS
    from geoseg_ros.simulation.trajectory import WalkConfig

    parser.add_argument("--out", metavar="DIR", help="write DIR/recording (rosbag2, MCAP) and DIR/truth.npz")
    parser.add_argument("--training", metavar="DIR", help="write DIR/<concept>/clouds, images, without, without_clouds")
    add_setting(parser, WalkConfig, "seed", metavar="N")
    add_setting(parser, WalkConfig, "seconds", metavar="S")
    add_setting(parser, WalkConfig, "sensor")
    parser.add_argument(
        "--concepts", nargs="+", metavar="NAME",
        help=f"what to find: of {', '.join(NAMES)} (default {' '.join(WalkConfig.concepts)}; with --meshes: all meshes)",
    )  # fmt: skip
    parser.add_argument("--meshes", metavar="DIR", help="put the objects of these OBJ, GLB and PLY files into the rooms")
    parser.add_argument("--mesh-unit", choices=tuple(UNITS), default="m", help="unit of OBJ and PLY files (default %(default)s)")
    parser.add_argument("--mesh-up", choices=("y", "z"), help="axis that points up in OBJ and PLY files (default: y in OBJ, z in PLY)")
    add_setting(parser, WalkConfig, "cloud_rate", metavar="HZ")
    add_setting(parser, WalkConfig, "image_rate", metavar="HZ")
    add_setting(parser, WalkConfig, "pictures", metavar="N")
    parser.add_argument("--training-clouds", type=int, default=12, metavar="N", help="clouds per concept (default %(default)s)")
    parser.add_argument("--training-images", type=int, default=20, metavar="N", help="pictures per concept (default %(default)s)")
    parser.add_argument("--training-without", type=int, default=12, metavar="N", help="pictures without the concept (default %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Write what was asked for and return paths and counts."""
    from tqdm import tqdm

    from geoseg_ros.files import check_output, check_result_names, mark_results
    from geoseg_ros.io.recordings import is_own_recording
    from geoseg_ros.simulation.families import FURNITURE
    from geoseg_ros.simulation.meshes import read_meshes
    from geoseg_ros.simulation.trajectory import WalkConfig, record, write_training

    if not options.out and not options.training:
        raise InputError("expected --out DIR or --training DIR")
    for name in ("training_clouds", "training_images", "training_without"):
        if not 0 <= getattr(options, name) <= 10_000:
            raise InputError(f"--{name.replace('_', '-')}: expected 0 to 10000, got {getattr(options, name)}")
    meshes = read_meshes(options.meshes, options.mesh_unit, options.mesh_up) if options.meshes else {}
    config = WalkConfig(concepts=tuple(options.concepts or meshes or WalkConfig.concepts), catalogue=FURNITURE.with_meshes(meshes))
    config = settings_from_options(config, options, "seed", "seconds", "sensor", "cloud_rate", "image_rate", "pictures")
    if options.out:
        check_output(Path(options.out) / "recording", "--out", [options.meshes], is_own_recording, "a recording made by geoseg")
        check_result_names(options.out, ["truth.npz"], "--out", is_own_recording(Path(options.out) / "recording"))
    if options.training:
        check_output(options.training, "--training", [options.meshes])
        check_result_names(options.training, config.concepts, "--training")
        mark_results(options.training)
    result: dict[str, object] = {}
    for wanted, unit in ((options.out, "frame"), (options.training, "item")):
        if not wanted:
            continue
        with tqdm(unit=unit, disable=True if options.json else None, leave=False) as bar:

            def progress(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            if unit == "frame":
                result |= record(wanted, config, progress)
            else:
                counts = (options.training_clouds, options.training_images, options.training_without)
                result["training"] = write_training(wanted, config, *counts, progress)
    if not options.json:
        if options.out:
            print(f"{result['recording']}: {result['clouds']} clouds of about {result['points']} points, {result['images']} images")
            print(f"{result['truth']}: labels of {', '.join(config.concepts)}")
        if options.training:
            print(f"{options.training}: {', '.join(config.concepts)}")
    return result
