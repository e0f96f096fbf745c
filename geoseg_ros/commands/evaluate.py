"""Measure on labelled data and print one table.

Tables:
  tabletop  real RGB-D table-top scenes with boxes and cylindrical things (learn*.pcd with a label field): packs from some scenes,
            clouds and photographs of other scenes measured, and the switch test: a box and a cylinder on one table, asked for one by one

The split `development` is for choosing settings, `report` for the figures that are told.

example:
  geoseg evaluate --table tabletop --root mosd/ --split report --backbone geoseg_tiny --out docs/tabletop_geoseg_tiny.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from geoseg_ros.errors import InputError

TABLES = ("tabletop",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--table", required=True, choices=TABLES, help="what to measure")
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of the data")
    parser.add_argument("--split", default="report", choices=("development", "report"), help="default %(default)s")
    parser.add_argument("--backbone", default="geoseg_tiny", metavar="NAME", help="image backbone (default %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="also write FILE (Markdown) and FILE with suffix .json")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure and return the figures."""
    from geoseg_ros.concepts.background import open_bank
    from geoseg_ros.concepts.build import BuildConfig
    from geoseg_ros.evaluate.tabletop_table import markdown, table
    from geoseg_ros.features.backbone import open_backbone
    from geoseg_ros.files import write_text

    root = Path(options.root)
    if not root.is_dir():
        raise InputError(f"--root {root}: no such folder")
    backbone = open_backbone(options.backbone)
    result = table(root, options.split, backbone, open_bank(backbone), BuildConfig(), lambda text: print(text, file=sys.stderr))
    kind, _, rest = options.backbone.partition(":")
    result["backbone"] = f"{kind}:{Path(rest.partition('?')[0]).name}" if rest else kind  # no paths of this machine
    text = markdown(result)
    if not options.json:
        print(text)
    if options.out:
        command = f"geoseg evaluate --table {options.table} --root DIR --split {options.split} --backbone '{result['backbone']}'"
        write_text(options.out, f"{text}\nCommand: `{command}`\n")
        write_text(Path(options.out).with_suffix(".json"), json.dumps(result, indent=1, default=float) + "\n")
    return result
