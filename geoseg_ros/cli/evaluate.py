"""Measure methods on labelled data, all of them on identical items, and print tables.

Tables:
  tabletop      real RGB-D table-top scenes with boxes and cylinders (learn*.pcd with a field label): packs from some scenes, measured on
                clouds and photographs of others; and the switch test: a box and a cylinder on one table, each wanted in turn
  crowded       the scenes of tabletop, composed: tables crowded with real boxes and cylinders, touching and on one another, each kind
                wanted in turn, given by photographs of it alone; --items tables of each fold
  msrc          MSRC v2 photographs with a class per pixel (--root has images/ and labels/), one set per class
  tokens        those photographs: how well the tokens of the backbone alone separate the classes, by nearest neighbours; nothing is
                learnt; split report: all photographs
  furniture     rendered rooms of artist-made furniture: each kind, and three kinds in a room, each wanted in turn; --root is the unpacked
                Debian package sweethome3d-furniture; --families, --sensor, --items and --seeds as for world; --cache keeps the rooms
  world         the procedural world, made on demand from --preset, --families and --seeds; no --root
  false-alarms  how often --packs report their target in procedural rooms without it; --items rooms of each kind; no --root
  semantics     a class for every point without labels, on the rooms of --data: simulated ones (the default, no --root; --preset standard or
                hard, --items rooms measured and 2.5 times as many learnt from, --cache keeps them), the meshes of furniture, scannet,
                s3dis, nuscenes (with lidarseg) or semantickitti (--root); clusters are matched to classes one to one; PointDC, which
                trains for long, is measured where it is named: --methods PointDC
  named-semantics
                the classes that --teacher has words for, without any matching: its labels lifted without training, HICL, and PointDC's
                matched clusters beside, on the same rooms; --data, --root, --preset and --items as for semantics
  parts         the same place on another instance, by nearest tokens: PCK on pairs of simulated instances with exact truth (the default, no
                --root; --families, --items pairs of each), or SPair-71k, SPair-U or AP-10K (--root; --items pairs of each category)
  s3dis-coseg, scanobjectnn-coseg
                the sets of co-segmentation papers, one per category; --root has S3DIS (JSIS3D's HDF5 files, or version 1.2) or ScanObjectNN
                (main_split), --images has 2D-3D-S, or <category>/images and <category>/masks

Methods: `own` is the contrast method, `baselines` are those that learn nothing, `all` (the default) is both. `methods` are the others,
which may train for long: geofree, and those of installed packages. Networks of the papers, ablations, the table `mixed` and pictures of
the best and worst items: `python -m benchmarks.evaluate` in a checkout.

With --recording, on data of your own: the packs run over the recording as in the node, and what they find is compared with --truth: labels
of some of its clouds and images, *.label of SemanticKITTI, *.npy, *.png, a JSON file of COCO, YOLO. What geoseg export writes can be
corrected by hand and given here. Of several recordings --out is a folder. docs/evaluation.md: layouts, how a file finds its message.

The split `development` is for choosing settings, `report` for reported figures. Protocols: docs/evaluation.md.

example:
  geoseg evaluate --table tabletop --root mosd/ --split report --out tabletop.md
  geoseg evaluate --table msrc --root msrc/ --split development --methods baselines --seeds 0 1 2
  geoseg evaluate --table furniture --root sweethome3d/ --split development --cache rooms/ --items 6 --seeds 0
  geoseg evaluate --table semantics --preset hard --cache rooms/ --out semantics.md
  geoseg evaluate --table world --preset standard --families stool lamp --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.cli.many import add_many, are_many, run_many
from geoseg_ros.cli.replay import add_stream_arguments, open_stream, print_defects, stream_parameters
from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.options import BACKENDS

if TYPE_CHECKING:
    from geoseg_ros.evaluate.run import Suite

TABLES = (
    "tabletop",
    "crowded",
    "msrc",
    "tokens",
    "furniture",
    "world",
    "false-alarms",
    "semantics",
    "named-semantics",
    "parts",
    "s3dis-coseg",
    "scanobjectnn-coseg",
)

SEMANTIC_DATA = ("rooms", "furniture", "scannet", "s3dis", "nuscenes", "semantickitti")


def add_arguments(parser: argparse.ArgumentParser, tables: tuple[str, ...] = TABLES) -> None:
    """Declare the options."""
    from geoseg_ros.simulation.sets import SENSORS

    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", choices=tables, help="what to measure")
    what.add_argument("--recording", nargs="+", metavar="BAG", help="recording of your own to measure on, or several")
    parser.add_argument("--root", metavar="DIR", help="folder of the data")
    parser.add_argument("--images", metavar="DIR", help="folder of pictures for the -coseg tables (default: clouds alone)")
    parser.add_argument("--split", default="report", choices=("development", "report"), help="default %(default)s")
    parser.add_argument("--backbone", metavar="NAME", help=f"image backbone (default {DEFAULT}; of a recording: that of the packs)")
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the image backbone (default auto)")
    parser.add_argument("--out", metavar="FILE", help="also write FILE (Markdown) and FILE with suffix .json")
    own = parser.add_argument_group("a recording of your own")
    own.add_argument("--truth", nargs="+", metavar="LABELS", help="folder of labels, or a JSON file of COCO, for each recording")
    own.add_argument("--ignore", nargs="+", type=int, default=(), metavar="ID", help="label ids in files of ids that do not count")
    add_stream_arguments(own)
    add_many(own)
    rest = parser.add_argument_group("all tables but tabletop")
    rest.add_argument("--methods", nargs="+", default=(), metavar="NAME", help="methods and groups, see above (default: all)")
    rest.add_argument("--protocol", choices=("robot", "paper", "both"), help="default robot; the -coseg tables: paper")
    rest.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of random methods and worlds (default 0 1 2)")
    rest.add_argument("--preset", default="standard", metavar="NAME", help="of the procedural world (default %(default)s)")
    rest.add_argument("--families", nargs="+", default=(), metavar="NAME", help="of world, at least two; of furniture (default: all)")
    rest.add_argument("--sensor", choices=SENSORS, help="of world (default lidar) and furniture (default depth)")
    rest.add_argument("--cache", metavar="DIR", help="keep the rooms of furniture or semantics here, and take those that are there")
    packs = "of false-alarms (default stool lamp) and of a recording"
    rest.add_argument("--packs", nargs="+", metavar="PACK", help=packs)
    rest.add_argument("--data", default="rooms", choices=SEMANTIC_DATA, help="of semantics and named-semantics (default %(default)s)")
    rest.add_argument("--teacher", default="lite2", metavar="NAME", help="of named-semantics, as for discover (default %(default)s)")
    rest.add_argument("--items", type=int, metavar="N", help="clouds and images of each family or category (default: the preset's, or all)")


def run(options: argparse.Namespace, suite: Suite | None = None) -> dict[str, Any]:
    """Measure, print the report and return the figures; ``suite``: further tables and methods."""
    from geoseg_ros.evaluate.run import Request
    from geoseg_ros.files import write_text

    if options.recording is None:
        if (given := next((name for name in ("workers", "ray", "truth") if getattr(options, name) is not None), None)) is not None:
            raise InputError(f"--{given}: not used by --table, it goes with --recording")
        options.backbone, options.backend, options.packs = (
            options.backbone or DEFAULT,
            options.backend or "auto",
            options.packs or Request.packs,
        )
        request = Request(**{field.name: getattr(options, field.name) for field in fields(Request)})
        request.check()
    elif not options.truth:
        raise InputError("--truth: expected the labels of --recording")
    elif are_many(options, options.recording):
        return _measure_many(options)
    else:
        options.recording, options.truth = (_only(options, name) for name in ("recording", "truth"))
    if options.out:
        _check_report(Path(options.out), [options.root, options.images, options.recording, options.truth])
    result, text = _measure(request, options, suite) if options.recording is None else _measure_recording(options)
    if not options.json:
        print(text)
    if options.out:
        write_text(options.out, text)
        write_text(Path(options.out).with_suffix(".json"), json.dumps(result, indent=1, default=float) + "\n")
    return result


def _check_report(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """Raise InputError unless the report can be written and replaces at most an earlier report."""
    from geoseg_ros.files import check_output

    if out.suffix != ".md":
        raise InputError(f"--out: expected a file with .md, got {out}")
    check_output(out, "--out", inputs)
    if out.with_suffix(".json").exists() and not out.exists():
        raise InputError(f"--out: {out.with_suffix('.json')} exists without its report, will not replace it")


def _measure(request: Any, options: argparse.Namespace, suite: Suite | None) -> tuple[dict[str, Any], str]:
    from geoseg_ros.cli.backbone_options import engine_options, open_image_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.evaluate.methods import Tools
    from geoseg_ros.evaluate.run import (
        evaluate_correspondences,
        evaluate_false_alarms,
        evaluate_semantics,
        evaluate_sets,
        evaluate_tabletop,
        evaluate_tokens,
    )
    from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline
    from geoseg_ros.simulation.bank import open_bank

    if request.table == "false-alarms":
        return evaluate_false_alarms(request, lambda packs: open_pipeline(packs, engines=engine_options(options)), _log)
    backbone = open_image_backbone(options)
    if request.table == "parts":
        return evaluate_correspondences(request, backbone, _log)
    if request.table == "tokens":
        with Stages("photograph", options.json) as progress:
            return evaluate_tokens(request, backbone, progress)
    tools = Tools(backbone, open_bank(backbone), PipelineConfig())
    kind, _, rest = options.backbone.partition(":")
    name = f"{kind}:{Path(rest.partition('?')[0]).name}" if rest else kind  # no paths of this machine
    if request.table == "tabletop":
        return evaluate_tabletop(request, tools, name, _log)
    if request.table in ("semantics", "named-semantics"):
        return evaluate_semantics(request, tools, name, _log)
    return evaluate_sets(request, tools, name, _log, suite)


def _only(options: argparse.Namespace, name: str) -> str:
    if len(getattr(options, name)) > 1:
        raise InputError(f"--{name}: expected one for 1 recording, got {len(getattr(options, name))}")
    return str(getattr(options, name)[0])


def _measure_many(options: argparse.Namespace) -> dict[str, Any]:
    """Every recording by itself, and all of them together in summary.md."""
    from geoseg_ros.evaluate import own_recording
    from geoseg_ros.files import write_text

    def finish(out: Path, results: dict[str, Any]) -> None:
        text = own_recording.markdown(own_recording.combined(list(results.values())), f"Evaluation of {len(results)} recordings")
        write_text(out / "summary.md", text)
        if not options.json:
            print(text)

    if options.out is None:
        raise InputError("--out: expected a folder for the reports of several recordings")
    stream_parameters(options, options.recording[0])  # refuses what cannot be before the work begins
    return run_many(options, {"recording": options.recording, "truth": options.truth}, "report.md", finish)


def _measure_recording(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Replay into a temporary recording, and compare that with the labels."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.evaluate import own_recording
    from geoseg_ros.io.recordings import Recording
    from geoseg_ros.io.truth_labels import read_truth
    from geoseg_ros.runtime.replay import choose_topics, replay

    parameters, topics = stream_parameters(options, options.recording)
    truth = read_truth(options.truth, options.ignore)
    with Recording(options.recording) as recording, tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        pairs = own_recording.pair(recording, choose_topics(recording, parameters, topics), truth)
        pipeline = open_stream(options, parameters)
        names = pipeline.labels.names
        own_recording.targets(names, truth)
        with Stages("message", options.json) as stages:
            out = Path(folder) / "out.mcap"
            outputs = ("points_labeled", "mask")
            replayed = replay(recording, pipeline, out, parameters, topics, outputs, progress=partial(stages, "replay"))
        print_defects(replayed)
        with Recording(out) as results:
            scores = own_recording.score(results, names, truth, *pairs)
    result = {"backend": pipeline.backend, **own_recording.report(scores, replayed, names, truth)}
    return result, own_recording.markdown(result, f"Evaluation: {Path(options.recording).name}")


def _log(text: str) -> None:
    print(text, file=sys.stderr)
