"""Name the classes of a scene pack, or list them. Classes that get one name become one class.

The numbers are those of the list, and of the picture beside the pack (home.classes.png), which is drawn anew. The pack itself is changed,
unless --out names another file.

example:
  geoseg name home.pack
  geoseg name home.pack 3=chair 5=table 9=table
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geoseg_ros.cli.discover import check_sheet, write_sheet
from geoseg_ros.cli.train import check_pack_file
from geoseg_ros.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pack", metavar="PACK", help="scene pack of geoseg discover")
    parser.add_argument("names", nargs="*", metavar="NUMBER=NAME", help="class and its name; none: the classes are listed")
    parser.add_argument("--out", metavar="FILE", help="pack to write (default: PACK itself)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Name classes and return the list of them."""
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.packs.scene_pack import check_scene_pack, class_shares, renamed

    pack = Pack.load(options.pack)
    check_scene_pack(pack)
    if options.out and not options.names:
        raise InputError("--out: expected NUMBER=NAME with it, nothing is named")
    out = Path(options.out or pack.path)
    if options.names:
        pack = renamed(pack, _entries(options.names))
        if options.out:
            check_pack_file(out, "--out")
        check_sheet(out)
        pack.save(out)
        write_sheet(pack, out)
    shares = class_shares(pack)
    classes = [
        {"class": k, "name": name, "share": round(share, 4)} for k, (name, share) in enumerate(zip(pack.classes, shares, strict=True), 1)
    ]
    if not options.json:
        for number, (name, share) in enumerate(zip(pack.classes, shares, strict=True), 1):
            print(f"{number:>4}  {name:<24} {100 * share:5.1f} % of the points")
    return {"pack": str(out), "version": pack.version, "classes": classes}


def _entries(texts: list[str]) -> dict[int, str]:
    """Number of a class -> its name."""
    names: dict[int, str] = {}
    for text in texts:
        number, equals, name = text.partition("=")
        if not equals or not number.isdecimal() or len(number) > 9:
            raise InputError(f"expected NUMBER=NAME such as 3=chair, got {text[:80]!r}")
        if int(number) in names:
            raise InputError(f"{number}: named twice, {names[int(number)]!r} and {name.strip()!r}")
        names[int(number)] = name.strip()
    return names
