"""Scores of clusters against classes: one-to-one matching (Kuhn 1955), and the majority of each cluster beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class SemanticScore:
    """Figures of one clustering, shares 0 .. 1.

    Attributes:
        oacc: share of the labelled points whose cluster is matched to their class.
        macc: mean over the classes present of the share of their points that is right.
        miou: mean over the classes present of intersection over union.
        miou_m2o: the same where every cluster stands for the class that most of its points have; several may stand for one. Never to be
            compared with ``miou``.
        iou: per class float64 [C], NaN for a class that is not present.
        matched: int64 [K], class of each cluster, -1 for one that is left over; its points are wrong.
        present: classes with a labelled point.
        unmatched_classes: classes present that no cluster is left for; their IoU is 0.
    """

    oacc: float
    macc: float
    miou: float
    miou_m2o: float
    iou: NDArray[np.float64]
    matched: NDArray[np.int64]
    present: int
    unmatched_classes: int

    def note(self) -> str:
        """What is said beside the figures where there are more or fewer clusters than classes; else empty."""
        clusters = len(self.matched)
        if clusters > self.present:
            return f"{clusters} clusters for {self.present} classes: {clusters - self.present} are left over, their points are wrong"
        if self.unmatched_classes:
            return f"{clusters} clusters for {self.present} classes: {self.unmatched_classes} classes have none, their IoU is 0"
        return ""


def confusion(label: NDArray[np.integer], cluster: NDArray[np.integer], classes: int, clusters: int) -> NDArray[np.int64]:
    """How many points of each class are in each cluster. Confusions of several rooms add up.

    Args:
        label: [N], class of each point, -1 for points that do not count.
        cluster: [N], cluster of each point, -1 for none, which is wrong.
        classes, clusters: C and K.

    Returns:
        int64 [C, K + 1]; the last column counts points without a cluster.

    Raises:
        ValueError: shapes that differ, or numbers out of range.
    """
    if label.shape != cluster.shape or label.ndim != 1:
        raise ValueError(f"label and cluster: expected the same [N], got {label.shape} and {cluster.shape}")
    counted = label >= 0
    rows, columns = label[counted].astype(np.int64), cluster[counted].astype(np.int64)
    if len(rows) and (rows.max() >= classes or columns.max() >= clusters or columns.min() < -1):
        raise ValueError(f"expected classes below {classes} and clusters from -1 to {clusters - 1}")
    columns[columns < 0] = clusters
    return np.bincount(rows * (clusters + 1) + columns, minlength=classes * (clusters + 1)).reshape(classes, clusters + 1)


def matched_score(table: NDArray[np.int64]) -> SemanticScore:
    """Scores of a confusion of clusters. Each cluster is matched to one class and each class to one cluster, so that most points are right.

    Args:
        table: int64 [C, K + 1] from :func:`confusion`.

    Raises:
        ValueError: no labelled point.
    """
    counts, present = _checked(table)
    rows, columns = linear_sum_assignment(counts[present], maximize=True)
    matched = np.full(counts.shape[1], -1, np.int64)
    matched[columns] = present[rows]
    return _score(table, matched, unmatched=len(present) - len(rows))


def class_score(table: NDArray[np.int64]) -> SemanticScore:
    """Scores of predicted classes, which need no matching: cluster k is class k. Args: table: int64 [C, C + 1]."""
    counts, _ = _checked(table)
    if counts.shape[0] != counts.shape[1]:
        raise ValueError(f"expected as many clusters as classes, got {counts.shape[1]} and {counts.shape[0]}")
    return _score(table, np.arange(counts.shape[1]), unmatched=0)


def _checked(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts [C, K] without the last column, and the classes present."""
    present = np.flatnonzero(table.sum(axis=1))
    if not len(present):
        raise ValueError("expected labelled points, there are none")
    return table[:, :-1], present


def _score(table: NDArray[np.int64], matched: NDArray[np.int64], unmatched: int) -> SemanticScore:
    present = table.sum(axis=1) > 0
    right, iou = _ious(table, matched)
    # an empty cluster has no majority; class 0 changes nothing
    _, majority = _ious(table, table[:, :-1].argmax(axis=0))
    size = table.sum(axis=1)
    return SemanticScore(
        float(right.sum() / size.sum()),
        float((right[present] / size[present]).mean()),
        float(iou[present].mean()),
        float(majority[present].mean()),
        np.where(present, iou, np.nan),
        matched,
        int(present.sum()),
        unmatched,
    )


def _ious(table: NDArray[np.int64], matched: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Right points and IoU of each class, [C]; 0 for a class without points."""
    classes = len(table)
    predicted = np.zeros((classes, classes), np.int64)  # true class, predicted class
    for cluster, kind in enumerate(matched):
        if kind >= 0:
            predicted[:, kind] += table[:, cluster]
    right = np.diagonal(predicted)
    union = table.sum(axis=1) + predicted.sum(axis=0) - right
    return right, right / np.maximum(union, 1)


def superpoint_majority(cluster: NDArray[np.integer], superpoint: NDArray[np.integer], clusters: int) -> NDArray[np.int64]:
    """The most frequent cluster of each super-voxel, for all of its points; the lowest of equally frequent ones.

    Args:
        cluster: int [M], -1 for none, which has no vote. superpoint: int [M], 0 .. S - 1.

    Returns:
        int64 [M], -1 in super-voxels without a vote.
    """
    count = int(superpoint.max(initial=-1)) + 1
    votes = np.zeros((count, clusters), np.int64)
    use = cluster >= 0
    np.add.at(votes, (superpoint[use], cluster[use]), 1)
    winner = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    return np.asarray(winner[superpoint], np.int64)
