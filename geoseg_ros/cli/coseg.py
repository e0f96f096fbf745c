"""Find the thing that is common to a folder of clouds and a folder of images. No pairing, no calibration, no labels.

Most items should show the thing; those that do not get an empty mask. Each item is judged by what was learnt from others (cross-fitting,
--folds), not by itself. --without names pictures and clouds that do NOT show it (the empty place, other things): optional, and worth a
lot. Either --clouds or --images may be missing.

With --no-outliers every item is taken to show the thing, as in co-segmentation benchmarks: none is refused, and what speaks most for it is
marked. Only a picture of which nothing speaks for it keeps an empty mask.

Where nothing is common to the items, every mask is empty and the command says so; that is an answer, not an error. It is decided on how
much the items speak for each other: "common" and "common_p_value" in summary.json, the chance that unrelated items speak as much (below
0.01: something is common; null: fewer than 4 items of a kind, or --folds 1, do not tell).

Written to the folder --out: for each cloud NAME.npy (uint32 per point in the order of the file, 1 = the thing, 0 = not) and NAME.ply in
colour; for each image NAME.png (uint8, 255 = the thing, 0 = not, the image's own size) and NAME_overlay.jpg; and summary.json. NAME is the
file's name without its suffix, or with it where several files differ in the suffix only.

Interrupted (Ctrl-C, a full disk, a power cut), the same command goes on from where it was: until it is done, --out has a hidden folder
with what was worked out so far.

example:
  geoseg coseg --clouds scans/ --images photos/ --without elsewhere/ --out result/
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.inputs import add_backend
from geoseg_ros.cli.train import UNFINISHED, add_seconds, check_seconds, few, told_of_interrupt
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.projection.token_cache import Worked
    from geoseg_ros.results import Presence
    from geoseg_ros.runtime.pipeline import CosegPipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clouds", metavar="DIR", help="PCD, PLY, NPY, NPZ, KITTI BIN")
    parser.add_argument("--images", metavar="DIR", help="JPG, PNG and other pictures")
    parser.add_argument("--without", nargs="+", action="extend", default=[], metavar="DIR", help="images, clouds or both without the thing")
    parser.add_argument("--without-clouds", nargs="+", action="extend", default=[], metavar="DIR", help="clouds without the thing")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--backbone", default="geoseg_tiny", metavar="NAME", help="image backbone (default %(default)s)")
    add_backend(parser)
    parser.add_argument("--name", default="object", help="what to call the thing (default %(default)s)")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of cross-fitting; 1 = none (default %(default)s)")
    parser.add_argument("--no-outliers", action="store_true", help="every item shows the thing: none is refused")
    parser.add_argument("--save-pack", metavar="FILE", help="keep what was learnt as a concept pack for the live node")
    add_seconds(parser)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Segment both folders and return the summary."""
    from geoseg_ros.cli.inputs import Items, open_image_backbone, open_without
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.cli.train import check_name, check_pack_file, unfinished
    from geoseg_ros.files import write_text
    from geoseg_ros.io.folders import load_clouds, load_images
    from geoseg_ros.methods.contrast.cross_fitting import cross_fit
    from geoseg_ros.methods.contrast.learning import learn
    from geoseg_ros.methods.contrast.observations import BuildConfig, observe
    from geoseg_ros.methods.contrast.pack import pack_version, save_pack
    from geoseg_ros.methods.contrast.verdict import SET_P_MAX, decide, judging
    from geoseg_ros.results import LabelSpace
    from geoseg_ros.runtime.pipeline import CosegPipeline, PipelineConfig
    from geoseg_ros.simulation.bank import open_bank

    begin = time.monotonic()
    out = Path(options.out)
    check_name(options.name)
    check_seconds(options.seconds)
    if options.save_pack:
        check_pack_file(Path(options.save_pack), "--save-pack")
    if not 1 <= options.folds <= 100:
        raise InputError(f"--folds: expected 1 to 100, got {options.folds}")
    if options.images is None and options.clouds is None:
        raise InputError("expected --images, --clouds, or both")
    images = None if options.images is None else load_images(options.images)
    clouds = None if options.clouds is None else load_clouds(options.clouds)
    without, without_clouds = open_without(options.without, options.without_clouds)
    _check_out(out, [options.images, options.clouds, *options.without, *options.without_clouds])
    backbone = open_image_backbone(options)
    summary: dict[str, Any] = {"name": options.name, "backbone": backbone.name, "supervision": backbone.supervision}
    summary["backend"] = backbone.backend
    with Stages("item", options.json) as progress, told_of_interrupt(out / UNFINISHED, options.json):
        bank = open_bank(backbone, progress)
        own = [Items([folder] if folder is not None else []) for folder in (images, clouds)]
        config = BuildConfig()
        known = unfinished(out / UNFINISHED, backbone, bank, config)
        seen = observe(*own, without, without_clouds, backbone, bank, config, progress, options.seconds, known.remember)
        if options.save_pack:  # of everything
            version = save_pack(learn(options.name, seen, backbone, bank, config), options.save_pack)
            summary["pack"] = {"file": options.save_pack, "version": version}
        fitted = cross_fit(options.name, seen, backbone, bank, config, options.folds, partial(progress, "learning"))
        summary["folds"] = {"images": fitted.image_folds, "clouds": fitted.cloud_folds}
        summary["learnt_from"] = {"images": len(seen.images), "clouds": len(seen.clouds)}
        coseg = {"images": judging(config.coseg, fitted.image_folds), "clouds": judging(config.coseg, fitted.cloud_folds)}
        wanted = {coseg[kind] for kind, folder in (("images", images), ("clouds", clouds)) if folder is not None}
        settings = [PipelineConfig(c, config.views, config.geometry) for c in wanted]
        pipelines = {s.coseg: [CosegPipeline(backbone, [pack], s) for pack in fitted.packs] for s in settings}
        versions, palette = [pack_version(pack) for pack in fitted.packs], LabelSpace((options.name,)).palette()
        shown = (options.name,) if options.no_outliers else ()
        answers: dict[str, dict[Path, _Answer]] = {"images": {}, "clouds": {}}
        kinds: tuple[tuple[Any, ...], ...] = (
            ("images", images, _judge_image, _write_image, fitted.image),
            ("clouds", clouds, _judge_cloud, _write_cloud, fitted.cloud),
        )
        for kind, folder, judge, _, fold in kinds:
            for path, item in folder or ():
                number = fold(len(answers[kind]))
                step = f"judge {versions[number]}, p_max {coseg[kind].p_max}, shown {shown}"
                work = partial(judge, pipelines[coseg[kind]][number], item, shown)
                answers[kind][path] = _Answer.of(known.remember(step, item, work))
                progress(f"segmenting {kind}", len(answers[kind]), len(folder))
        p_values = [[answer.p_value for answer in judged.values()] for judged in answers.values()]
        verdict = decide(fitted, seen, p_values[0], p_values[1], config.coseg, not options.no_outliers)
        summary |= {"common": verdict.common, "common_p_value": verdict.p_value}
        for (kind, folder, _, write, _), flags in zip(kinds, (verdict.images, verdict.clouds), strict=True):
            summary[kind] = []
            if folder is None:
                continue
            names, keep = result_names(folder.paths), dict(zip(answers[kind], flags, strict=True))
            for path, item in folder:  # read again: clouds are too large to keep
                if path in keep:
                    label = answers[kind][path].label(bool(keep[path]))
                    files = write(palette, item, label, out, names[path])
                    summary[kind].append({"file": path.name, **answers[kind][path].entry(label), **files})
            summary[kind] += [{"file": path.name, "error": line} for path, line in folder.skipped.items()]
    skipped = [line for folder in (images, clouds, without, without_clouds) if folder is not None for line in folder.warnings]
    trouble = [known.trouble] if known.trouble else []
    trouble += few({"images": len(seen.images), "clouds": len(seen.clouds)})
    if options.no_outliers and verdict.p_value is not None and verdict.p_value >= SET_P_MAX:
        trouble.append(f"nothing but --no-outliers says that these items have something in common (p {verdict.p_value:.2g})")
    summary["warnings"] = skipped + trouble
    summary["seconds"] = round(time.monotonic() - begin, 1)
    write_text(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    known.done()
    if not options.json:
        for line in [f"skipped {line}" for line in skipped] + [f"warning: {line}" for line in trouble]:
            print(line, file=sys.stderr)
        if not verdict.common:
            print(f"nothing in common: unrelated items speak as much for each other (p {verdict.p_value:.2g}); every mask is empty")
        for kind in ("images", "clouds") if verdict.common else ():
            done = [item for item in summary[kind] if "error" not in item]
            absent = [item["file"] for item in done if not item["present"]]
            if done:
                print(f"{kind}: found in {len(done) - len(absent)} of {len(done)}" + (f", not in {', '.join(absent)}" if absent else ""))
        print(f"{out}: masks, labels, pictures and summary.json")
    return {"out": str(out), **summary}


def result_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The name of each file's results: its stem, or its whole name where another file's results would have the same one."""
    names = {path: path.stem for path in paths}
    while True:
        taken: dict[str, list[Path]] = {}
        for path, name in names.items():
            taken.setdefault(name.casefold(), []).append(path)  # some file systems do not tell A from a
        clashing = [path for group in taken.values() if len(group) > 1 for path in group if names[path] != path.name]
        if not clashing:
            return names
        names |= {path: path.name for path in clashing}


def _check_out(out: Path, inputs: Sequence[str | None]) -> None:
    """InputError if results would lie among the inputs, where a mask could replace a picture, or in a file."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file, expected a folder")
    for folder in inputs:
        if folder is not None and out.resolve() == Path(folder).resolve():
            raise InputError(f"--out: {out} is also an input, expected another folder")


@dataclass(frozen=True)
class _Answer:
    """What was found in one item, kept small until all items are known. Attributes: bits, of the flat mask; shape of the mask; p_value;
    share of the item that is the thing; seconds; objects, number of them, of clouds."""

    bits: NDArray[np.uint8]
    shape: tuple[int, ...]
    p_value: float
    share: float
    seconds: float
    objects: int | None

    @classmethod
    def of(cls, worked: Worked) -> _Answer:
        p_value, share, seconds, objects = worked["numbers"].tolist()
        shape = tuple(map(int, worked["shape"]))
        return cls(worked["bits"].numpy(), shape, p_value, share, seconds, None if objects < 0 else int(objects))

    def label(self, shown: bool) -> NDArray[np.uint32]:
        """1 = the thing; nothing where the item does not show it."""
        count = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=count).reshape(self.shape).astype(np.uint32) * np.uint32(shown)

    def entry(self, label: NDArray[np.uint32]) -> dict[str, Any]:
        """One item of the summary. ``present`` is what the mask says: an item with an empty mask does not show the thing."""
        return {
            "present": bool(label.any()),
            "p_value": self.p_value,
            "share": self.share if label.any() else 0.0,
            "seconds": round(self.seconds, 4),
            **({} if self.objects is None else {"objects": self.objects if label.any() else 0}),
        }


def _worked(label: NDArray[np.integer], presence: Presence, seconds: dict[str, float], objects: int = -1) -> Worked:
    import torch

    numbers = (presence.p_value, presence.share, sum(seconds.values()), objects)
    return {
        "bits": torch.from_numpy(np.packbits(label > 0)),
        "shape": torch.tensor(label.shape),
        "numbers": torch.tensor(numbers, dtype=torch.float64),
    }


def _judge_image(pipeline: CosegPipeline, image: NDArray[np.uint8], shown: Sequence[str]) -> Worked:
    result = pipeline.process_image(image, shown)
    return _worked(result.mask, result.presence[0], result.seconds)


def _judge_cloud(pipeline: CosegPipeline, cloud: Cloud, shown: Sequence[str]) -> Worked:
    result = pipeline.process_cloud(cloud, shown)
    return _worked(result.label, result.presence[0], result.seconds, len(result.objects))


def _write_image(palette: NDArray[np.uint8], image: NDArray[np.uint8], label: NDArray[np.uint32], out: Path, name: str) -> dict[str, str]:
    from geoseg_ros.io.folders import write_mask, write_overlay

    mask = label.astype(np.uint8)
    write_mask(out / f"{name}.png", mask * np.uint8(255))
    write_overlay(out / f"{name}_overlay.jpg", image, mask, palette)
    return {"mask": f"{name}.png", "overlay": f"{name}_overlay.jpg"}


def _write_cloud(palette: NDArray[np.uint8], cloud: Cloud, label: NDArray[np.uint32], out: Path, name: str) -> dict[str, str]:
    from geoseg_ros.files import atomic_path
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.io.cloud_files import write_ply

    with atomic_path(out / f"{name}.npy") as temporary:
        np.save(temporary, label)
    rgb = palette[label] if cloud.rgb is None else np.where((label > 0)[:, None], palette[label], cloud.rgb)
    write_ply(out / f"{name}.ply", Cloud(cloud.xyz, rgb, cloud.shape))
    return {"labels": f"{name}.npy", "coloured": f"{name}.ply"}
