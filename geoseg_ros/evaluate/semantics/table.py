"""The table of semantic segmentation without labels: every method on the same lifted rooms."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.baselines import Clustering, LiftedRoom, SemanticMethod, baselines
from geoseg_ros.evaluate.semantics.lifting import coverage
from geoseg_ros.evaluate.semantics.matching import SemanticScore, class_score, confusion, matched_score, superpoint_majority
from geoseg_ros.evaluate.semantics.published import published_markdown

Log = Callable[[str], object]
_FIGURES = ("oacc", "macc", "miou", "miou_majority", "miou_m2o")
_KNOWN = ("oacc_known", "miou_known")  # of rows of named classes


def choose(names: Sequence[str], methods: Sequence[SemanticMethod] | None = None) -> list[SemanticMethod]:
    """The methods of these names, of ``all`` every one; without names those that do not train for long. Raises InputError for an unknown
    one."""
    every = list(baselines() if methods is None else methods)
    known = [method.name for method in every]
    for name in names:
        if name not in (*known, "all"):
            raise InputError(f"--methods {name}: unknown, expected some of {'; '.join(known)}; or all")
    if not names:
        return [method for method in every if not method.named]
    return every if "all" in names else [method for method in every if method.name in names]


def measure(
    learn: Sequence[LiftedRoom],
    measured: Sequence[LiftedRoom],
    classes: Sequence[str],
    methods: Sequence[SemanticMethod],
    seeds: Sequence[int],
    clusters: int | None = None,
    log: Log = lambda text: None,
    known: Collection[int] = (),
) -> list[dict[str, Any]]:
    """One row per method and seed.

    Args:
        learn: rooms whose tokens are learnt from.
        measured: rooms whose points are scored, all in one confusion.
        clusters: number of clusters; None: as many as classes.
        known: classes that a teacher has words for; rows then have figures of their points alone beside.
    """
    rows = []
    count = len(classes) if clusters is None else clusters
    for method in methods:
        number = len(classes) if method.classes else count
        for seed in seeds if method.random else seeds[:1]:
            began = time.perf_counter()
            clustering = method.learn(learn, number, seed)
            score, smoothed, among = _scores(clustering, measured, len(classes), number, method.classes, known)
            log(f"{method.name}, seed {seed}: mIoU {score.miou:.3f}, oAcc {score.oacc:.3f}")
            rows.append(
                {
                    **{"method": method.name, "seed": seed, "truth": method.truth, "clusters": number},
                    **{"oacc": score.oacc, "macc": score.macc, "miou": score.miou, "miou_m2o": score.miou_m2o},
                    "miou_majority": smoothed.miou,
                    "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(classes, score.iou, strict=True)},
                    "note": "" if method.classes else score.note(),
                    "seconds": time.perf_counter() - began,
                    **({} if among is None else {"miou_known": among.miou, "oacc_known": among.oacc}),
                }
            )
    return rows


def _scores(
    clustering: Clustering, rooms: Sequence[LiftedRoom], classes: int, clusters: int, named: bool, known: Collection[int]
) -> tuple[SemanticScore, SemanticScore, SemanticScore | None]:
    """Of the clusters of points, of the majority in each super-voxel, and, where some are ``known``, of their points alone."""
    plain, voted = (np.zeros((classes, clusters + 1), np.int64) for _ in range(2))
    for room in rooms:
        cluster = np.asarray(clustering(room), np.int64)
        majority = superpoint_majority(cluster, room.scene.superpoint, clusters)
        plain += confusion(room.label, room.scene.point_values(cluster), classes, clusters)
        voted += confusion(room.label, room.scene.point_values(majority), classes, clusters)
    score = class_score if named else matched_score
    chosen = np.isin(np.arange(classes), list(known))[:, None]
    return score(plain), score(voted), score(plain * chosen) if known else None


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of each method."""
    found = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        keys = [key for key in (*_FIGURES, *_KNOWN) if key in own[0]]
        figures = {key: float(np.mean([row[key] for row in own])) for key in keys}
        figures |= {f"{key}_std": float(np.std([row[key] for row in own])) for key in keys}
        found.append({"method": name, "truth": own[0]["truth"], "seeds": len(own), "clusters": own[0]["clusters"], **figures})
    return found


def about(learn: Sequence[LiftedRoom], measured: Sequence[LiftedRoom]) -> dict[str, Any]:
    """What was measured on, for the report."""
    return {
        **{"rooms_learn": len(learn), "rooms_measured": len(measured)},
        "points_measured": int(sum(np.count_nonzero(room.label >= 0) for room in measured)),
        "voxels_measured": sum(len(room.scene) for room in measured),
        "with_token": coverage(measured),
        "superpoints_of_a_room": float(np.mean([room.scene.superpoint.max() + 1 for room in measured])),
    }


def markdown(result: dict[str, Any]) -> str:
    """The report."""
    info = result["about"]
    lines = [
        f"# {result['title']}",
        "",
        f"{info['rooms_learn']} rooms to learn from, {info['rooms_measured']} measured: {info['points_measured']} labelled points,"
        f" {info['voxels_measured']} voxels, {100 * info['with_token']:.1f} % of them with a token,"
        f" {info['superpoints_of_a_room']:.0f} super-voxels a room. Backbone `{result['backbone']}` ({result['supervision']}).",
        "",
    ]
    keys = [key for key in (*_FIGURES, *_KNOWN) if key in result["summary"][0]]
    heads = ["method", "seeds", "clusters", "oAcc", "mAcc", "mIoU", "mIoU, majority of super-voxels", "mIoU m2o"]
    heads += ["oAcc, classes with a word", "mIoU, classes with a word"] if len(keys) > len(_FIGURES) else []
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in result["summary"]:
        cells = [f"{row[key]:.3f}" + (f" ± {row[f'{key}_std']:.3f}" if row["seeds"] > 1 else "") for key in keys]
        lines.append(f"| {row['method']} | {row['seeds']} | {row['clusters']} | {' | '.join(cells)} |")
    lines += ["", "m2o: every cluster counts as the class of most of its points, whatever others do; not to be compared with mIoU.", ""]
    lines += [result["words"], ""] if "words" in result else []
    lines += [f"* {note}" for note in dict.fromkeys(row["note"] for row in result["rows"] if row["note"])]
    classes = result["classes"]
    lines += ["", "IoU of classes, first seed:", "", f"| method | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
    firsts = {row["method"]: row for row in reversed(result["rows"])}
    for row in result["summary"]:
        ious = firsts[row["method"]]["iou"]
        lines.append(f"| {row['method']} | {' | '.join('-' if ious[c] is None else f'{ious[c]:.2f}' for c in classes)} |")
    return "\n".join([*lines, published_markdown(result["data"]), f"Command: `{result['command']}`", ""])
