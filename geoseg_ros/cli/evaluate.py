"""Measure methods on labelled data, all of them on identical items, and print tables.

Tables:
  tabletop  real RGB-D table-top scenes with boxes and cylindrical things (learn*.pcd with a label field): packs from some scenes,
            clouds and photographs of other scenes measured, and the switch test: a box and a cylinder on one table, asked for one by one
  mixed     clouds composed of one real box and one real cylindrical thing on one real table, and folders of which some scenes hold only
            the other kind; --root as for tabletop
  msrc      MSRC v2 photographs with a class per pixel (--root has images/ and labels/), a co-segmentation set per class
  tokens    how well tokens of the backbone alone tell the classes of those photographs apart (nearest neighbours); the split report has
            all photographs
  false-alarms
            how often --packs find their target in rooms of the procedural world that lack it; --items rooms of each kind; no --root
  crowded   tables crowded with real boxes and cylindrical things of several scenes, touching and on one another, asked for one kind by
            photographs of it alone; --items tables of each fold; --root as for tabletop
  furniture rooms of artist-made furniture, rendered: each kind, and rooms with three kinds asked for one by one; --root is the unpacked
            Debian package sweethome3d-furniture; --families, --sensor, --items and --seeds as for world; --cache keeps the rooms
  world     the procedural world, made on demand from --preset, --families and --seeds; no --root
  s3dis-coseg, scanobjectnn-coseg
            the sets of co-segmentation papers, a set per category, beside the published figures; --root has S3DIS (JSIS3D's HDF5 files, or
            version 1.2) or ScanObjectNN (main_split), --images has 2D-3D-S, or <category>/images and <category>/masks

Methods: `own` is the contrast, `baselines` are those that learn nothing; `all` (the default) is both. `methods` are the others that can be
opened here, which may train for long: geofree, and those of installed packages. In a checkout, `python -m benchmarks.evaluate` measures the
learnt baselines of the papers beside them.

The split `development` is for choosing settings, `report` for the figures that are reported. docs/evaluation.md has the protocols.

example:
  geoseg evaluate --table tabletop --root mosd/ --split report --backbone geoseg_tiny --out tabletop.md
  geoseg evaluate --table msrc --root msrc/ --split development --methods baselines --seeds 0 1 2
  geoseg evaluate --table furniture --root sweethome3d/ --split development --cache rooms/ --items 6 --seeds 0
  geoseg evaluate --table world --preset standard --families stool lamp --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.backbones.base import ImageBackbone
    from geoseg_ros.evaluate.items import CosegSet, NamedMethod
    from geoseg_ros.evaluate.methods import Tools

COSEG_TABLES = ("s3dis-coseg", "scanobjectnn-coseg")
TABLES = ("tabletop", "mixed", "crowded", "msrc", "tokens", "furniture", "world", "false-alarms", *COSEG_TABLES)
MADE = ("world", "furniture")  # by --families, --sensor, --items and --seeds
PROTOCOLS = ("robot", "paper", "both")


class Further:
    """Further methods that are measured; what ``geoseg evaluate`` has without them. Attributes: name: of the command."""

    name: tuple[str, ...] = ("geoseg", "evaluate")

    def groups(self, tools: Tools) -> dict[str, list[NamedMethod]]:
        """Group -> methods; those of the group ``baselines`` join the default."""
        return {}

    def look_at(self, sets: Sequence[CosegSet]) -> None:
        """See all sets before any is measured."""

    def report(self, rows: Sequence[dict[str, Any]]) -> str:
        """More Markdown, from the measured rows."""
        return ""

    def command(self) -> list[str]:
        """Options of the command beside those of ``geoseg evaluate``."""
        return []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from geoseg_ros.simulation.sets import SENSORS

    parser.add_argument("--table", required=True, choices=TABLES, help="what to measure")
    parser.add_argument("--root", metavar="DIR", help="folder of the data")
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures of the -coseg tables; without, clouds alone are measured")
    parser.add_argument("--split", default="report", choices=("development", "report"), help="default %(default)s")
    add_backbone(parser)
    add_backend(parser)
    parser.add_argument("--out", metavar="FILE", help="also write FILE (Markdown) and FILE with suffix .json")
    rest = parser.add_argument_group("all tables but tabletop")
    rest.add_argument("--methods", nargs="+", metavar="NAME", help="methods and groups, see above; default `all`")
    rest.add_argument("--protocol", choices=PROTOCOLS, help="default robot; the -coseg tables have paper alone; see docs/evaluation.md")
    rest.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of random methods and worlds (0 1 2)")
    rest.add_argument("--preset", default="standard", metavar="NAME", help="of the procedural world (default %(default)s)")
    rest.add_argument("--families", nargs="+", metavar="NAME", help="of the procedural world, at least two; kinds of furniture (all)")
    rest.add_argument("--sensor", choices=SENSORS, help="default lidar; of furniture depth")
    rest.add_argument("--cache", metavar="DIR", help="keep the rooms of furniture here, and take those that are there")
    rest.add_argument("--packs", nargs="+", default=["stool", "lamp"], metavar="PACK", help="of false-alarms (default: those that ship)")
    rest.add_argument("--pictures", metavar="DIR", help="write pictures of the three best and the three worst items of each row")
    rest.add_argument("--items", type=int, metavar="N", help="clouds and images of each family or category (default: the preset's, or all)")


def run(options: argparse.Namespace, further: Further | None = None) -> dict[str, Any]:
    """Measure and return the figures; ``further``: methods beside those of the package."""
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.evaluate.methods import Tools
    from geoseg_ros.runtime.pipeline import PipelineConfig
    from geoseg_ros.simulation.bank import open_bank

    root = _root(options)
    _protocol(options)  # refuse before anything is loaded
    if options.out:
        _check_report(Path(options.out), [options.root, options.images])
    if options.table == "false-alarms":
        return _false_alarms(options)
    backbone = open_image_backbone(options)
    if options.table == "tokens":
        return _tokens(options, root, backbone)
    tools = Tools(backbone, open_bank(backbone), PipelineConfig())
    kind, _, rest = options.backbone.partition(":")
    name = f"{kind}:{Path(rest.partition('?')[0]).name}" if rest else kind  # no paths of this machine
    if options.table == "tabletop":
        result, text = _tabletop(options, root, tools, name)
    else:
        result, text = _table(options, root, tools, name, further or Further())
    _write(options, text, result)
    return result


def _check_report(out: Path, inputs: Sequence[str | Path | None]) -> None:
    """InputError unless the report can be written, and replaces at most a report."""
    from geoseg_ros.files import check_output

    if out.suffix != ".md":
        raise InputError(f"--out: expected a file with .md, got {out}")
    check_output(out, "--out", inputs)
    if out.with_suffix(".json").exists() and not out.exists():
        raise InputError(f"--out: {out.with_suffix('.json')} exists without its report, will not replace it")


def _false_alarms(options: argparse.Namespace) -> dict[str, Any]:
    from geoseg_ros.cli.backbone_options import engine_options
    from geoseg_ros.evaluate.false_alarms import false_alarms, markdown
    from geoseg_ros.runtime.pipeline import open_pipeline

    rooms = 100 if options.items is None else options.items
    if not 1 <= rooms <= 10_000:
        raise InputError(f"--items: expected 1 to 10000 rooms, got {rooms}")
    pipeline = open_pipeline(options.packs, engines=engine_options(options))
    command = f"geoseg evaluate --table false-alarms --packs {' '.join(options.packs)} --items {rooms} --seeds {options.seeds[0]}"
    result = false_alarms(pipeline, rooms, options.seeds[0], options.preset, _tell) | {"command": command}
    text = f"{markdown(result)}\nBackbone `{pipeline.backbone_name}`. Command: `{command}`\n"
    _write(options, text, result)
    return result


def _tokens(options: argparse.Namespace, root: Path, backbone: ImageBackbone) -> dict[str, Any]:
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.evaluate.msrc import in_split, read_photographs
    from geoseg_ros.evaluate.token_classes import backbone_tokens, token_classes

    photographs = [p for p in read_photographs(root) if options.split == "report" or in_split(p, options.split)]
    with Stages("photograph", options.json) as progress:
        done = itertools.count(1)
        found = token_classes(backbone_tokens(backbone), photographs, lambda: progress("tokens", next(done), len(photographs)))
    result = asdict(found) | {"backbone": backbone.name, "supervision": backbone.supervision, "split": options.split}
    text = (
        f"| backbone | split | photographs | tokens | pixel | class mean |\n|---|---|---|---|---|---|\n"
        f"| {backbone.name} | {options.split} | {found.photographs} | {found.tokens} | {found.pixel:.3f} | {found.class_mean:.3f} |\n"
    )
    _write(options, text, result)
    return result


def _write(options: argparse.Namespace, text: str, result: dict[str, Any]) -> None:
    """Print the table, and write it where --out says so."""
    from geoseg_ros.files import write_text

    if not options.json:
        print(text)
    if options.out:
        write_text(options.out, text)
        write_text(Path(options.out).with_suffix(".json"), json.dumps(result, indent=1, default=float) + "\n")


def _root(options: argparse.Namespace) -> Path:
    if options.table in ("world", "false-alarms"):
        if options.root is not None:
            raise InputError(f"--root: not used by --table {options.table}, which is made on demand")
        return Path()
    if options.root is None:
        raise InputError(f"--root: expected the folder of the data of --table {options.table}")
    if not Path(options.root).is_dir():
        raise InputError(f"--root {options.root}: no such folder")
    return Path(options.root)


def _protocol(options: argparse.Namespace) -> str:
    """The protocol to run. Raises InputError for options that do not fit the table."""
    if options.cache is not None and options.table != "furniture":
        raise InputError(f"--cache: not used by --table {options.table}")
    if options.table not in COSEG_TABLES:
        if options.images is not None:
            raise InputError(f"--images: not used by --table {options.table}")
        return options.protocol or "robot"
    if options.protocol not in (None, "paper"):
        raise InputError(f"--protocol {options.protocol}: --table {options.table} has paper alone")
    if options.split != "report":
        raise InputError(f"--split {options.split}: --table {options.table} has report alone, no setting was chosen on it")
    if options.images is not None and not Path(options.images).is_dir():
        raise InputError(f"--images {options.images}: no such folder")
    return "paper"


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _tabletop(options: argparse.Namespace, root: Path, tools: Tools, backbone: str) -> tuple[dict[str, Any], str]:
    from geoseg_ros.evaluate.tabletop_table import markdown, table

    result = table(root, options.split, tools.backbone, tools.bank, tools.config, _tell)
    result["backbone"] = backbone
    command = f"geoseg evaluate --table tabletop --root DIR --split {options.split} --backbone '{backbone}'"
    return result, f"{markdown(result)}\nCommand: `{command}`\n"


def _table(options: argparse.Namespace, root: Path, tools: Tools, backbone: str, further: Further) -> tuple[dict[str, Any], str]:
    from geoseg_ros.evaluate.best_and_worst import Extremes
    from geoseg_ros.evaluate.items import paper_protocol
    from geoseg_ros.evaluate.table import known, markdown, measure, summarise

    methods = choose_methods(tools, options.methods or ["all"], further.groups(tools))
    sets = _sets(options, root)
    protocol = _protocol(options)
    wanted = [items for items in sets if items.protocol == "paper" or protocol != "paper"]
    if protocol != "robot":
        largest: dict[tuple[str, str, int | None], CosegSet] = {}
        for items in sets:  # sets that differ in what is learnt from are one set of this protocol
            if items.protocol == "paper":
                continue
            key = (items.group, items.name, items.seed)
            if key not in largest or items.shown > largest[key].shown:
                largest[key] = items
        wanted += [paper_protocol(items) for items in largest.values() if items.shown]
    if protocol != "paper":
        wanted += _crossing(options, root, sets)
    further.look_at(wanted)
    extremes = Extremes()
    rows = measure(wanted, methods, options.seeds, _tell, extremes.look if options.pictures else None)
    if options.pictures:
        for path in extremes.write(Path(options.pictures)):
            _tell(str(path))
    command = _command(options, backbone, further)
    about = {"backbone": backbone, "supervision": tools.backbone.supervision, "command": command}
    title = {"world": "procedural world"}.get(options.table, options.table)
    title += f", split {options.split}" if options.table in ("mixed", "crowded", "msrc", "furniture") else ""
    rows = [{**row, **about, "backbone": backbone if row["backbone"] else None} for row in rows]
    summary = summarise(rows)
    result = {"title": f"Evaluation: {title}", **about, "summary": summary, "rows": rows}
    if options.table not in COSEG_TABLES:
        return known(result), markdown(result) + further.report(rows)
    from geoseg_ros.evaluate import published

    differences = published.differences(options.table, options.images is not None, options.items)
    result |= {"published": [asdict(row) for row in published.PUBLISHED[options.table]], "differences": differences}
    own = published.ours(summary, backbone, tools.backbone.supervision)
    return known(result), markdown(result) + published.beside(options.table, own, differences)


def choose_methods(tools: Tools, names: Sequence[str], further: Mapping[str, list[NamedMethod]]) -> list[NamedMethod]:
    """The methods of these names and groups, each once. Raises InputError for an unknown one."""
    from geoseg_ros.evaluate.methods import further_methods, own_methods
    from geoseg_ros.evaluate.trivial import TRIVIAL

    groups = {
        "own": own_methods(tools),
        "methods": further_methods(tools),
        **further,
        "baselines": [*TRIVIAL, *further.get("baselines", [])],
    }
    every = [method for group in groups.values() for method in group]
    known = {method.name: [method] for method in every} | groups | {"all": [*groups["own"], *groups["baselines"]]}
    for name in names:
        if name not in known:
            raise InputError(f"--methods {name}: unknown, expected some of {', '.join(known)}")
    wanted = {method.name for name in names for method in known[name]}
    return [method for method in every if method.name in wanted]


def _sets(options: argparse.Namespace, root: Path) -> list[CosegSet]:
    if options.table == "msrc":
        from geoseg_ros.evaluate.msrc import msrc_sets, read_photographs

        return msrc_sets(read_photographs(root), options.split)
    if options.table == "mixed":
        from geoseg_ros.evaluate.mixed import mixed_sets

        return mixed_sets(root, options.split)
    if options.table in COSEG_TABLES:
        from geoseg_ros.evaluate import published

        return published.TABLES[options.table](root, None if options.images is None else Path(options.images), options.items, _tell)
    if options.table == "crowded":
        from geoseg_ros.evaluate.crowded_tables import crowded_sets

        return crowded_sets(root, options.split, options.seeds, options.items)
    if options.table == "furniture":
        from geoseg_ros.evaluate.furniture import furniture_sets

        kept = None if options.cache is None else Path(options.cache)
        wanted, sensor = options.families or (), options.sensor or "depth"
        return furniture_sets(root, options.split, wanted, options.seeds, options.items, sensor, kept, _tell)
    from geoseg_ros.evaluate.world import world_sets

    return world_sets(options.preset, options.families or (), options.seeds, options.items, options.sensor or "lidar", _tell)


def _crossing(options: argparse.Namespace, root: Path, sets: Sequence[CosegSet]) -> list[CosegSet]:
    from geoseg_ros.evaluate.cross_modal_sets import mixed_crossing, world_crossing

    if options.table == "mixed":
        return mixed_crossing(root, options.split)
    return world_crossing(sets) if options.table == "world" else []


def _command(options: argparse.Namespace, backbone: str, further: Further) -> str:
    words = [*further.name, "--table", options.table]
    if options.table in MADE:
        world = options.table == "world"
        words += ["--preset", options.preset] if world else ["--root", "DIR", "--split", options.split]
        words += ["--families", *options.families] if options.families else []
        words += ["--sensor", options.sensor or ("lidar" if world else "depth")]
        words += [] if options.items is None else ["--items", str(options.items)]
    elif options.table in COSEG_TABLES:
        words += ["--root", "DIR", *(["--images", "DIR"] if options.images else [])]
        words += [] if options.items is None else ["--items", str(options.items)]
    else:
        words += ["--root", "DIR", "--split", options.split]
        words += ["--items", str(options.items)] if options.table == "crowded" and options.items is not None else []
    words += ["--protocol", _protocol(options), "--backbone", backbone, "--seeds", *map(str, options.seeds)]
    words += ["--methods", *options.methods] if options.methods else []
    return shlex.join(words + further.command())
