"""Segment the object that the items of a folder of clouds and a folder of images have in common. No pairing, calibration or labels.

Most items should show the target; the others get an empty mask. Each item is judged by a pack that was learnt from the others
(cross-fitting, --folds). --without names images and clouds that do NOT show the target (the empty place, other objects): optional, but it
improves the result. Either --clouds or --images may be missing.

With --no-outliers every item is known to show the target, as in co-segmentation benchmarks: none is refused, and the best region is marked.
Only an image without any evidence keeps an empty mask.

Where the items have nothing in common, every mask is empty and the command reports it; this is a result, not an error. summary.json has the
decision as "common", and as "common_p_value" the probability that unrelated items are as similar: below 0.01 something is common; null: too
few items to decide (fewer than 4 of a kind, or --folds 1).

Written to the folder --out: for each cloud NAME.npy (uint32 per point in the order of the file, 1 = target, 0 = not) and NAME.ply in
colour; for each image NAME.png (uint8, 255 = target, 0 = not, in the size of the image) and NAME_overlay.jpg; and summary.json. NAME is the
file's name without its suffix, or with it where several files differ in the suffix only.

After an interruption (Ctrl-C, a full disk, a power cut) the same command resumes; until it is done, --out has a hidden folder with
intermediate results.

example:
  geoseg coseg --clouds scans/ --images photos/ --without empty_table/ --out result/
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.cli.method_options import add_method, method_settings
from geoseg_ros.cli.outputs import UNFINISHED, ResultFolder, check_pack_file, keep_on_interrupt, write_labelled_cloud
from geoseg_ros.cli.train import add_seconds, check_seconds, few
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.io.folders import Folder
    from geoseg_ros.results import SetCloud, SetImage, SetResult


KINDS = ("images", "clouds")
RESULTS: dict[str, tuple[str, ...]] = {"images": (".png", "_overlay.jpg"), "clouds": (".npy", ".ply")}  # ends of their names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clouds", metavar="DIR", help="PCD, PLY, NPY, NPZ, KITTI BIN")
    parser.add_argument("--images", metavar="DIR", help="JPG, PNG and other pictures")
    parser.add_argument(
        "--without", nargs="+", action="extend", default=[], metavar="DIR", help="images, clouds or both that do not show the target"
    )
    parser.add_argument("--without-clouds", nargs="+", action="extend", default=[], metavar="DIR", help="clouds that do not show it")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_backbone(parser)
    add_backend(parser)
    add_method(parser)
    parser.add_argument("--name", default="object", help="what to call the target (default %(default)s)")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of cross-fitting; 1 = none (default %(default)s)")
    parser.add_argument("--no-outliers", action="store_true", help="every item shows the target: none is refused")
    parser.add_argument("--save-pack", metavar="FILE", help="keep what was learnt as a concept pack for the live node")
    add_seconds(parser)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Segment both folders and return the summary."""
    from geoseg_ros.api import cosegment
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.items import Items, open_without

    begin = time.monotonic()
    out = Path(options.out)
    _check_options(options)
    folders = _load(options)
    images, clouds = (Items([folders[kind]] if kind in folders else []) for kind in KINDS)
    without, without_clouds = open_without(options.without, options.without_clouds)
    results = ResultFolder(options.out, _inputs(options), folders, RESULTS)
    backbone = open_image_backbone(options)
    resume = out / UNFINISHED
    with Stages("item", options.json) as progress, keep_on_interrupt(resume, options.json):
        result = cosegment(
            images,
            clouds,
            without,
            without_clouds,
            method=options.method,
            settings=method_settings(options),
            backbone=backbone,
            outliers=not options.no_outliers,
            name=options.name,
            folds=options.folds,
            seconds=options.seconds,
            keep_pack=bool(options.save_pack),
            progress=progress,
            resume=resume,
        )
        summary: dict[str, Any] = {"name": options.name, "method": options.method, "backbone": backbone.name}
        summary |= {"supervision": backbone.supervision, "backend": backbone.backend}
        if options.save_pack:
            summary["pack"] = {"file": options.save_pack, "version": result.pack.save(options.save_pack)}
        summary |= _write_results(result, results, folders)
    warnings = [line.replace("outliers=False", "--no-outliers") for line in result.warnings] + few(summary["learnt_from"])
    summary["warnings"] = [*result.skipped, *warnings]
    summary["seconds"] = round(time.monotonic() - begin, 1)
    results.finish(summary)
    shutil.rmtree(resume, ignore_errors=True)
    if not options.json:
        for line in [f"skipped {line}" for line in result.skipped] + [f"warning: {line}" for line in warnings]:
            print(line, file=sys.stderr)
        _print(result, summary, out)
    return {"out": str(out), **summary}


def _inputs(options: argparse.Namespace) -> list[str | None]:
    return [options.images, options.clouds, *options.without, *options.without_clouds]


def _check_options(options: argparse.Namespace) -> None:
    """Raise InputError for options that are wrong whatever the inputs hold."""
    from geoseg_ros.packs.pack import check_name

    check_name(options.name, "--name")
    check_seconds(options.seconds)
    if options.save_pack:
        check_pack_file(Path(options.save_pack), "--save-pack", _inputs(options))
    if not 1 <= options.folds <= 100:
        raise InputError(f"--folds: expected 1 to 100, got {options.folds}")
    if options.images is None and options.clouds is None:
        raise InputError("expected --images, --clouds, or both")


def _load(options: argparse.Namespace) -> dict[str, Folder[Any]]:
    """The folders that were given, by kind."""
    from geoseg_ros.io.folders import load_clouds, load_images

    folders: dict[str, Folder[Any]] = {}
    if options.images is not None:
        folders["images"] = load_images(options.images)
    if options.clouds is not None:
        folders["clouds"] = load_clouds(options.clouds)
    return folders


def _write_results(result: SetResult, results: ResultFolder, kinds: Iterable[str]) -> dict[str, Any]:
    """Write the results of every item, whose files are read again because clouds are too large to keep; return the summary's part."""
    judged = {Path(item.name): item for item in [*result.images, *result.clouds]}  # without those that could not be read before
    entries: dict[str, Any] = {kind: [] for kind in KINDS}
    for kind in kinds:
        entries[kind] = results.write(kind, lambda path, _: judged.get(path), _write_image if kind == "images" else _write_cloud)
    return {
        "folds": dict(zip(KINDS, result.folds, strict=True)),
        "learnt_from": dict(zip(KINDS, result.used, strict=True)),
        "common": result.common,
        "common_p_value": result.common_p_value,
        **entries,
    }


def _print(result: SetResult, summary: dict[str, Any], out: Path) -> None:
    if not result.common:
        print(f"nothing in common: unrelated items would be as similar (p {result.common_p_value:.2g}); every mask is empty")
    for kind, found in (("images", result.images), ("clouds", result.clouds)) if result.common else ():
        absent = [entry["file"] for entry in summary[kind] if not entry.get("present", True)]
        if found:
            print(f"{kind}: found in {len(found) - len(absent)} of {len(found)}" + (f", not in {', '.join(absent)}" if absent else ""))
    print(f"{out}: masks, labels, pictures and summary.json")


def _write_image(image: NDArray[np.uint8], found: SetImage, path: Path) -> dict[str, Any]:
    from geoseg_ros.io.folders import write_mask, write_overlay

    mask = found.mask.astype(np.uint8)
    write_mask(f"{path}.png", mask * np.uint8(255))
    write_overlay(f"{path}_overlay.jpg", image, mask, _palette())
    return {**_judged(found), "mask": f"{path.name}.png", "overlay": f"{path.name}_overlay.jpg"}


def _write_cloud(cloud: Cloud, found: SetCloud, path: Path) -> dict[str, Any]:
    label, palette = found.label, _palette()
    rgb = palette[label] if cloud.rgb is None else np.where((label > 0)[:, None], palette[label], cloud.rgb)
    return {**_judged(found), "objects": found.objects, **write_labelled_cloud(path, cloud, label, rgb)}


def _judged(found: SetImage | SetCloud) -> dict[str, Any]:
    return {"present": found.present, "p_value": found.p_value, "share": found.share, "seconds": round(found.seconds, 4)}


def _palette() -> NDArray[np.uint8]:
    from geoseg_ros.results import LabelSpace

    return LabelSpace(("object",)).palette()
