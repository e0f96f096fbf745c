"""Results of the node as arrays that can be drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.overlay import draw_overlay
from geoseg_ros.results import LabelSpace, ObjectInstance

_GREY = 90


@dataclass(frozen=True)
class LabelledCloud:
    """A cloud with its labels and objects.

    Attributes:
        stamp_ns: of the input, nanoseconds.
        frame: of the points.
        cloud: colours, where it has some, are those of the sensor.
        label: uint32 [N], 0 = none.
        objects: in the frame of the points.
        objects_frame: frame of objects that cannot be drawn because it differs from that of the points; else empty.
    """

    stamp_ns: int
    frame: str
    cloud: Cloud
    label: NDArray[np.uint32]
    objects: tuple[ObjectInstance, ...] = ()
    objects_frame: str = ""


@dataclass(frozen=True)
class LabelledImage:
    """An image with its labels.

    Attributes:
        stamp_ns: of the input, nanoseconds.
        picture: uint8 RGB [H, W, 3], the labels painted over it.
        found: ids of the labels in it, None: not known.
    """

    stamp_ns: int
    picture: NDArray[np.uint8]
    found: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LabelledFrame:
    """The newest results at one moment, with separate stamps because the sensors are not synchronised. None: no result yet."""

    labels: LabelSpace
    cloud: LabelledCloud | None = None
    image: LabelledImage | None = None


class Sink(Protocol):
    """A display of results. ``labels`` is called before the first item, and again when the labels change."""

    def labels(self, labels: LabelSpace) -> None: ...

    def add(self, item: LabelledCloud | LabelledImage) -> None: ...


class Newest:
    """Keeps the newest result of each kind. Attributes: frame, None until the first result."""

    def __init__(self) -> None:
        self._labels = LabelSpace(())
        self.frame: LabelledFrame | None = None

    def labels(self, labels: LabelSpace) -> None:
        """Set the names and colours of labels."""
        self._labels = labels

    def add(self, item: LabelledCloud | LabelledImage) -> None:
        """Keep a result."""
        before = self.frame or LabelledFrame(self._labels)
        kind = {"cloud": item} if isinstance(item, LabelledCloud) else {"image": item}
        self.frame = replace(before, labels=self._labels, **kind)


def paint(stamp_ns: int, mask: NDArray[np.uint8], image: NDArray[np.uint8] | None, labels: LabelSpace) -> LabelledImage:
    """Labels over the image they were found in.

    Args:
        mask: uint8 [H, W] of label ids.
        image: uint8 RGB [H, W, 3]; grey takes its place where it is not known or has another size.
    """
    if image is None or image.shape[:2] != mask.shape:
        image = np.full((*mask.shape, 3), _GREY, np.uint8)
    found = tuple(int(i) for i in np.unique(mask) if i)
    return LabelledImage(stamp_ns, draw_overlay(image, mask, labels.palette()), found)
