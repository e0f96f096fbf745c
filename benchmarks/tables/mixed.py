"""Mixed tables: a real box and a real cylinder on one real table, so that only knowing the kind finds the right one; and
folders of table-top scenes of which some hold only the other kind.

The scenes and folds are those of :mod:`geoseg_ros.evaluate.tabletop`. What is composed is fixed here, before any figure of it is known:

* ``development``: packs from the first scenes, composed clouds of the next ones, on the boxes' tables.
* ``report``: every composed cloud stands on a *cylinder's* table, with pairs and instances (the second and third largest, counted round)
  that no table of the package has measured. Scenes and instances as such are not fresh: there are no others of this data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg_ros.evaluate.items import CosegSet, Image, Item, Mask, transductive
from geoseg_ros.evaluate.tabletop import FOLDS, KINDS, VARIANTS, Fold, Scenes, Supervision, compose, without_colour
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material


@dataclass(frozen=True)
class Pair:
    """One composed cloud. Attributes: box, cylinder: numbers of the scenes; rank: of the instance in both, 0 = largest."""

    box: int
    cylinder: int
    rank: int


@dataclass(frozen=True)
class MixedFold(Fold):
    """Attributes: pairs; base: kind on whose table the two objects stand; outliers: of each kind so many scenes get into the other kind's
    folder."""

    pairs: tuple[Pair, ...]
    base: str
    outliers: int


def _mixed(fold: Fold, shift: int, ranks: Sequence[int], base: str, outliers: int) -> MixedFold:
    boxes, cylinders = fold.measured["box"], fold.measured["cylinder"]
    pairs = tuple(Pair(box, cylinders[(i + shift) % len(cylinders)], rank) for rank in ranks for i, box in enumerate(boxes))
    return MixedFold(fold.name, fold.training, fold.measured, pairs, base, outliers)


MIXED = {
    "development": tuple(_mixed(fold, 0, (0, 1), "box", 2) for fold in FOLDS["development"]),
    "report": tuple(_mixed(fold, 3, (1, 2), "cylinder", 3) for fold in FOLDS["report"]),
}


def concepts(scenes: Scenes, fold: Fold, given: Supervision) -> dict[str, Material]:
    """The two concepts of a fold, each the other's pictures (and clouds) without the target where ``given`` says so."""
    result = {}
    for kind in KINDS:
        own = [scenes(n, kind) for n in fold.training[kind]]
        rest = [scenes(n, k) for k in KINDS if k != kind for n in fold.training[k]]
        result[kind] = Material(
            kind,
            [s.photo for s in own],
            [s.cloud for s in own] if given.clouds else [],
            [s.photo for s in rest] if given.without else [],
            [s.cloud for s in rest] if given.without and given.clouds else [],
        )
    return result


def composed(scenes: Scenes, fold: MixedFold) -> list[tuple[Pair, Cloud, dict[str, Mask]]]:
    """The composed clouds [N] of a fold: pair, cloud and truth as in :func:`~geoseg_ros.evaluate.tabletop.compose` by kind."""
    result = []
    for pair in fold.pairs:
        both = {"box": scenes(pair.box, "box"), "cylinder": scenes(pair.cylinder, "cylinder")}
        moved = next(k for k in KINDS if k != fold.base)
        cloud, truth = compose(both[fold.base], both[moved], pair.rank)
        result.append((pair, cloud, {fold.base: truth == 1, moved: truth == 2}))
    return result


def mixed_sets(root: Path, split: str, given: Sequence[Supervision] = VARIANTS) -> list[CosegSet]:
    """Composed clouds, asked for each kind, in colour and without, with the other kind as a rival; and the folders with outliers.

    Raises:
        InputError: a scene is absent or has no labels.
    """
    scenes = Scenes(root)
    sets = []
    for fold in MIXED[split]:
        clouds = composed(scenes, fold)
        for variant in given:
            known = concepts(scenes, fold, variant)
            for way in ("colour", "xyz"):
                for kind, other in (KINDS, KINDS[::-1]):
                    items = [
                        Item(f"box{p.box}+cylinder{p.cylinder}.{p.rank}", c if way == "colour" else without_colour(c), t[kind], t[other])
                        for p, c, t in clouds
                    ]
                    rivals, group = (known[other],), f"mixed tables, {way}"
                    sets.append(CosegSet(f"{kind}{fold.name}", group, known[kind], rivals, clouds=items, given=variant.name))
        sets += [outlier_set(scenes, fold, kind) for kind in KINDS]
    return sets


def outlier_set(scenes: Scenes, fold: MixedFold, kind: str) -> CosegSet:
    """A folder of scenes of one kind, with some that hold only the other: learnt from and measured alike. Photographs are of the training
    scenes and clouds of the measured ones, so no scene gives both."""
    other = next(k for k in KINDS if k != kind)

    def pick(numbers: dict[str, range]) -> list[tuple[int, str]]:
        return [(n, kind) for n in numbers[kind]] + [(n, other) for n in numbers[other][: fold.outliers]]

    images: list[Item[Image]] = []
    for number, of in pick(fold.training):
        scene = scenes(number, of)
        images.append(Item(f"{of}{number}", scene.photo, scene.mask & (of == kind), instance=scene.instance.reshape(scene.mask.shape)))
    clouds = []
    for number, of in pick(fold.measured):
        scene = scenes(number, of)
        valid = scene.cloud.valid()
        truth = (scene.instance > 0) & valid & (of == kind)
        clouds.append(Item(f"{of}{number}", scene.cloud, truth, counted=valid, instance=scene.instance))
    return transductive(f"{kind}{fold.name}", "folder with outliers", images, clouds, "itself")
