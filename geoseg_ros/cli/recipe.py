"""``geoseg train --recipe``: make the background bank and the packs that ship with the package.

The bank is made from photographs of anything and from procedural rooms, the packs from other procedural rooms. With the same photographs,
backbone, backend, machine and ``SOURCE_DATE_EPOCH`` the files are the same, byte for byte.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output
from geoseg_ros.simulation.background import BackgroundConfig

if TYPE_CHECKING:
    from geoseg_ros.backbones.base import ImageBackbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.packs.bank import BackgroundBank


@dataclass(frozen=True)
class Rooms:
    """Procedural rooms to learn a concept from.

    Attributes:
        sensor: "depth" or "lidar". seed: of the rooms.
        clouds, images: that show the concept. without: pictures that do not, half as many clouds come along.
    """

    sensor: str
    seed: int
    clouds: int
    images: int = 0
    without: int = 0


@dataclass(frozen=True)
class Recipe:
    """Contents of a bank and its packs.

    Attributes:
        concepts: families, a pack each.
        every: every n-th photograph goes into the bank.
        world: the bank's procedural part.
        rooms: procedural rooms from which the packs are learnt.
    """

    concepts: tuple[str, ...] = ("stool", "lamp")
    every: int = 20
    world: BackgroundConfig = field(default_factory=BackgroundConfig)
    rooms: tuple[Rooms, ...] = (Rooms("depth", 7, 12, 24, 16), Rooms("lidar", 8, 12))


RECIPES = {"shipped": Recipe()}


def run(options: argparse.Namespace) -> dict[str, object]:
    """Make the files of ``--recipe`` below ``--out`` and return their paths and sizes."""
    given = [f"--{name.replace('_', '-')}" for name in ("name", "clouds", "without", "without_clouds", "seconds") if getattr(options, name)]
    if given:
        raise InputError(f"--recipe: cannot be combined with {', '.join(given)}")
    if not options.images:
        raise InputError("--recipe: expected --images, photographs of anything for the background bank")
    if Path(options.out).is_file():
        raise InputError(f"--out: {options.out} is a file, expected a folder")
    check_output(options.out, "--out", options.images)
    return make(RECIPES[options.recipe], options)


def make(recipe: Recipe, options: argparse.Namespace) -> dict[str, object]:
    """Make the bank and the packs of a recipe.

    Args:
        options: ``images``, ``out``, ``backbone``, ``backend``, ``json`` as of ``geoseg train``.

    Raises:
        InputError: no photographs, or a backbone that cannot be used.
    """
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.folders import Folder, read_image
    from geoseg_ros.io.items import Items
    from geoseg_ros.learning.image_views import list_images
    from geoseg_ros.packs.bank import save_bank
    from geoseg_ros.simulation.bank import make_bank

    begin, out = time.monotonic(), Path(options.out)
    paths = list_images(options.images)[:: recipe.every]
    photographs = Items([Folder(paths, read_image)])
    named = f"{len(photographs)} from {', '.join(Path(folder).name for folder in options.images)}"
    backbone = open_image_backbone(options)
    bank_file = out / "banks" / f"{backbone.hash[:16]}.safetensors"
    with Stages("item", options.json) as progress:
        bank = make_bank(backbone, photographs, named, recipe.world, progress=progress)
        save_bank(bank, bank_file)
        files = [bank_file, *_make_packs(recipe, backbone, bank, out, progress)]
    sizes = {str(path.relative_to(out)): path.stat().st_size for path in files}
    if not options.json:
        for name, size in sizes.items():
            print(f"{out / name}: {size / 1e6:.1f} MB")
    return {
        "out": str(out),
        "backbone": backbone.name,
        "backbone_hash": backbone.hash,
        "files": sizes,
        "skipped": photographs.warnings,
        "seconds": round(time.monotonic() - begin, 1),
    }


def _make_packs(recipe: Recipe, backbone: ImageBackbone, bank: BackgroundBank, out: Path, progress: Stages) -> list[Path]:
    """Make the rooms, learn each concept, write its pack."""
    from geoseg_ros.io.items import open_clouds, open_images
    from geoseg_ros.methods.base import Context, Material
    from geoseg_ros.methods.registry import open_method
    from geoseg_ros.simulation.trajectory import WalkConfig, write_training

    method, paths = open_method("contrast"), []
    with TemporaryDirectory(dir=out, prefix=".rooms") as temporary:
        roots = [Path(temporary) / str(number) for number in range(len(recipe.rooms))]
        for root, rooms in zip(roots, recipe.rooms, strict=True):
            config = WalkConfig(seed=rooms.seed, sensor=rooms.sensor, concepts=recipe.concepts)
            step = partial(progress, f"{rooms.sensor} rooms")
            write_training(root, config, rooms.clouds, rooms.images, rooms.without, step)
        for concept in recipe.concepts:
            images, without = (open_images(_existing(roots, concept, kind)) for kind in ("images", "without"))
            clouds, without_clouds = (open_clouds(_existing(roots, concept, kind)) for kind in ("clouds", "without_clouds"))
            material = Material(concept, images, clouds, without, without_clouds)
            paths.append(out / "packs" / f"{concept}.pack")
            method.learn(material, Context(backbone, bank, progress=progress)).save(paths[-1])
    return paths


def _existing(roots: list[Path], concept: str, kind: str) -> list[Path]:
    return [folder for folder in (root / concept / kind for root in roots) if folder.is_dir()]
