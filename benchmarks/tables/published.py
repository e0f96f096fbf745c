"""What papers publish on S3DIS and ScanObjectNN co-segmentation, beside our rows, and in what the two differ.

Only figures that were read in a paper or in a summary of it are here; others are left empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geoseg_ros.evaluate import coseg_sets as sets

_SUMMARY = "GeoFree-CoSeg (CVPR 2026), from a summary of the paper"


@dataclass(frozen=True)
class Published:
    """Attributes: method; iou: 3D, mean over categories; accuracy, jaccard: P and J of the images; None where not read; source."""

    method: str
    iou: float | None = None
    accuracy: float | None = None
    jaccard: float | None = None
    source: str = _SUMMARY


PUBLISHED = {
    "s3dis-coseg": (
        Published("GeoFree-CoSeg", 0.54, 0.83, 0.59),
        Published("GeoFree-CoSeg: two branches alone", 0.46, 0.76, 0.39, f"{_SUMMARY}: ablation"),
        Published("GeoFree-CoSeg: + MGCM", 0.48, 0.80, 0.53, f"{_SUMMARY}: ablation"),
        Published("GeoFree-CoSeg: + MGCM + GCSF", 0.51, 0.82, 0.57, f"{_SUMMARY}: ablation"),
        Published("GeoFree-CoSeg: L_sem without L_obj", 0.49, 0.80, 0.54, f"{_SUMMARY}: ablation"),
        Published("GeoFree-CoSeg: L_obj without L_sem", 0.51, 0.81, 0.57, f"{_SUMMARY}: ablation"),
        Published("Yang et al. (ICCV 2021), clouds only", 0.46, source=f"{_SUMMARY}: comparison"),
        Published("LogoSP, multi-class, adapted by GeoFree-CoSeg's authors", 0.48, source=f"{_SUMMARY}: comparison"),
        Published("SCoSPARC (ECCV 2024), images only", None, 0.74, 0.38, f"{_SUMMARY}: comparison"),
    ),
    "scanobjectnn-coseg": (
        Published("GeoFree-CoSeg", 0.63, 0.78, 0.53),
        Published("LogoSP, multi-class, adapted by GeoFree-CoSeg's authors", 0.60, source=f"{_SUMMARY}: comparison"),
        Published("SCoSPARC (ECCV 2024), images only", None, 0.75, 0.48, f"{_SUMMARY}: comparison"),
    ),
}

_ALL = (
    "Published figures were read in a summary of GeoFree-CoSeg, not in the paper, and have two digits. Those of each category were not "
    "found.",
    "Yang's released code picks the checkpoint by the F-score against the truth and starts from an encoder trained on ModelNet40 with "
    "labels. Here the truth groups and crops the items, as in the papers, and decides nothing else; the labels that a backbone saw are in "
    "its row.",
    "A foreground is not forced here: the prediction `not there` is measured as an empty one.",
    "IoU is that of all points of a category together, then the mean over categories, as in Yang's code. Ours is of the seed with the "
    "lowest mean IoU.",
    "P is read as the share of right pixels, which fits the published pairs of P and J; the summary calls it precision.",
)
_OF = {
    "s3dis-coseg": (
        f"Crops: radius {sets.RADIUS:g} x the longest side of the object's bounding box around its middle. Yang's released code compares "
        "the squared distance to the mean point with the mean side; its data, named `radius_1x`, are not given out.",
        f"Background of a crop: at least {sets.LEAST} points as in Yang's code; of more than {sets.MOST} an even choice is taken here, "
        "there the first ones. That code skips the last object of every room, here none is skipped.",
        f"A crop is thinned to {sets.POINTS} points (farthest first), which are learnt from and measured, as in Yang's code. No colour. "
        "Axes stay as stored, z up.",
        "Rooms from text files are thinned to 1 cm per object, without JSIS3D's overlapping blocks: other densities than in the papers.",
    ),
    "scanobjectnn-coseg": (
        "Objects of training and test file together, raw, with background, as in Yang's code; all points of an object, where that code "
        "trains with 1024 drawn ones. y up is turned to z up.",
        "Objects without any point of foreground are left out.",
    ),
}
_WITHOUT_PICTURES = "No pictures were given: P and J are empty, and IoU is without them, where GeoFree-CoSeg has them."
_PICTURES = {
    "s3dis-coseg": "Pictures: S3DIS-Coseg is not given out, this is our own choice from 2D-3D-S: the target covers "
    f"{sets.SHARE[0]:.0%} to {sets.SHARE[1]:.0%}, at most {sets.PER_AREA} of a target and area, {sets.SIDE} pixels. They are unpaired by "
    f"room: one room in {sets.PICTURE_ROOMS}, by a checksum of its name, gives pictures and no clouds, so fewer clouds are measured "
    "than in the papers. Both data sets are taken to name rooms alike.",
    "scanobjectnn-coseg": "Pictures: ScanObjectNN-Coseg is not given out, these are the user's own. That they show other rooms than the "
    "clouds, scans of ScanNet and SceneNN, is not checked.",
}


def differences(table: str, pictures: bool, items: int | None) -> list[str]:
    """What keeps our rows and the published ones of a table from being the same measurement.

    Args:
        pictures: whether some were given. items: limit per category, None for none.
    """
    found = [*_OF[table], _PICTURES[table] if pictures else _WITHOUT_PICTURES, *_ALL]
    if items is not None:
        found.insert(0, f"At most {items} clouds and pictures of each category were measured, not all.")
    return found


def ours(summary: Sequence[dict[str, Any]], backbone: str, supervision: str) -> list[Published]:
    """Our methods in the columns of the published ones: rows of :func:`~geoseg_ros.evaluate.table.summarise`, clouds and images joined."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in summary:
        rows.setdefault(row["method"] + (" (oracle)" if row["oracle"] else ""), {})[row["modality"]] = row
    result = []
    for method, by_modality in rows.items():
        clouds, images = by_modality.get("clouds", {}), by_modality.get("images", {})
        sees = any(row["backbone"] for row in by_modality.values())
        source = f"this run, backbone {backbone} ({supervision})" if sees else "this run, no backbone"
        figures = _known(clouds.get("micro_iou")), _known(images.get("accuracy")), _known(images.get("iou"))
        result.append(Published(method, *figures, source))
    return result


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def beside(table: str, found: Sequence[Published], differing: Sequence[str]) -> str:
    """Markdown: our rows, then the published ones, then in what they differ."""
    lines = ["", "## Beside published figures", "", "| method | 3D mIoU | P | J | source |", "|---|---|---|---|---|"]
    for row, digits in [*((row, 3) for row in found), *((row, 2) for row in PUBLISHED[table])]:
        figures = ("" if f is None else f"{f:.{digits}f}" for f in (row.iou, row.accuracy, row.jaccard))
        lines.append(f"| {row.method} | {' | '.join(figures)} | {row.source} |")
    lines += ["", "Not the same measurement:", "", *(f"* {text}" for text in differing)]
    return "\n".join(lines) + "\n"
