"""Results for one image, one cloud or one set, and the label space."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LABELS = 254  # ids that a mono8 mask holds


@dataclass(frozen=True)
class Presence:
    """Whether one item shows a concept.

    Attributes:
        label: id of the concept, 1 .. 254.
        name: name of the concept.
        score: largest evidence in the item; larger means more similar to the concept.
        p_value: share of null items that score at least as high (split conformal), 0 < p <= 1.
        present: whether ``p_value`` is below the configured ``p_max``.
        share: share of the valid pixels or points with this label.
    """

    label: int
    name: str
    score: float
    p_value: float
    present: bool
    share: float


@dataclass(frozen=True)
class Evidence:
    """The result of a segmenter for one scene and its C labels.

    Attributes:
        score: float [C], larger means more similar to the label.
        p_value: float [C], share of scenes without the label that would score as high.
        present: bool [C].
        label: 1 + the index of the label, 0 = none: uint8 [H, W] of an image, int [M] per voxel of a cloud (``scene.geometry``).
        label_p: float, shape of ``label``: p-value of the label of each pixel or voxel; None: that of the label in the whole scene.
        instances: voxels of each instance; None: the connected parts of a label are its instances.
    """

    score: NDArray[np.floating]
    p_value: NDArray[np.floating]
    present: NDArray[np.bool_]
    label: NDArray[np.integer]
    label_p: NDArray[np.floating] | None = None
    instances: Sequence[NDArray[np.int64]] | None = None


@dataclass(frozen=True)
class ObjectInstance:
    """One instance in a cloud, in the frame of the cloud.

    Attributes:
        label, name: the concept.
        instance: id within this cloud, 1 ..
        confidence: 0 .. 1.
        p_value: of this instance against the null proposals.
        center: float64 [3], metres, centre of the oriented box.
        rotation: float64 [3, 3], columns are the box axes (right-handed).
        size: float64 [3], full box lengths along these axes, metres.
        count: number of input points.
        track: id of the object over time, 1 ..; 0 = not tracked.
    """

    label: int
    name: str
    instance: int
    confidence: float
    p_value: float
    center: NDArray[np.float64]
    rotation: NDArray[np.float64]
    size: NDArray[np.float64]
    count: int
    track: int = 0


@dataclass(frozen=True)
class PartPoint:
    """Where one marked part of one object is.

    Attributes:
        object: name of the concept; empty where every cloud or picture is one object.
        name: of the part.
        instance: number of the object in its cloud or picture, 1 ..
        point: float64 [3], metres, frame of the cloud; None in a picture, or where no point is given.
        normal: float64 [3], unit, of the surface there; None where it is not known.
        pixel: x, y in the picture; None in a cloud without one, or where no point is given.
        confidence: 0 .. 1; 0 where no point is given. Not a probability.
        seen: it lies on the measured surface; False: inferred on the hidden side, or not given.
        symmetric: the object looks the same from several sides, so that this is one of several equal places.
        reason: why no point is given; empty where one is.
        label: id of the concept; 0 = none.
        track: of the object over time; 0 = not tracked.
    """

    object: str
    name: str
    instance: int
    point: NDArray[np.float64] | None = None
    normal: NDArray[np.float64] | None = None
    pixel: tuple[float, float] | None = None
    confidence: float = 0.0
    seen: bool = False
    symmetric: bool = False
    reason: str = ""
    label: int = 0
    track: int = 0


@dataclass(frozen=True)
class ImageResult:
    """Attributes: mask uint8 [H, W] of label ids (0 = none); presence: one entry per concept; seconds per stage; parts: of the objects,
    where a part pack is loaded."""

    mask: NDArray[np.uint8]
    presence: list[Presence]
    seconds: dict[str, float] = field(default_factory=dict)
    parts: list[PartPoint] = field(default_factory=list)


@dataclass(frozen=True)
class CloudResult:
    """Attributes: label uint32 [N] (0 = none), instance uint32 [N] (0 = none), confidence float32 [N] in [0, 1], all in
    the order of the input; objects; presence: one entry per concept; seconds per stage; parts: of the objects, where a part pack is
    loaded; where: then called with an object's name, a part's name or "", and a point of the template [3], gives its place on each one."""

    label: NDArray[np.uint32]
    instance: NDArray[np.uint32]
    confidence: NDArray[np.float32]
    objects: list[ObjectInstance]
    presence: list[Presence]
    seconds: dict[str, float] = field(default_factory=dict)
    parts: list[PartPoint] = field(default_factory=list)
    where: Callable[[str, str, NDArray[np.floating]], list[PartPoint]] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class LabelSpace:
    """Concept names in the order of their ids: ``names[i]`` has label ``i + 1``; label 0 means none of them."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) > MOST_LABELS:
            raise ValueError(f"a mono8 mask holds at most {MOST_LABELS} concepts, got {len(self.names)}")

    def palette(self) -> NDArray[np.uint8]:
        """uint8 [len(names) + 1, 3] RGB. Row 0, the background, is mid grey. Colours do not depend on the other names' number."""
        rows = [(110, 110, 110)]
        for i in range(len(self.names)):
            # the golden ratio spreads hues evenly for any number of labels
            hue = (0.02 + 0.618033988749895 * i) % 1.0
            red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
            rows.append((red, green, blue))
        return np.array(rows, np.uint8)


@dataclass(frozen=True)
class SetItem:
    """One item of a co-segmented set. Its mask is kept as bits, so that large sets fit in memory.

    Attributes:
        name: of the item.
        bits: uint8, the packed flat mask.
        shape: of the mask.
        present: whether the item shows the target: its mask is not empty.
        p_value: see :class:`Presence`.
        share: of the pixels or points that are the target.
        seconds: for this item.
    """

    name: str
    bits: NDArray[np.uint8] = field(repr=False)
    shape: tuple[int, ...]
    present: bool
    p_value: float
    share: float
    seconds: float

    def _unpacked(self) -> NDArray[np.uint8]:
        count = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=count).reshape(self.shape) * np.uint8(self.present)


@dataclass(frozen=True)
class SetImage(SetItem):
    """One image of a co-segmented set."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool [H, W], the target; empty where the image does not show it."""
        return self._unpacked().astype(bool)


@dataclass(frozen=True)
class SetCloud(SetItem):
    """One cloud of a co-segmented set. Attributes: objects: how many instances of the target it has."""

    objects: int = 0

    @property
    def label(self) -> NDArray[np.uint32]:
        """uint32 [N], 1 = the target, 0 = not; in the order of the points."""
        return self._unpacked().astype(np.uint32)


@dataclass(frozen=True)
class SetResult:
    """What the items of a set have in common.

    Attributes:
        images, clouds: one entry per item that could be read, in order.
        common: whether anything is common to the items.
        common_p_value: probability that unrelated items would be as similar; None for too few items.
        folds: cross-fitting folds of images and of clouds.
        used: number of images and of clouds that were learnt from.
        pack: a pack learnt from all items, if requested (:class:`~geoseg_ros.packs.pack.Pack`).
        skipped: a line for each item that could not be read.
        warnings: other lines for the user.
    """

    images: Sequence[SetImage]
    clouds: Sequence[SetCloud]
    common: bool
    common_p_value: float | None
    folds: tuple[int, int] = (1, 1)
    used: tuple[int, int] = (0, 0)
    pack: Any = None
    skipped: Sequence[str] = ()
    warnings: Sequence[str] = ()
