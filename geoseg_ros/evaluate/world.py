"""The procedural world as co-segmentation sets: rooms to learn from and other rooms to be measured, no seed shared.

Each family is a concept; the families of one run are known together, each the others' rival. Measured are the rooms that hold the family
(with the preset's outliers) and half as many that do not. The switch test asks for one family in the rooms made for another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, Image, Item
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.simulation.families import FURNITURE
from geoseg_ros.simulation.sets import CloudItem, ConceptSet, check_unpaired, concept_set, make_set_config

GIVEN = ("pictures", "pictures + clouds")


def world_sets(
    preset: str,
    families: Sequence[str],
    seeds: Sequence[int],
    items: int | None = None,
    sensor: str = "lidar",
    log: Callable[[str], object] = lambda text: None,
) -> list[CosegSet]:
    """The sets of all families and seeds.

    Args:
        preset: of :data:`~geoseg_ros.simulation.sets.PRESETS`.
        families: at least two.
        items: clouds and images of each family to learn from, and as many to be measured; None takes the preset's.
        sensor: of :data:`~geoseg_ros.simulation.sets.SENSORS`.

    Raises:
        InputError: unknown preset, family or sensor, fewer than two families or items.
    """
    names = FURNITURE.check(families)
    if len(names) < 2:
        raise InputError(f"families: expected at least two, each the others' rival, got {', '.join(names) or 'none'}")
    if items is not None and items < 2:
        raise InputError(f"items: expected at least 2, got {items}")
    set_config = make_set_config(preset)
    count = set_config.clouds if items is None else items
    sets: list[CosegSet] = []
    for seed in seeds:
        learnt, measured = {}, {}
        for name in names:
            log(f"world {preset}, seed {seed}: making rooms with {name}")
            learnt[name] = concept_set(name, count, count, seed, config=set_config, sensor=sensor, stream="learn")
            measured[name] = concept_set(
                name,
                count,
                count,
                seed,
                config=set_config,
                sensor=sensor,
                n_without_clouds=count // 2,
                n_without_images=count // 2,
                stream="measure",
            )
        _check_apart(learnt, measured)
        for given in GIVEN:
            known = {name: _concept(found, given) for name, found in learnt.items()}
            for name in names:
                rivals = tuple(concept for other, concept in known.items() if other != name)
                group = f"rooms, {preset}, {sensor}"
                images, clouds = _images(measured[name]), _clouds(measured[name], name)
                sets.append(CosegSet(name, group, known[name], rivals, images, clouds, given, seed=seed))
            for name, other in zip(names, (*names[1:], names[0]), strict=True):
                group = f"rooms of another family, {preset}, {sensor}"
                clouds = _clouds(measured[other], name, other)
                sets.append(CosegSet(f"{name} in rooms of {other}", group, known[name], (), (), clouds, given, seed=seed))
    return sets


def _check_apart(learnt: dict[str, ConceptSet], measured: dict[str, ConceptSet]) -> None:
    for a, b in product(learnt.values(), measured.values()):
        check_unpaired([*a.clouds, *a.images], [*b.clouds, *b.images, *b.without_clouds, *b.without_images])


def _concept(found: ConceptSet, given: str) -> Material:
    clouds: list[Cloud] = [item.cloud for item in found.clouds] if given == "pictures + clouds" else []
    return Material(found.family, [item.rgb for item in found.images], clouds)


def _images(found: ConceptSet) -> list[Item[Image]]:
    return [Item(f"image{k}", item.rgb, item.truth > 0) for k, item in enumerate((*found.images, *found.without_images))]


def _clouds(found: ConceptSet, family: str, other: str | None = None) -> list[Item[Cloud]]:
    """The clouds of ``found`` as items of ``family``, ``other`` being what must not be marked."""
    rooms: list[CloudItem] = [*found.clouds, *([] if other else found.without_clouds)]
    result = []
    for k, item in enumerate(rooms):
        truth = item.scan.family == FURNITURE.id(family)
        rival = None if other is None else item.scan.family == FURNITURE.id(other)
        instance = np.where(truth, item.scan.instance, 0)
        result.append(Item(f"cloud{k}", item.cloud, truth, rival, item.cloud.valid(), instance))
    return result
