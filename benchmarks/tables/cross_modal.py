"""A concept given by clouds alone, found in pictures: the other half of "given by pictures alone, found in clouds", which the tables
``mixed`` and ``world`` hold already (learnt from: pictures)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geoseg_ros.evaluate.items import CosegSet, Image, Item
from geoseg_ros.evaluate.tabletop import FOLDS, KINDS, Scenes, without_colour
from geoseg_ros.methods.base import Material

GROUP = "clouds alone, found in pictures"


def world_crossing(sets: Sequence[CosegSet]) -> list[CosegSet]:
    """Of the sets of :func:`~geoseg_ros.evaluate.world.world_sets` that give clouds and measure pictures: the same, no picture given."""
    stripped: dict[int, Material] = {}

    def clouds_only(concept: Material) -> Material:
        # one object per concept: methods remember what they learnt by it
        return stripped.setdefault(id(concept), replace(concept, images=(), without_images=()))

    return [
        replace(
            items,
            group=f"{GROUP}: {items.group}",
            own=clouds_only(items.own),
            rivals=tuple(map(clouds_only, items.rivals)),
            clouds=(),
            given="clouds",
        )
        for items in sets
        if items.own.clouds and items.images
    ]


def mixed_crossing(root: Path, split: str) -> list[CosegSet]:
    """The kinds of table-top objects, given by the clouds of a fold's training scenes, in the photographs of its measured ones, of which
    those of the other kind do not show the target. With the clouds' colour and without.

    Raises:
        InputError: a scene is absent or has no labels.
    """
    scenes = Scenes(root)
    sets = []
    for fold in FOLDS[split]:
        for way in ("colour", "xyz"):
            known = {}
            for kind in KINDS:
                clouds = [scenes(number, kind).cloud for number in fold.training[kind]]
                known[kind] = Material(kind, clouds=clouds if way == "colour" else [without_colour(cloud) for cloud in clouds])
            for kind, other in (KINDS, KINDS[::-1]):
                items: list[Item[Image]] = []
                for of in (kind, other):
                    measured = [scenes(number, of) for number in fold.measured[of]]
                    items += [Item(f"{of}{n}", s.photo, s.mask & (of == kind)) for n, s in zip(fold.measured[of], measured, strict=True)]
                group = f"{GROUP}: tables, {way}"
                sets.append(CosegSet(f"{kind}{fold.name}", group, known[kind], (known[other],), images=items, given="clouds"))
    return sets
