"""What is found in one image or one cloud, and the label space that names it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Presence:
    """Is the concept in this item?

    Attributes:
        label: id of the concept, 1 .. 254.
        name: name of the concept.
        score: the best contrast evidence in the item; larger means more like the concept.
        p_value: share of null items that score at least as high (split conformal), 0 < p <= 1.
        present: p_value below the configured ``p_max``.
        share: share of the valid pixels or points that carry the label.
    """

    label: int
    name: str
    score: float
    p_value: float
    present: bool
    share: float


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
        track: the same thing over time, 1 ..; 0 = not tracked.
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
class ImageResult:
    """Attributes: mask uint8 [H, W] of label ids (0 = none); presence: one entry per concept; seconds per stage."""

    mask: NDArray[np.uint8]
    presence: list[Presence]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CloudResult:
    """Attributes: label uint32 [N] (0 = none), instance uint32 [N] (0 = none), confidence float32 [N] in [0, 1], all in
    the order of the input; objects; presence: one entry per concept; seconds per stage."""

    label: NDArray[np.uint32]
    instance: NDArray[np.uint32]
    confidence: NDArray[np.float32]
    objects: list[ObjectInstance]
    presence: list[Presence]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelSpace:
    """Concept names in the order of their ids: ``names[i]`` has label ``i + 1``; label 0 means none of them."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) > 254:
            raise ValueError(f"a mono8 mask holds at most 254 concepts, got {len(self.names)}")

    def palette(self) -> NDArray[np.uint8]:
        """uint8 [len(names) + 1, 3] RGB. Row 0, the background, is mid grey. Colours do not depend on the other names' number."""
        rows = [(110, 110, 110)]
        for i in range(len(self.names)):
            # the golden ratio spreads hues evenly for any number of labels
            hue = (0.02 + 0.618033988749895 * i) % 1.0
            red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
            rows.append((red, green, blue))
        return np.array(rows, np.uint8)
