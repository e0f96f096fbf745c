"""Make a scene pack: the classes of a place, learnt from recordings of it without labels. The pack gives every point one of them.

What is learnt from, at least one of:
  --recording  rosbag2, MCAP or ROS 1 bag of a depth camera: depth images, their camera_info, colour images registered to them, and
            /tf that joins the camera to a fixed frame
  --frames  a folder per room with posed frames: colour, depth, poses and intrinsics in the layout of 7-Scenes (frame-000000.color.jpg or
            .png, .depth.png in mm, .pose.txt camera to world; camera-intrinsics.txt), TUM RGB-D or ScanNet
  --clouds  a folder of clouds of rooms, each drawn by virtual cameras that stand inside it

With --names and --teacher the classes have names: class k of the pack, and of geoseg label, is line k of the file. Teachers: lite2 (class
scores of an ImageNet classifier, no CLIP: it knows the objects of ImageNet only), clip:FOLDER, open_clip:MODEL?weights=FILE,
onnx:FILE?words=FILE; without --names prototypes.

The rooms are read first; then a network learns what they look like (--minutes). Beside --out a picture, home.classes.png for home.pack,
shows each class; give them names by geoseg name. After an interruption (Ctrl-C, a full disk, a power cut) the same command resumes; until
it is done, a hidden folder beside --out has intermediate results.

example:
  geoseg discover --recording drive.mcap --classes 13 --minutes 30 --out home.pack
  geoseg discover --frames rooms/kitchen rooms/office --classes 13 --out home.pack
  geoseg discover --recording drive.mcap --names names.txt --teacher clip:clip-vit-base-patch16/ --out home.pack
  geoseg discover --clouds scans/ --classes 0 --minutes 30 --out site.pack
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.cli.method_options import method_settings
from geoseg_ros.cli.outputs import UNFINISHED, check_pack_file, check_picture, keep_on_interrupt, write_picture
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.packs.pack import Pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--recording", nargs="+", action="extend", default=[], metavar="BAG", help="recordings of a depth camera with /tf")
    parser.add_argument("--depth", metavar="TOPIC", help="depth images of the recordings (default: the only ones)")
    parser.add_argument("--camera-info", metavar="TOPIC", help="their calibration (default: the one beside them, or the only one)")
    parser.add_argument("--color", metavar="TOPIC", help="colour images registered to them (default: the only ones)")
    parser.add_argument("--fixed-frame", default="", metavar="FRAME", help="of /tf (default: the top of the camera's tree)")
    parser.add_argument("--frames", nargs="+", action="extend", default=[], metavar="DIR", help="posed frames, a folder per room")
    parser.add_argument("--clouds", nargs="+", action="extend", default=[], metavar="DIR", help="clouds of rooms")
    parser.add_argument("--out", required=True, metavar="FILE", help="pack to write")
    parser.add_argument("--name", help="name of the pack (default: of the file --out)")
    parser.add_argument("--names", metavar="FILE", help="names of the classes, one a line, for a --teacher that knows words")
    parser.add_argument("--teacher", metavar="NAME", help="vision-language teacher of the classes (default: none, classes get no names)")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes; 0: a rough guess from the rooms (default 13)")
    parser.add_argument("--minutes", type=float, metavar="M", help="about how long the training may take (default: as --preset says)")
    parser.add_argument("--preset", default="small", help="small: for two processor cores; paper: as published (default %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, such as voxel=0.1 or cluster.epochs=30"
    )
    parser.add_argument("--limit", type=int, default=120, metavar="N", help="frames taken of a room, evenly spread (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the training: auto, cpu, cuda or cuda:N (default %(default)s)")
    add_backbone(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Learn the classes, write the pack and the sheet, and return the summary."""
    from warnings import catch_warnings, simplefilter

    from geoseg_ros.api import discover
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.items import open_clouds
    from geoseg_ros.io.name_lists import read_names
    from geoseg_ros.learning.fabric import first_process
    from geoseg_ros.runtime.recorded_frames import RecordedTopics, recorded_frames

    begin = time.monotonic()
    out = Path(options.out)
    _check_options(options, out)
    names = read_names(options.names) if options.names else ()
    quiet = options.json or not first_process()
    folder = out.with_name(f".{out.name}{UNFINISHED}")
    topics = RecordedTopics(options.depth, options.camera_info, options.color, options.fixed_frame)
    recordings = [recorded_frames(path, topics, options.limit) for path in options.recording]
    backbone = open_image_backbone(options)
    with Stages("step", quiet) as progress, keep_on_interrupt(folder, quiet), catch_warnings(record=True) as trouble:
        simplefilter("always", UserWarning)
        pack = discover(
            options.name or out.stem,
            [*recordings, *options.frames],
            open_clouds(options.clouds),
            names=names,
            teacher=options.teacher,
            preset=options.preset,
            classes=(None if names else 13) if options.classes is None else options.classes,
            minutes=options.minutes,
            backbone=backbone,
            settings=method_settings(options),
            device=options.device,
            limit=options.limit,
            progress=progress,
            resume=folder,
        )
    if not first_process():
        return {}
    version = pack.save(out)
    sheet = write_sheet(pack, out)
    shutil.rmtree(folder, ignore_errors=True)
    warnings = [str(entry.message) for entry in trouble if entry.category is UserWarning]
    summary = {
        **_summary(pack, out, sheet, version),
        "backbone": backbone.name,
        "warnings": warnings,
        "seconds": round(time.monotonic() - begin, 1),
    }
    if not options.json:
        _print(summary)
    return summary


def _print(summary: dict[str, Any]) -> None:
    for line in summary["warnings"]:
        print(f"warning: {line}", file=sys.stderr)
    training, out = summary["training"], summary["out"]
    learnt = f"{training['scenes']} rooms with {training['supervoxels']} super-voxels"
    print(f"{out}: {len(summary['classes'])} classes, learnt from {learnt}, version {summary['version']}")
    print(f"{summary['sheet']}: what they look like; geoseg name {out} 1=NAME 2=NAME ... names and merges them")


def _summary(pack: Pack, out: Path, sheet: Path, version: str) -> dict[str, Any]:
    """What the written files hold."""
    from geoseg_ros.packs.scene_pack import class_shares

    shares = enumerate(zip(pack.classes, class_shares(pack), strict=True), 1)
    return {
        "out": str(out),
        "sheet": str(sheet),
        "version": version,
        "bytes": out.stat().st_size,
        "training": pack.info["training"],
        "classes": [{"class": number, "name": name, "share": round(share, 4)} for number, (name, share) in shares],
    }


def _check_options(options: argparse.Namespace, out: Path) -> None:
    """Raise InputError for options that are wrong whatever the inputs hold."""
    inputs = [*options.recording, *options.frames, *options.clouds]
    if not inputs:
        raise InputError("expected --recording, --frames or --clouds")
    check_pack_file(out, "--out", inputs)
    check_picture(sheet_path(out), inputs)
    if options.names and not options.teacher:
        raise InputError("--names: expected --teacher with it, such as lite2 or clip:FOLDER")
    if options.names and options.classes is not None:
        raise InputError("--classes: the number of names decides, expected --names or --classes")
    if options.minutes is not None and not 0 < options.minutes < float("inf"):
        raise InputError(f"--minutes: expected more than 0, got {options.minutes:g}")
    if not 1 <= options.limit <= 100_000:
        raise InputError(f"--limit: expected 1 to 100000, got {options.limit}")


def sheet_path(pack: Path) -> Path:
    """Path of the sheet beside a pack: ``home.classes.png`` beside ``home.pack``."""
    return pack.with_name(f"{pack.stem}.classes.png")


def write_sheet(pack: Pack, beside: Path) -> Path:
    """Write the sheet of a scene pack beside the file ``beside``; returns its path."""
    from geoseg_ros.display.class_sheet import class_sheet
    from geoseg_ros.packs.scene_pack import CLASS_OF, centroid_pictures, class_shares

    path = sheet_path(beside)
    write_picture(path, class_sheet(pack.classes, class_shares(pack), pack.tensors[CLASS_OF].numpy(), centroid_pictures(pack)))
    return path
