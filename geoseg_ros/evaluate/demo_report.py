"""The report of a demo run: figures against the truth where it is known, and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.pictures import (
    captioned,
    contact_sheet,
    draw_cloud,
    fit,
    input_colours,
    label_colours,
    legend,
    plain,
    truth_outline,
)
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.overlay import draw_overlay

Labels = NDArray[np.integer]

_CELL = (480, 360)


@dataclass
class _Counts:
    """Counts of one concept in one modality."""

    intersection: int = 0
    union: int = 0
    shares: list[float] = field(default_factory=list)  # IoU of each item that shows the concept
    without: int = 0  # items that do not show it
    false: int = 0  # such items with the label
    objects: int = 0  # true ones, found ones, and those of both that share more than half of their points
    found: int = 0
    matched: int = 0


class Scores:
    """Agreement of labels with the truth, concept by concept.

    Args:
        names: concepts in the order of their labels; truth and result use the same labels.

    Attributes:
        clouds, images: items counted.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.clouds = self.images = 0
        self._clouds = [_Counts() for _ in names]
        self._images = [_Counts() for _ in names]

    def add_cloud(self, label: Labels, truth: Labels, instances: tuple[Labels, Labels] | None = None) -> None:
        """Count one cloud; all [N]. instances: numbers of the objects found and of the true ones, 0 = none; None where not known."""
        _add(self._clouds, label, truth)
        if instances is not None:
            _add_objects(self._clouds, label, truth, *instances)
        self.clouds += 1

    def add_image(self, mask: Labels, truth: Labels) -> None:
        """Count one image; both [H, W]."""
        _add(self._images, mask, truth)
        self.images += 1

    def counts(self) -> dict[str, Any]:
        """What :meth:`add_counts` adds, as JSON can hold it."""
        pairs = zip(self.names, self._clouds, self._images, strict=True)
        return {"clouds": self.clouds, "images": self.images, "concepts": {name: [asdict(a), asdict(b)] for name, a, b in pairs}}

    def add_counts(self, counts: dict[str, Any]) -> None:
        """Add the counts of other items with the same concepts."""
        self.clouds, self.images = self.clouds + counts["clouds"], self.images + counts["images"]
        for k, name in enumerate(self.names):
            for mine, other in zip((self._clouds[k], self._images[k]), counts["concepts"].get(name, ({}, {})), strict=True):
                for key, value in other.items():
                    setattr(mine, key, getattr(mine, key) + value)

    def objects(self) -> dict[str, dict[str, float | int | None]]:
        """Per concept: ``clouds``, ``images`` that show it; ``object_precision``, ``object_recall`` in the clouds with known objects: an
        object is found where one of the result shares more than half of the points that either has (IoU > 0.5)."""
        return {
            name: {
                "clouds": len(clouds.shares),
                "images": len(images.shares),
                "object_precision": clouds.matched / clouds.found if clouds.found else None,
                "object_recall": clouds.matched / clouds.objects if clouds.objects else None,
            }
            for name, clouds, images in zip(self.names, self._clouds, self._images, strict=True)
        }

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Per concept, None where nothing was counted.

        ``cloud_iou``: intersection over union of all points of all clouds (micro). ``image_j``: IoU per image, mean over the images that
        show the concept (the J of the co-segmentation literature). ``cloud_false``, ``image_false``: share of the items without the
        concept in which it was found.
        """
        return {
            name: {
                "cloud_iou": clouds.intersection / clouds.union if clouds.union else None,
                "image_j": float(np.mean(images.shares)) if images.shares else None,
                "cloud_false": clouds.false / clouds.without if clouds.without else None,
                "image_false": images.false / images.without if images.without else None,
            }
            for name, clouds, images in zip(self.names, self._clouds, self._images, strict=True)
        }


def _add(counts: list[_Counts], label: Labels, truth: Labels) -> None:
    if label.shape != truth.shape:
        raise ValueError(f"label: expected the shape {truth.shape} of the truth, got {label.shape}")
    for i, count in enumerate(counts, 1):
        found, true = label == i, truth == i
        both, either = int((found & true).sum()), int((found | true).sum())
        count.intersection += both
        count.union += either
        if true.any():
            count.shares.append(both / either)
        else:
            count.without += 1
            count.false += bool(found.any())


def _add_objects(counts: list[_Counts], label: Labels, truth: Labels, number: Labels, true_number: Labels) -> None:
    for i, count in enumerate(counts, 1):
        found, true = np.where(label == i, number, 0), np.where(truth == i, true_number, 0)
        size, true_size = np.bincount(found), np.bincount(true)
        pairs, both = np.unique(np.stack([found, true])[:, (found > 0) & (true > 0)], axis=1, return_counts=True)
        count.matched += int((2 * both > size[pairs[0]] + true_size[pairs[1]] - both).sum())  # more than half: one to one
        count.found += int(np.count_nonzero(size[1:]))
        count.objects += int(np.count_nonzero(true_size[1:]))


def cloud_sheet(
    items: Iterable[tuple[Cloud, Labels, Labels | None]], names: Sequence[str], palette: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """One row per cloud: the input, the labels found, and the true ones where they are known.

    Args:
        items: cloud, label [N], truth [N] or None.
        palette: uint8 [labels + 1, 3].

    Returns:
        uint8 RGB, or None without items.
    """
    cells, columns = [], 2
    for cloud, label, truth in items:
        found = f"found: {int((label > 0).sum())} of {len(cloud)} points"
        cells.append(captioned(draw_cloud(cloud, input_colours(cloud), _CELL).image, [plain("input cloud")]))
        for text, shown in ((found, label), ("truth", truth)):
            if shown is not None:
                drawn = draw_cloud(cloud, label_colours(cloud, shown, palette), _CELL).image
                cells.append(captioned(drawn, [plain(text), *legend(names, palette)]))
        columns = 2 if truth is None else 3
    return contact_sheet(cells, columns) if cells else None


def image_sheet(
    items: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]],
    names: Sequence[str],
    palette: NDArray[np.uint8],
    columns: int = 4,
) -> NDArray[np.uint8] | None:
    """Every image with the labels found painted over it, and the outline of the true ones in white where they are known.

    Args:
        items: image uint8 RGB [H, W, 3], mask uint8 [H, W], truth uint8 [H, W] or None.

    Returns:
        uint8 RGB, or None without items.
    """
    cells = []
    for image, mask, truth in items:
        drawn = draw_overlay(image, mask, palette)
        if truth is not None:
            drawn = truth_outline(drawn, truth, palette)
        found = [part for i, part in enumerate(legend(names, palette), 1) if (mask == i).any()]
        cells.append(captioned(fit(drawn, _CELL), found or [plain("none found")]))
    return contact_sheet(cells, min(columns, len(cells))) if cells else None


def format_table(report: dict[str, Any]) -> str:
    """The report as a few aligned lines for the terminal."""
    lines = [f"{'stream':<12}{'played':>8}{'received':>10}{'processed':>11}{'dropped':>9}{'rejected':>10}{'p50 ms':>9}{'p95 ms':>9}"]
    for name, stream in report["streams"].items():
        lines.append(
            f"{name:<12}{stream['played']:>8}{stream['received']:>10}{stream['processed']:>11}{stream['dropped']:>9}{stream['rejected']:>10}"
            f"{_cell(stream['latency_p50_ms'], '.0f'):>9}{_cell(stream['latency_p95_ms'], '.0f'):>9}"
        )
    if report["concepts"]:
        judged = f"of {report['judged']['clouds']} clouds and {report['judged']['images']} images"
        lines += ["", f"against the known truth, {judged}:"]
        lines.append(f"{'concept':<12}{'3D IoU':>8}{'image J':>10}{'false clouds':>15}{'false images':>15}")
        for name, figures in report["concepts"].items():
            lines.append(
                f"{name:<12}{_cell(figures['cloud_iou'], '.2f'):>8}{_cell(figures['image_j'], '.2f'):>10}"
                f"{_cell(figures['cloud_false'], '.0%'):>15}{_cell(figures['image_false'], '.0%'):>15}"
            )
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
