"""Noisy labels of the points that a teacher's views show, and their refinement within geometric consistency sets (super-voxels)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.learning.taught import TaughtView

NONE = -1  # label of a point of which a view says nothing


@dataclass(frozen=True, eq=False)
class LabelledView:
    """A view with labels. Attributes: view; label: int64 [K], ``NONE`` or 0 .. C - 1; probability: float32 [K], of the label."""

    view: TaughtView
    label: NDArray[np.int64]
    probability: NDArray[np.float32]


def label_view(view: TaughtView, anchors: NDArray[np.float32], scale: float, least: float = 0.0) -> LabelledView:
    """The class whose anchor, of [C, D], is most similar to what the teacher says of each point.

    Args:
        scale: of the cosines before the softmax. least: smallest probability of a label.
    """
    features = view.at_points()
    probability, label = torch.softmax(scale * features @ torch.from_numpy(anchors).T, dim=1).max(dim=1)
    said = features.abs().sum(dim=1) > 0
    found = torch.where(said & (probability >= least), label, NONE)
    return LabelledView(view, found.numpy(), torch.where(said, probability, 0.0).numpy().astype(np.float32))


def votes(
    group: NDArray[np.int64], label: NDArray[np.int64], weight: NDArray[np.floating], groups: int, classes: int
) -> NDArray[np.float64]:
    """Sum of the weights [K] of the rows of each label in each group, float64 [groups, classes]; rows without a label do not vote."""
    use = label != NONE
    sums = np.bincount(group[use] * classes + label[use], weight[use], groups * classes)
    return sums.astype(np.float64).reshape(groups, classes)


def refined(
    views: Sequence[LabelledView], supervoxel: NDArray[np.int64], classes: int, how: str
) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Labels of the views of one scene after refinement within its super-voxels.

    Args:
        supervoxel: int64 [M], of the points of the scene, 0 .. S - 1.
        how: ``none``; ``image``: the most frequent label of the super-voxel in the view, ties to the most probable one; ``views``: the
            label with the largest sum of 1 / distance over all views.

    Returns:
        int64 [K] for each view: every point of a super-voxel that has a label gets the refined one; float64 [S, C], share of the weighted
        votes of each class over all views, zeros where nothing is said.
    """
    groups = int(supervoxel.max(initial=-1)) + 1
    table = np.zeros((groups, classes))
    labels: list[NDArray[np.int64]] = []
    for item in views:
        table += votes(supervoxel[item.view.row], item.label, 1 / np.maximum(item.view.distance, 0.1), groups, classes)
    for item in views:
        group = supervoxel[item.view.row]
        if how == "none":
            labels.append(item.label)
            continue
        if how == "image":
            probable = votes(group, item.label, item.probability, groups, classes)
            own = votes(group, item.label, np.ones(len(group)), groups, classes) + probable / (2 * probable.max(initial=0) + 1)  # ties only
        else:
            own = table
        labels.append(np.where(own.any(axis=1), own.argmax(axis=1), NONE)[group])
    total = table.sum(axis=1, keepdims=True)
    return labels, np.divide(table, total, out=np.zeros_like(table), where=total > 0)


def voted_labels(views: Sequence[TaughtView], group: NDArray[np.int64], anchors: NDArray[np.float32], scale: float) -> NDArray[np.int64]:
    """Label of each point of a scene, int64 [M], ``NONE`` where no view says anything: that with the most votes in its ``group`` [M]."""
    _, vote = refined([label_view(view, anchors, scale) for view in views], group, len(anchors), "views")
    return np.where(vote.any(axis=1), vote.argmax(axis=1), NONE)[group]
