"""Pictures of the items that went best and worst: what a mean does not show."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoseg_ros.display.pictures import captioned, contact_sheet, draw_cloud, fit, label_colours, plain, truth_outline
from geoseg_ros.evaluate.items import CosegSet, Image, Item, Mask, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.metrics import count
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.overlay import draw_overlay
from geoseg_ros.results import LabelSpace

SHOWN = 3
_CELL = (480, 360)
_AROUND = 4.0  # a cloud is drawn so far around the target, in its radii

Key = tuple[str, str, str, str, str]
"""Group, what was learnt from, protocol, modality and method."""


@dataclass(frozen=True)
class _Judged:
    iou: float
    name: str
    item: Item[Any]
    mask: Mask


@dataclass
class Extremes:
    """Remembers, per row of the summary, the items that show the target with the highest and the lowest IoU; of several seeds the first's.

    Attributes: count: how many of each.
    """

    count: int = SHOWN
    _found: dict[Key, list[_Judged]] = field(default_factory=dict)
    _seeds: dict[tuple[Key, str], int] = field(default_factory=dict)

    def look(self, items: CosegSet, method: NamedMethod, seed: int, predictions: Predictions) -> None:
        """Take the predictions of one method on one set into account."""
        kinds: tuple[tuple[str, Any, Any], ...] = (
            ("images", items.images, predictions.images),
            ("clouds", items.clouds, predictions.clouds),
        )
        for modality, measured, given in kinds:
            key = (items.group, items.given if method.learns else "nothing", items.protocol, modality, method.name)
            if given is not None and self._seeds.setdefault((key, items.name), seed) == seed:
                self._add(key, items.name, measured, given)

    def _add(self, key: Key, name: str, items: list[Item[Any]], predictions: list[Prediction]) -> None:
        judged = self._found.setdefault(key, [])
        for item, prediction in zip(items, predictions, strict=True):
            if item.shown:
                iou = count(prediction.mask, item.truth, item.counted).iou()
                judged.append(_Judged(iou, f"{name}, {item.name}", item, prediction.mask))
        judged.sort(key=lambda one: -one.iou)
        del judged[self.count : max(self.count, len(judged) - self.count)]  # the rest need not be kept in memory

    def write(self, folder: Path) -> list[Path]:
        """A picture per row of the summary, JPEG: best items first, the found in colour, the border of the truth in white (clouds: the
        surroundings of the target, the truth beside it). Returns the files."""
        paths = []
        for key, judged in self._found.items():
            if judged:
                path = folder / f"{re.sub(r'[^0-9A-Za-z]+', '_', ' '.join(key)).strip('_')}.jpg"
                cells = [_image_cell(one) if isinstance(one.item.data, np.ndarray) else _cloud_cell(one) for one in judged]
                write_image(path, contact_sheet(cells, min(self.count, len(cells))))
                paths.append(path)
        return paths


_PALETTE = LabelSpace(("target",)).palette()


def _caption(one: _Judged) -> list[tuple[str, tuple[int, int, int]]]:
    return [plain(f"IoU {one.iou:.2f}  {one.name}")]


def _image_cell(one: _Judged) -> Image:
    drawn = draw_overlay(one.item.data, one.mask.astype(np.uint8), _PALETTE)
    return captioned(fit(truth_outline(drawn, one.item.truth.astype(np.uint8), _PALETTE), _CELL), _caption(one))


def _cloud_cell(one: _Judged) -> Image:
    whole: Cloud = one.item.data
    own = whole.xyz[one.item.truth & whole.valid()]
    centre = own.mean(0)
    near = np.linalg.norm(whole.xyz - centre, axis=1) < _AROUND * np.linalg.norm(own - centre, axis=1).max()  # not where it is NaN
    cloud = Cloud(whole.xyz[near], None if whole.rgb is None else whole.rgb[near])
    masks = (one.mask[near], one.item.truth[near])
    sides = [draw_cloud(cloud, label_colours(cloud, mask.astype(np.uint8), _PALETTE), _CELL).image for mask in masks]
    return captioned(np.concatenate(sides, axis=1), _caption(one))
