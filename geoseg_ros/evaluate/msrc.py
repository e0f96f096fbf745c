"""MSRC v2 as image co-segmentation sets: photographs 320 x 213 with a class per pixel.

On disk: ``images/NAME.jpg`` and ``labels/NAME.png``, one channel, the value of a pixel an index into :data:`CLASSES`. Everything that
decides what is measured is fixed here, by class and by file name, before any figure is known:

* The classes of :data:`DEVELOPMENT` are for choosing settings, all others are for the report. Surroundings (grass, sky, ...) are no
  concepts.
* A photograph with a single pixel of a report class belongs to the report, every other one to development: no photograph is in both.
* A class has the photographs of its split in which it covers 3 to 60 %, in the natural order of their names; the even ones (0, 2, ...) are
  learnt from, the odd ones are measured.
* Negatives are the photographs of the same split without a pixel of the class, at most 60, evenly spread; the even ones may be learnt
  from as photographs without the target, the odd ones are measured.
* Unlabelled pixels within 5 pixels of the target are not measured: they are its unsure border. Other unlabelled ones are background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, Image, Item, spread, transductive
from geoseg_ros.io.folders import list_images, read_image
from geoseg_ros.methods.base import Material

CLASSES = (
    *("void", "building", "grass", "tree", "cow", "horse", "sheep", "sky", "mountain", "aeroplane", "water", "face"),
    *("car", "bicycle", "flower", "sign", "bird", "book", "chair", "road", "cat", "dog", "body", "boat"),
)
SURROUNDINGS = ("void", "building", "grass", "tree", "sky", "mountain", "water", "road")
DEVELOPMENT = ("cow", "car", "sign")
SPLITS = {"development": DEVELOPMENT, "report": tuple(c for c in CLASSES if c not in (*SURROUNDINGS, *DEVELOPMENT))}
SHARE = (0.03, 0.6)
LEAST = 10  # photographs that a class must have
NEGATIVES = 60
BORDER = 5  # pixels
OUTLIERS = 0.25  # of the items of a folder with outliers, relative to those that show the target
MODES = ("pack", "pack + without", "folder", "folder with outliers")


@dataclass(frozen=True)
class Photograph:
    """Attributes: name; rgb uint8 [H, W, 3]; label uint8 [H, W], index into CLASSES."""

    name: str
    rgb: Image
    label: NDArray[np.uint8]

    def share(self, name: str) -> float:
        """Share of the pixels of this class."""
        return float(np.mean(self.label == CLASSES.index(name)))

    def item(self, name: str) -> Item[Image]:
        """The photograph as an item of this class."""
        truth = self.label == CLASSES.index(name)
        kernel = np.ones((2 * BORDER + 1, 2 * BORDER + 1), np.uint8)
        near = cv2.dilate(truth.astype(np.uint8), kernel) > 0
        return Item(self.name, self.rgb, truth, counted=~(near & (self.label == 0)))


def read_photographs(root: Path) -> list[Photograph]:
    """All photographs under ``root`` with their labels, in the natural order of their names.

    Raises:
        InputError: a folder or a label is absent, a photograph cannot be read, or a label is not one channel of class numbers of the
            photograph's size.
    """
    list_images(root / "labels")  # says what is missing
    result = []
    for path in list_images(root / "images"):
        rgb = read_image(path)
        file = root / "labels" / f"{path.stem}.png"
        label = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) if file.is_file() else None
        if label is None:
            raise InputError(f"{file}: expected the labels of {path.name}, no such picture")
        if label.shape != rgb.shape[:2] or label.dtype != np.uint8 or label.max() >= len(CLASSES):
            raise InputError(f"{file}: expected one channel of class numbers below {len(CLASSES)}, {rgb.shape[1]} x {rgb.shape[0]}")
        result.append(Photograph(path.stem, rgb, np.asarray(label, np.uint8)))
    return result


def in_split(photograph: Photograph, split: str) -> bool:
    """Whether a photograph belongs to this split."""
    report = np.isin(photograph.label, [CLASSES.index(c) for c in SPLITS["report"]]).any()
    return bool(report) == (split == "report")


def class_photographs(photographs: Sequence[Photograph], name: str) -> tuple[list[Photograph], list[Photograph]]:
    """Those of the class, and its negatives."""
    shown = [p for p in photographs if SHARE[0] <= p.share(name) <= SHARE[1]]
    absent = [p for p in photographs if p.share(name) == 0]
    return shown, [absent[k] for k in spread(len(absent), NEGATIVES)]


def msrc_sets(photographs: Sequence[Photograph], split: str, modes: Sequence[str] = MODES) -> list[CosegSet]:
    """The sets of one split: each class in each mode.

    Args:
        modes: "pack": learnt from half of the photographs; "pack + without": and from half of the negatives; "folder": learnt from all
            photographs of the class and measured on the same; "folder with outliers": with negatives among them.

    Raises:
        InputError: no class has enough photographs.
    """
    photographs = [p for p in photographs if in_split(p, split)]
    sets: list[CosegSet] = []
    for name in SPLITS[split]:
        shown, absent = class_photographs(photographs, name)
        if len(shown) < LEAST:
            continue
        measured = [p.item(name) for p in [*shown[1::2], *absent[1::2]]]
        images = [p.rgb for p in shown[0::2]]
        for mode in modes:
            if mode.startswith("pack"):
                without = [p.rgb for p in absent[0::2]] if mode == "pack + without" else []
                sets.append(CosegSet(name, "MSRC", Material(name, images, without_images=without), images=measured, given=mode))
            else:
                among = [absent[k] for k in spread(len(absent), round(OUTLIERS * len(shown)))] if mode == "folder with outliers" else []
                sets.append(transductive(name, "MSRC", [p.item(name) for p in [*shown, *among]], [], mode))
    if not sets:
        raise InputError(f"MSRC: no class of the split {split} has {LEAST} photographs")
    return sets
