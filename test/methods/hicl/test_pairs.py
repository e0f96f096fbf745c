"""Noisy labels: what a view says, votes in super-voxels, and points drawn from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.learning.noisy_labels import NONE, LabelledView, label_view, refined
from geoseg_ros.learning.taught import TaughtView
from geoseg_ros.methods.hicl.sampling import largest_remainder, sample_by_set


def labelled(label: list[int], distance: float, probability: list[float] | None = None) -> LabelledView:
    rows = np.arange(len(label))
    place, far = np.zeros((len(rows), 2), np.float32), np.full(len(rows), distance, np.float32)
    view = TaughtView(rows, place, far, torch.zeros(1, 1, 2))
    return LabelledView(view, np.array(label), np.array(probability or [0.5] * len(rows), np.float32))


SETS = np.array([0, 0, 0, 1, 1, 2])


def test_a_point_gets_the_class_of_the_nearest_anchor_or_none() -> None:
    features = torch.tensor([[[1.0, 0.1], [0.2, 1.0], [0.0, 0.0]]])
    place = np.array([[-2 / 3, 0], [0, 0], [2 / 3, 0]], np.float32)
    view = TaughtView(np.arange(3), place, np.ones(3, np.float32), features)
    found = label_view(view, np.eye(2, dtype=np.float32), 5.0)
    assert found.label.tolist() == [0, 1, NONE] and found.probability[0] > 0.9 and found.probability[2] == 0
    assert label_view(view, np.eye(2, dtype=np.float32), 0.1, least=0.6).label.tolist() == [NONE] * 3


def test_the_most_frequent_label_of_a_set_in_an_image_wins_and_ties_go_to_the_probable() -> None:
    near = labelled([0, 1, 1, 0, 1, NONE], 1.0, [0.9, 0.5, 0.5, 0.9, 0.6, 0.0])
    label, vote = refined([near], SETS, 2, "image")
    assert label[0].tolist() == [1, 1, 1, 0, 0, NONE]
    assert vote == pytest.approx(np.array([[1 / 3, 2 / 3], [0.5, 0.5], [0, 0]]))
    assert refined([near], SETS, 2, "none")[0][0].tolist() == near.label.tolist()


def test_near_views_outvote_far_ones() -> None:
    near, far = labelled([0, 0, 0, 0, 0, NONE], 1.0), labelled([1, 1, 1, 1, 1, 1], 3.0)
    assert [row.tolist() for row in refined([near, far], SETS, 2, "image")[0]] == [[0, 0, 0, 0, 0, NONE], [1] * 6]
    assert [row.tolist() for row in refined([near, far], SETS, 2, "views")[0]] == [[0, 0, 0, 0, 0, 1]] * 2


def test_seats_sum_to_the_total_and_are_within_one_of_the_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = rng.integers(1, 300, rng.integers(1, 60))
        total = int(rng.integers(1, 1200))
        seats = largest_remainder(size, total)
        assert seats.sum() == min(total, size.sum()) and (seats <= size).all()
        assert (np.abs(seats - min(total, size.sum()) * size / size.sum()) < 1).all()


def test_points_are_drawn_by_set() -> None:
    group = np.repeat([7, 3, 9], [500, 300, 200])
    drawn = sample_by_set(group, 100, np.random.default_rng(1))
    assert len(np.unique(drawn)) == 100 and (np.diff(drawn) > 0).all()
    assert np.bincount(group[drawn])[[7, 3, 9]].tolist() == [50, 30, 20]
    assert (drawn != sample_by_set(group, 100, np.random.default_rng(2))).any()
