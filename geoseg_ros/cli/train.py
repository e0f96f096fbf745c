"""Learn a concept pack, with which the live node finds one target. No labels, masks, pairing or calibration.

All images and clouds show the target, from any viewpoint, in any number; each is a folder or a recording (rosbag2, MCAP, ROS 1 bag). One of
the two may be missing. --without names images and clouds that do NOT show it (the empty place, other objects): optional, but it improves
the pack.

After an interruption (Ctrl-C, a full disk, a power cut) the same command resumes; until it is done, a hidden folder beside --out has
intermediate results.

--recipe makes the background bank and the packs that ship, in the folder --out; then --images are photographs of anything. The recipe
encoder trains the encoder of clouds on simulated rooms and writes its weights (.safetensors); --seconds is then the time of the training.

example:
  geoseg train --name mug --clouds scans/ --images photos/ --without empty_table/ --out mug.pack
  geoseg train --name mug --images drive.mcap --image /camera/image_raw --out mug.pack
  geoseg train --recipe shipped --images caltech101/ --out shipped/
  geoseg train --recipe encoder --out geoseg_encoder.safetensors
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.cli.method_options import add_method, method_settings
from geoseg_ros.cli.outputs import UNFINISHED, check_pack_file, keep_on_interrupt
from geoseg_ros.cli.recipe import RECIPES
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.io.items import Items
    from geoseg_ros.runtime.pipeline import Pipeline

ENCODER = "encoder"  # the recipe of :mod:`geoseg_ros.cli.recipe_encoder`
FEW = 5  # items of a modality below which the user is warned
CHECKED = 12  # items of each kind in the self-check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--name", default="", help="name of the target")
    parser.add_argument("--clouds", nargs="+", action="extend", default=[], metavar="DIR|BAG", help="clouds that show it")
    parser.add_argument("--images", nargs="+", action="extend", default=[], metavar="DIR|BAG", help="images that show it")
    parser.add_argument("--without", nargs="+", action="extend", default=[], metavar="DIR", help="images, clouds or both without it")
    parser.add_argument("--without-clouds", nargs="+", action="extend", default=[], metavar="DIR", help="clouds without it")
    parser.add_argument("--out", required=True, metavar="FILE", help="pack to write")
    parser.add_argument("--recipe", choices=(*RECIPES, ENCODER), help="make what ships with the package, see above")
    add_backbone(parser)
    add_backend(parser)
    add_method(parser)
    parser.add_argument("--points", metavar="TOPIC", help="cloud topic of a recording (default: the only one)")
    parser.add_argument("--image", metavar="TOPIC", help="image topic of a recording (default: the only one)")
    parser.add_argument("--limit", type=int, default=60, metavar="N", help="messages taken of a topic, evenly spread (default %(default)s)")
    add_seconds(parser)


def add_seconds(parser: argparse.ArgumentParser) -> None:
    """Declare --seconds."""
    text = "approximate time for reading the items; of too many an evenly spread subset is read (default: all)"
    parser.add_argument("--seconds", type=float, metavar="S", help=text)


def check_seconds(seconds: float | None) -> None:
    """Raise InputError unless --seconds was left out or is positive."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds: expected more than 0, got {seconds:g}")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Learn the pack, check it on its own items, and return the summary."""
    from geoseg_ros.api import Pipeline, learn_concept
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.items import open_clouds, open_images, open_without
    from geoseg_ros.packs.pack import Pack

    if options.recipe:
        return _make_recipe(options)
    begin = time.monotonic()
    out = Path(options.out)
    _check_options(options)
    images = open_images(options.images, options.image, options.limit)
    clouds = open_clouds(options.clouds, options.points, options.limit)
    items = (images, clouds, *open_without(options.without, options.without_clouds))
    backbone = open_image_backbone(options)
    folder = out.with_name(f".{out.name}{UNFINISHED}")
    with Stages("item", options.json) as progress, keep_on_interrupt(folder, options.json), catch_warnings(record=True) as trouble:
        simplefilter("always", UserWarning)
        pack = learn_concept(
            options.name,
            *items,
            method=options.method,
            settings=method_settings(options),
            backbone=backbone,
            seconds=options.seconds,
            progress=progress,
            resume=folder,
        )
        version = pack.save(out)
        check = self_check(Pipeline(backbone, [Pack.load(out)]), images, clouds, progress)
    counts = dict(zip(("images", "clouds", "without_images", "without_clouds"), (len(source) for source in items), strict=True))
    training: dict[str, Any] = counts | dict(pack.info.get("training", {}))
    shutil.rmtree(folder, ignore_errors=True)
    warnings = [f"skipped {line}" for source in items for line in source.warnings]
    warnings += [str(entry.message) for entry in trouble if entry.category is UserWarning]
    warnings += advice(training, check)
    summary: dict[str, Any] = {
        "out": str(out),
        "name": options.name,
        "version": version,
        "bytes": out.stat().st_size,
        "backbone": backbone.name,
        "backend": backbone.backend,
        "training": training,
        "self_check": check,
        "warnings": warnings,
        "seconds": round(time.monotonic() - begin, 1),
    }
    if not options.json:
        _print(summary)
    return summary


def _make_recipe(options: argparse.Namespace) -> dict[str, object]:
    """Make what ships with the package."""
    from geoseg_ros.cli import recipe, recipe_encoder

    return recipe_encoder.run(options) if options.recipe == ENCODER else recipe.run(options)


def _check_options(options: argparse.Namespace) -> None:
    """Raise InputError for options that are wrong whatever the inputs hold."""
    from geoseg_ros.packs.pack import check_name

    check_name(options.name, "--name")
    check_pack_file(Path(options.out), "--out", [*options.images, *options.clouds, *options.without, *options.without_clouds])
    check_seconds(options.seconds)
    if not 1 <= options.limit <= 100_000:
        raise InputError(f"--limit: expected 1 to 100000, got {options.limit}")
    if not options.images and not options.clouds:
        raise InputError("expected --images, --clouds, or both")


def _print(summary: dict[str, Any]) -> None:
    training, check = summary["training"], summary["self_check"]
    size = f"{summary['bytes'] / 1e6:.1f} MB"
    print(f"{summary['out']}: concept '{summary['name']}', version {summary['version']}, {size}, for {summary['backbone']}")
    print(
        f"learnt from {training['images']} images and {training['clouds']} clouds, "
        f"against {training['without_images']} images and {training['without_clouds']} clouds without it"
    )
    present = [f"{check[f'{kind}_present']} of {check[kind]} {kind}" for kind in ("images", "clouds") if check[kind]]
    print(f"finds it again in {' and '.join(present)} of the training items (not held out)")
    for line in summary["warnings"]:
        print(f"warning: {line}", file=sys.stderr)


def self_check(pipeline: Pipeline, images: Items, clouds: Items, progress: Any) -> dict[str, Any]:
    """Number of training items, of at most ``CHECKED`` per kind, in which the pack finds its concept.

    The items are not held out, so this detects a failed training but does not measure a good one.
    """
    check: dict[str, Any] = {"held_out": False}
    for kind, items, process in (("images", images, pipeline.process_image), ("clouds", clouds, pipeline.process_cloud)):
        every = -(-len(items) // CHECKED) or 1
        found = []
        for k, _, item in items.pick(range(0, len(items), every).__contains__):
            found.append(process(item).presence[0])
            progress("self-check", k + 1, len(items))
        check |= {kind: len(found), f"{kind}_present": sum(p.present for p in found)}
        check[f"{kind}_p_values"] = [round(p.p_value, 4) for p in found]
    return check


def few(counts: dict[str, int]) -> list[str]:
    """A warning for each kind with few items."""
    return [f"only {counts[k]} {k}; use {FEW} or more for a better result" for k in ("images", "clouds") if 0 < counts[k] < FEW]


def advice(training: dict[str, Any], check: dict[str, Any]) -> list[str]:
    """Warnings about a pack that may be weak."""
    lines = few(training)
    for kind in ("images", "clouds"):
        if check[kind] and 2 * check[f"{kind}_present"] < check[kind]:
            lines.append(f"found again in only {check[f'{kind}_present']} of {check[kind]} of its own {kind}: the pack is weak there")
    if not training["without_images"] and not training["without_clouds"]:
        lines.append("no --without: images of the place without the target keep the place itself from being learnt")
    return lines
