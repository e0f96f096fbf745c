"""Make the background bank of an image backbone: features of everyday scenes and objects, which no concept should match.

It is made from procedural rooms and, where given, from photographs of anything. `geoseg train` and `geoseg coseg` make a bank where there
is none yet; use this command to add photographs, or to make the bank beforehand.

example:
  geoseg bank --backbone dinov2_vits14
  geoseg bank --backbone geoseg_tiny --images photos_of_anything/ --every 20 --out bank.safetensors
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.cli.setting_options import add_setting, settings_from_options
from geoseg_ros.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from geoseg_ros.simulation.background import BackgroundConfig

    add_backbone(parser)
    add_backend(parser)
    parser.add_argument("--images", nargs="+", action="extend", default=[], metavar="DIR", help="photographs, searched recursively")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th photograph (default %(default)s)")
    add_setting(parser, BackgroundConfig, "pictures", metavar="N")
    clouds = f"{BackgroundConfig.lidar}, {BackgroundConfig.depth}"
    parser.add_argument(
        "--clouds", type=int, metavar="N", help=f"rendered clouds of each sensor, LiDAR and depth camera (default {clouds})"
    )
    parser.add_argument("--out", metavar="FILE", help="bank to write (default: the user's cache, where the other commands look)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Make the bank, write it, and return its sizes."""
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.outputs import check_pack_file
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.folders import Folder, read_image
    from geoseg_ros.io.items import Items
    from geoseg_ros.learning.image_views import list_images
    from geoseg_ros.packs.bank import bank_paths, save_bank
    from geoseg_ros.simulation.background import BackgroundConfig
    from geoseg_ros.simulation.bank import make_bank

    begin = time.monotonic()
    if options.every < 1:
        raise InputError(f"--every: expected 1 or more, got {options.every}")
    world = settings_from_options(BackgroundConfig(), options, "pictures")
    if options.clouds is not None:
        world = replace(world, lidar=options.clouds, depth=options.clouds)
    if options.out:
        check_pack_file(Path(options.out), "--out", options.images, bank=True)
    paths = list_images(options.images)[:: options.every] if options.images else []
    backbone = open_image_backbone(options)
    out = Path(options.out) if options.out else bank_paths(backbone)[-1]
    check_pack_file(out, "--out", options.images, bank=True)
    photographs = Items([Folder(paths, read_image)] if paths else [])
    named = f"{len(photographs)} from {', '.join(Path(folder).name for folder in options.images)}" if options.images else ""
    with Stages("item", options.json) as progress:
        bank = make_bank(backbone, photographs, named, world, progress=progress)
    save_bank(bank, out)
    views = {domain.value: len(rows) for domain, rows in bank.proposals.items()}
    if not options.json:
        drawn = ", ".join(f"{count} {name}" for name, count in views.items())
        print(f"{out}: {len(bank.photos)} pictures, proposals: {drawn}; {out.stat().st_size / 1e6:.1f} MB, for {backbone.name}")
        for line in photographs.warnings:
            print(f"skipped {line}")
    return {
        "out": str(out),
        "backbone": backbone.name,
        "backbone_hash": backbone.hash,
        "pictures": len(bank.photos),
        "proposals": views,
        "bytes": out.stat().st_size,
        "skipped": photographs.warnings,
        "seconds": round(time.monotonic() - begin, 1),
    }
