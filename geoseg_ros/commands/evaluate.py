"""Measure methods and baselines on labelled data, all of them on identical items, and print tables.

Tables:
  tabletop  real RGB-D table-top scenes with boxes and cylindrical things (learn*.pcd with a label field): packs from some scenes,
            clouds and photographs of other scenes measured, and the switch test: a box and a cylinder on one table, asked for one by one
  mixed     clouds composed of one real box and one real cylindrical thing on one real table, and folders of which some scenes hold only
            the other kind; --root as for tabletop
  msrc      MSRC v2 photographs with a class per pixel (--root has images/ and labels/), a co-segmentation set per class
  world     the procedural world, made on demand from --preset, --families and --seeds; no --root

The split `development` is for choosing settings, `report` for the figures that are told. docs/evaluation.md has the protocols.

example:
  geoseg evaluate --table tabletop --root mosd/ --split report --backbone geoseg_tiny --out docs/tabletop_geoseg_tiny.md
  geoseg evaluate --table msrc --root msrc/ --split development --methods baselines --seeds 0 1 2
  geoseg evaluate --table world --preset standard --families stool lamp --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.evaluate.items import CosegSet, NamedMethod
    from geoseg_ros.evaluate.methods import Tools

TABLES = ("tabletop", "mixed", "msrc", "world")
PROTOCOLS = ("robot", "paper", "both")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--table", required=True, choices=TABLES, help="what to measure")
    parser.add_argument("--root", metavar="DIR", help="folder of the data")
    parser.add_argument("--split", default="report", choices=("development", "report"), help="default %(default)s")
    parser.add_argument("--backbone", default="geoseg_tiny", metavar="NAME", help="image backbone (default %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="also write FILE (Markdown) and FILE with suffix .json")
    rest = parser.add_argument_group("all tables but tabletop")
    rest.add_argument("--methods", nargs="+", metavar="NAME", help="methods, or the groups `all` (default), `own` and `baselines`")
    rest.add_argument("--protocol", default="robot", choices=PROTOCOLS, help="default %(default)s; see docs/evaluation.md")
    rest.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of random methods and worlds (0 1 2)")
    rest.add_argument("--preset", default="standard", metavar="NAME", help="of the procedural world (default %(default)s)")
    rest.add_argument("--families", nargs="+", metavar="NAME", help="of the procedural world, at least two")
    rest.add_argument("--sensor", default="lidar", choices=("lidar", "depth"), help="of the procedural world (default %(default)s)")
    rest.add_argument("--items", type=int, metavar="N", help="clouds and images of each family (default: what the preset says)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the figures."""
    from geoseg_ros.concepts.background import open_bank
    from geoseg_ros.concepts.build import BuildConfig
    from geoseg_ros.evaluate.methods import Tools
    from geoseg_ros.features.backbone import open_backbone
    from geoseg_ros.files import write_text

    root = _root(options)
    backbone = open_backbone(options.backbone)
    tools = Tools(backbone, open_bank(backbone), BuildConfig())
    kind, _, rest = options.backbone.partition(":")
    name = f"{kind}:{Path(rest.partition('?')[0]).name}" if rest else kind  # no paths of this machine
    result, text = (_tabletop if options.table == "tabletop" else _table)(options, root, tools, name)
    if not options.json:
        print(text)
    if options.out:
        write_text(options.out, text)
        write_text(Path(options.out).with_suffix(".json"), json.dumps(result, indent=1, default=float) + "\n")
    return result


def _root(options: argparse.Namespace) -> Path:
    if options.table == "world":
        if options.root is not None:
            raise InputError("--root: not used by --table world, which is made on demand")
        return Path()
    if options.root is None:
        raise InputError(f"--root: expected the folder of the data of --table {options.table}")
    if not Path(options.root).is_dir():
        raise InputError(f"--root {options.root}: no such folder")
    return Path(options.root)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _tabletop(options: argparse.Namespace, root: Path, tools: Tools, backbone: str) -> tuple[dict[str, Any], str]:
    from geoseg_ros.evaluate.tabletop_table import markdown, table

    result = table(root, options.split, tools.backbone, tools.bank, tools.config, _tell)
    result["backbone"] = backbone
    command = f"geoseg evaluate --table tabletop --root DIR --split {options.split} --backbone '{backbone}'"
    return result, f"{markdown(result)}\nCommand: `{command}`\n"


def _table(options: argparse.Namespace, root: Path, tools: Tools, backbone: str) -> tuple[dict[str, Any], str]:
    from geoseg_ros.evaluate.items import paper_protocol
    from geoseg_ros.evaluate.table import known, markdown, measure, summarise

    methods = choose_methods(tools, options.methods or ["all"])
    sets = _sets(options, root)
    wanted = [] if options.protocol == "paper" else list(sets)
    if options.protocol != "robot":
        largest: dict[tuple[str, str, int | None], CosegSet] = {}
        for items in sets:  # sets that differ in what is learnt from are one set of this protocol
            key = (items.group, items.name, items.seed)
            if key not in largest or items.shown > largest[key].shown:
                largest[key] = items
        wanted += [paper_protocol(items) for items in largest.values() if items.shown]
    rows = measure(wanted, methods, options.seeds, _tell)
    command = _command(options, backbone)
    about = {"backbone": backbone, "supervision": tools.backbone.supervision, "command": command}
    title = "procedural world" if options.table == "world" else f"{options.table}, split {options.split}"
    rows = [{**row, **about, "backbone": backbone if row["backbone"] else None} for row in rows]
    result = {"title": f"Evaluation: {title}", **about, "summary": summarise(rows), "rows": rows}
    return known(result), markdown(result)


def choose_methods(tools: Tools, names: Sequence[str]) -> list[NamedMethod]:
    """The methods of these names and groups, each once. Raises InputError for an unknown one."""
    from geoseg_ros.evaluate.baselines import baselines
    from geoseg_ros.evaluate.methods import contrast

    groups = {"own": [contrast(tools)], "baselines": baselines(tools)}
    every = [method for group in groups.values() for method in group]
    known = {method.name: [method] for method in every} | groups | {"all": every}
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
    from geoseg_ros.evaluate.world import world_sets

    return world_sets(options.preset, options.families or (), options.seeds, options.items, options.sensor, _tell)


def _command(options: argparse.Namespace, backbone: str) -> str:
    words = ["geoseg", "evaluate", "--table", options.table]
    if options.table == "world":
        words += ["--preset", options.preset, "--families", *options.families, "--sensor", options.sensor]
        words += [] if options.items is None else ["--items", str(options.items)]
    else:
        words += ["--root", "DIR", "--split", options.split]
    words += ["--protocol", options.protocol, "--backbone", backbone, "--seeds", *map(str, options.seeds)]
    return shlex.join([*words, *(["--methods", *options.methods] if options.methods else [])])
