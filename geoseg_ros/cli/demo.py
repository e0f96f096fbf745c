"""Run the whole chain: a recording, concept packs, the live node over DDS, and a report of the results.

Without folders, a walk through a procedural room with known ground truth is simulated. With --clouds and --images your own files are used:
both folders show the same target, nothing is paired or labelled; --without names images that do not show it.

The result folder holds OUT.mcap (what the node published), report.json, clouds.png and images.png.

example:
  geoseg demo
  geoseg demo --sensor lidar --concepts chair lamp --train
  geoseg demo --clouds scans/ --images photos/ --without empty_table/ --name mug --out mug_demo
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.cli.backbone_options import add_backbone
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output, check_result_names, mark_results

if TYPE_CHECKING:
    from geoseg_ros.simulation.truth import Truth

CONCEPTS = ("stool", "lamp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", default="demo_out", metavar="DIR", help="result folder (default %(default)s)")
    parser.add_argument("--clouds", metavar="DIR", help="your clouds")
    parser.add_argument("--images", metavar="DIR", help="your images")
    parser.add_argument("--without", metavar="DIR", help="images that do not show the target (improve the result)")
    parser.add_argument("--name", default="target", metavar="NAME", help="name of the target in your files (default %(default)s)")
    parser.add_argument("--packs", nargs="+", metavar="PACK", help="use these concept packs instead of training")
    parser.add_argument("--train", action="store_true", help="train packs for the simulated walk even where they ship")
    add_backbone(parser)
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="length of the recording (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, metavar="R", help="speed of playing, 1 = as recorded (default %(default)s)")
    parser.add_argument("--sensor", choices=("lidar", "depth"), default="depth", help="sensor of the simulated walk (default %(default)s)")
    found = f"families to find in the simulated walk (default {' '.join(CONCEPTS)})"
    parser.add_argument("--concepts", nargs="+", default=list(CONCEPTS), metavar="NAME", help=found)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the simulated walk (default %(default)s)")
    parser.add_argument("--domain-id", type=int, metavar="N", help="ROS domain (default: one of its own)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Run the chain and return the report."""
    from geoseg_ros.ros.live_run import LiveRun, need_ros, run_live

    need_ros("the demo")
    from geoseg_ros.evaluate.demo_report import format_table
    from geoseg_ros.evaluate.demo_run import summarise

    if not 1 <= options.seconds <= 600:
        raise InputError(f"--seconds: expected 1 to 600, got {options.seconds}")
    if not 0.01 <= options.rate <= 100:
        raise InputError(f"--rate: expected 0.01 to 100, got {options.rate}")
    own = options.clouds is not None or options.images is not None
    if own and not options.packs and (options.clouds is None or options.images is None):
        raise InputError("expected both --clouds and --images, or --packs")
    domain = 10 + os.getpid() % 90 if options.domain_id is None else options.domain_id
    out = Path(options.out)
    inputs = [options.clouds, options.images, options.without, *(options.packs or ())]
    check_output(out, "--out", inputs)
    check_result_names(out, ["report.json", "clouds.png", "images.png", "logs", "training"], "--out")
    mark_results(out)
    # SIGTERM must end the children too, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    steps = _Steps(options.json)
    steps.begin("recording")
    recording, cloud_topic, image_topic, truth = _pack(options, out) if own else _walk(options, out)
    steps.begin("concept packs")
    packs = _packs(options, out, own, steps.log)
    live = LiveRun(
        recording=recording,
        out=out / "OUT.mcap",
        logs=out / "logs",
        packs=packs,
        cloud_topic=cloud_topic,
        image_topic=image_topic,
        rate=options.rate,
        seconds=options.seconds,
        parameters={} if options.packs and options.backbone == DEFAULT else {"backbone": options.backbone},
        domain=domain,
    )
    steps.begin("live node")
    live_result = run_live(live, steps.log)
    steps.begin("report")
    report = summarise(recording, live.out, live_result, cloud_topic, image_topic, out, truth)
    steps.end()
    if not options.json:
        print(f"\n{format_table(report)}\n\n{out.resolve()}: {', '.join(['report.json', *report['files']])}")
    return {"out": str(out), **report}


class _Steps:
    """Prints the current step, and the time that it took, on standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._name, self._start = quiet, "", 0.0

    def begin(self, name: str) -> None:
        self.end()
        self._name, self._start = name, time.monotonic()
        self.log("...")

    def log(self, text: str) -> None:
        if not self._quiet:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._name:
            self.log(f"{time.monotonic() - self._start:.0f} s")


def _walk(options: argparse.Namespace, out: Path) -> tuple[Path, str, str, Truth]:
    from geoseg_ros.simulation.trajectory import record
    from geoseg_ros.simulation.truth import load_truth

    config = _walk_config(options)
    record(out / "world", config)
    return out / "world" / "recording", config.cloud_topic, config.image_topic, load_truth(out / "world" / "truth.npz")


def _walk_config(options: argparse.Namespace) -> Any:
    from geoseg_ros.simulation.trajectory import WalkConfig

    return WalkConfig(seed=options.seed, seconds=options.seconds, sensor=options.sensor, concepts=tuple(options.concepts))


def _pack(options: argparse.Namespace, out: Path) -> tuple[Path, str | None, str | None, None]:
    from geoseg_ros.io.pack_frames import FrameTiming, pack_frames

    timing = FrameTiming(seconds=options.seconds)
    result = pack_frames(options.clouds, options.images, out / "recording", timing)
    for line in result["skipped"]:
        print(f"skipped {line}", file=sys.stderr)
    topics = (timing.cloud_topic if options.clouds else None, timing.image_topic if options.images else None)
    return out / "recording", *topics, None


def _local(pack: str) -> str:
    """A pack's absolute path; names of shipped packs stay as they are."""
    return str(Path(pack).resolve()) if Path(pack).exists() else pack


def _packs(options: argparse.Namespace, out: Path, own: bool, log: Callable[[str], None]) -> list[str]:
    """The requested packs; of a walk, those that ship; else new ones."""
    from geoseg_ros.packs.pack import shipped_packs

    if options.packs:
        return [_local(pack) for pack in options.packs]
    names = [name if options.backbone == DEFAULT else f"{options.backbone}/{name}" for name in options.concepts]
    if not own and not options.train and set(names) <= set(shipped_packs()):
        log(f"shipped: {', '.join(names)}")
        return names
    return _train(options, out, own, log)


def _train(options: argparse.Namespace, out: Path, own: bool, log: Callable[[str], None]) -> list[str]:
    """One pack per concept, with the same code and defaults as ``geoseg train``."""
    from geoseg_ros.cli import train

    if own:
        sets = {options.name: (options.clouds, options.images, [options.without] if options.without else [])}
    else:
        from geoseg_ros.simulation.trajectory import write_training

        config = _walk_config(options)
        write_training(out / "training", config, clouds=8, images=16, without=8)
        folders = {name: out / "training" / name for name in config.concepts}
        sets = {
            name: (folder / "clouds", folder / "images", [folder / "without", folder / "without_clouds"])
            for name, folder in folders.items()
        }
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(command="train")
    packs = []
    for name, (clouds, images, without) in sets.items():
        pack = (out / f"{name}.pack").resolve()
        command = [
            "--name",
            name,
            "--clouds",
            str(clouds),
            "--images",
            str(images),
            "--out",
            str(pack),
            "--backbone",
            options.backbone,
            "--json",
        ]
        command += ["--without", *map(str, without)] if without else []
        log(name)
        for line in train.run(parser.parse_args(command))["warnings"]:  # type: ignore[attr-defined]
            print(f"warning: {name}: {line}", file=sys.stderr)
        packs.append(str(pack))
    return packs
