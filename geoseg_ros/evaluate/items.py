"""Inputs and outputs of measured methods: sets, items and predictions, identical for all methods.

A method is a function ``(CosegSet, seed) -> Predictions``. It learns from the concepts ``own`` and ``rivals``, and makes a prediction for
every measured item. It must not use ``Item.truth``; methods that do are marked as oracles.
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
        name: identifies the item.
        data: uint8 RGB [H, W, 3], or a cloud of N points.
        truth: bool [H, W] or [N], the target; all False where the item does not show it.
        other: bool, same shape, an object of another kind that must not be marked (switch test); None where there is none.
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
        """Whether the item shows the target."""
        return bool(self.truth.any())


@dataclass(frozen=True)
class CosegSet:
    """One concept and the measured items.

    Attributes:
        name: which items are measured, e.g. "cow".
        group: sets of one group are averaged.
        own: the concept.
        rivals: other concepts that are loaded at the same time.
        images, clouds: the measured items.
        given: description of the material that is learnt from.
        seed: of a simulated set; random methods run with this one only.
        protocol: "robot": an item may lack the target; "paper": see :func:`paper_protocol`.
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
        """Whether the measured items are the same that are learnt from."""
        pairs: tuple[tuple[Collection[Any], Sequence[Item[Any]]], ...] = ((self.own.images, self.images), (self.own.clouds, self.clouds))
        measured = [(given, items) for given, items in pairs if items]
        return bool(measured) and all(
            len(given) == len(items) and all(a is b.data for a, b in zip(given, items, strict=True)) for given, items in measured
        )

    @property
    def shown(self) -> int:
        """Number of measured items that show the target."""
        return sum(item.shown for item in self.images) + sum(item.shown for item in self.clouds)


@dataclass(frozen=True)
class Prediction:
    """The result of a method for one item.

    Attributes:
        mask: bool, of the shape of the item's truth.
        score: larger for items that are more likely to show the target; None from methods without a presence score.
        confidence: 0 .. 1, that the item shows the target; None from methods without a presence score.
    """

    mask: Mask
    score: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Predictions:
    """The results of a method for a set.

    Attributes:
        images, clouds: one prediction per measured item, in order, or None for a modality that the method does not support.
        notes: further values for the reader of the table.
    """

    images: Sequence[Prediction] | None = None
    clouds: Sequence[Prediction] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


Method = Callable[[CosegSet, int], Predictions]


@dataclass(frozen=True)
class NamedMethod:
    """A method with its properties.

    Attributes:
        name: in tables.
        run: the method.
        learns: it depends on the material that is given.
        random: it depends on the seed, so it is run with several and the worst is reported.
        backbone: it uses the image backbone.
        oracle: it uses the truth.
    """

    name: str
    run: Method
    learns: bool = True
    random: bool = False
    backbone: bool = False
    oracle: bool = False


def transductive(name: str, group: str, images: Sequence[Item[Image]], clouds: Sequence[Item[Cloud]], given: str) -> CosegSet:
    """A set whose measured items are also learnt from, as ``geoseg coseg`` does with two folders."""
    own = Material(name, [i.data for i in images], [c.data for c in clouds])
    return CosegSet(name, group, own, images=images, clouds=clouds, given=given)


def paper_protocol(source: CosegSet, scale: float = 1.0) -> CosegSet:
    """The protocol of Yang et al. (ICCV 2021) and of image co-segmentation, which is easier than a robot's task because it uses the truth.

    Only items that show the target are measured; each instance in a cloud becomes a crop. The set is learnt from the measured items,
    without rivals and without items that lack the target. A method may still predict an empty mask, which counts as an IoU of 0.

    Args:
        scale: radius of a crop around the centre of the instance, times the longest side of its bounding box.

    Raises:
        InputError: no item shows the target.
    """
    images = [item for item in source.images if item.shown]
    clouds = [crop for item in source.clouds for crop in instance_crops(item, scale)]
    if not images and not clouds:
        raise InputError(f"set {source.name}: no item shows the target, the paper protocol measures nothing")
    given = "itself, grouped and cropped by the truth"
    return replace(transductive(source.name, source.group, images, clouds, given), seed=source.seed, protocol="paper")


def instance_crops(item: Item[Cloud], scale: float, least: int = 64) -> list[Item[Cloud]]:
    """A crop per instance: its points, and all others within the radius that belong to no other instance of the target.

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


def check_predictions(items: Sequence[Item[Any]], predictions: Sequence[Prediction]) -> None:
    """Raise ValueError unless there is one prediction of the right shape per item."""
    if len(items) != len(predictions):
        raise ValueError(f"predictions: expected one for each of {len(items)} items, got {len(predictions)}")
    for item, prediction in zip(items, predictions, strict=True):
        if prediction.mask.shape != item.truth.shape or prediction.mask.dtype != np.bool_:
            found = f"{prediction.mask.dtype} {prediction.mask.shape}"
            raise ValueError(f"prediction for {item.name}: expected bool {item.truth.shape}, got {found}")
