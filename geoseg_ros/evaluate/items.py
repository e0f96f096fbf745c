"""What every method gets and what it answers, so that all of them are measured on identical items.

A method is a function ``(CosegSet, seed) -> Predictions``. It learns from the concepts ``own`` and ``rivals``, and answers for every
measured item. It must not look at ``Item.truth``; oracles do, and are marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Data = TypeVar("Data")


@dataclass(frozen=True)
class Item(Generic[Data]):
    """One measured image or cloud.

    Attributes:
        name: to find it again.
        data: uint8 RGB [H, W, 3], or a cloud of N points.
        truth: bool [H, W] or [N], the thing; empty of True where the item does not show it.
        other: bool, same shape, a thing of another kind for which the answer must not be given (switch test); None where there is none.
        counted: bool, same shape, what is measured; None means everything. Unlabelled borders and invalid points are left out.
        instance: int, same shape, object number, 0 = none; None where unknown.
    """

    name: str
    data: Data
    truth: Mask
    other: Mask | None = None
    counted: Mask | None = None
    instance: NDArray[np.integer] | None = None

    @property
    def shown(self) -> bool:
        """Whether the item shows the thing."""
        return bool(self.truth.any())


@dataclass(frozen=True)
class CosegSet:
    """One concept and the items it is looked for in.

    Attributes:
        name: which items are measured, e.g. "cow".
        group: sets of one group are averaged.
        own: the concept.
        rivals: other concepts that are loaded at the same time.
        images, clouds: the measured items.
        given: what is learnt from, in words.
        seed: of a made set; random methods run with this one only.
        protocol: "robot": an item may lack the thing; "paper": see :func:`paper_protocol`.
    """

    name: str
    group: str
    own: Material
    rivals: tuple[Material, ...] = ()
    images: Sequence[Item[Image]] = ()
    clouds: Sequence[Item[Cloud]] = ()
    given: str = ""
    seed: int | None = None
    protocol: Literal["robot", "paper"] = "robot"

    @property
    def transductive(self) -> bool:
        """Whether the measured items are the very ones that may be learnt from."""
        pairs: tuple[tuple[Collection[Any], Sequence[Item[Any]]], ...] = ((self.own.images, self.images), (self.own.clouds, self.clouds))
        measured = [(given, items) for given, items in pairs if items]
        return bool(measured) and all(
            len(given) == len(items) and all(a is b.data for a, b in zip(given, items, strict=True)) for given, items in measured
        )

    @property
    def shown(self) -> int:
        """How many measured items show the thing."""
        return sum(item.shown for item in self.images) + sum(item.shown for item in self.clouds)


@dataclass(frozen=True)
class Answer:
    """Attributes:
    mask: bool, of the shape of the item's truth.
    score: larger = the item rather shows the thing; None from a method that cannot tell.
    confidence: in 0 .. 1 that the item shows the thing; None from a method that cannot tell.
    """

    mask: Mask
    score: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Predictions:
    """Attributes: images, clouds: one answer per measured item, in order, or None where the method does not do that modality; notes: what
    a reader of the row should know."""

    images: Sequence[Answer] | None = None
    clouds: Sequence[Answer] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


Method = Callable[[CosegSet, int], Predictions]


@dataclass(frozen=True)
class NamedMethod:
    """Attributes: name; run; learns: depends on what is given to learn from; random: depends on the seed, so several are run and the worst
    is told; backbone: sees with the image backbone; oracle: sees the truth."""

    name: str
    run: Method
    learns: bool = True
    random: bool = False
    backbone: bool = False
    oracle: bool = False


def transductive(name: str, group: str, images: Sequence[Item[Image]], clouds: Sequence[Item[Cloud]], given: str) -> CosegSet:
    """The set that is learnt from is the one that is measured: what ``geoseg coseg`` does with two folders."""
    own = Material(name, [i.data for i in images], [c.data for c in clouds])
    return CosegSet(name, group, own, images=images, clouds=clouds, given=given)


def paper_protocol(source: CosegSet, scale: float = 1.0) -> CosegSet:
    """The protocol of Yang et al. (ICCV 2021) and of image co-segmentation, easier than a robot's task by what it takes from the truth.

    Only items that show the thing; each instance of it in a cloud becomes a crop of its own; learnt from what is measured; no rivals,
    nothing without the thing. A method may still answer "not there", which counts as an IoU of 0.

    Args:
        scale: radius of a crop around the centre of the instance, times the longest side of its bounding box.

    Raises:
        InputError: no item shows the thing.
    """
    images = [item for item in source.images if item.shown]
    clouds = [crop for item in source.clouds for crop in instance_crops(item, scale)]
    if not images and not clouds:
        raise InputError(f"set {source.name}: no item shows the thing, the paper protocol measures nothing")
    given = "itself, grouped and cropped by the truth"
    return replace(transductive(source.name, source.group, images, clouds, given), seed=source.seed, protocol="paper")


def instance_crops(item: Item[Cloud], scale: float, least: int = 64) -> list[Item[Cloud]]:
    """A crop per instance: its points, and all others within the radius that are of no further instance of the same thing.

    Args:
        least: crops with fewer points around the instance are left out (the paper's own data asks for 512; a LiDAR seldom has them).
    """
    crops = []
    valid = item.data.valid()
    instance = np.where(item.truth, 1, 0) if item.instance is None else np.where(item.truth, item.instance, 0)
    for number in np.unique(instance[(instance != 0) & valid]):
        own = (instance == number) & valid
        low, high = item.data.xyz[own].min(axis=0), item.data.xyz[own].max(axis=0)
        radius = scale * float((high - low).max())
        near = np.linalg.norm(item.data.xyz - (low + high) / 2, axis=1) <= radius  # NaN is not near
        around = near & (instance == 0) & valid
        if np.count_nonzero(around) < least:
            continue
        keep = own | around
        rgb = None if item.data.rgb is None else item.data.rgb[keep]
        crops.append(Item(f"{item.name}#{int(number)}", Cloud(item.data.xyz[keep], rgb), own[keep], instance=instance[keep]))
    return crops


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices below ``count``, evenly spaced from the first to the last.

    Published sets are drawn with it, so it must not change; elsewhere :func:`geoseg_ros.learning.affinity.evenly` is used.
    """
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()}) if count else []


def check_answers(items: Sequence[Item[Any]], answers: Sequence[Answer]) -> None:
    """Raise ValueError unless there is one answer of the right shape per item."""
    if len(items) != len(answers):
        raise ValueError(f"answers: expected one for each of {len(items)} items, got {len(answers)}")
    for item, answer in zip(items, answers, strict=True):
        if answer.mask.shape != item.truth.shape or answer.mask.dtype != np.bool_:
            raise ValueError(f"answer for {item.name}: expected bool {item.truth.shape}, got {answer.mask.dtype} {answer.mask.shape}")
