"""Scores of clusters: what is matched, what is left over, and what does not count."""

import itertools

import numpy as np
import pytest

from geoseg_ros.evaluate.semantics.matching import class_score, confusion, matched_score, superpoint_majority


def test_renamed_classes_score_one():
    label = np.random.default_rng(0).integers(0, 5, 400)
    table = confusion(label, np.array([3, 0, 4, 1, 2])[label], 5, 5)
    score = matched_score(table)
    assert score.oacc == score.macc == score.miou == score.miou_m2o == 1
    assert score.matched.tolist() == [1, 3, 4, 0, 2] and score.note() == ""


def test_unlabelled_points_do_not_count_and_points_without_a_cluster_are_wrong():
    label, cluster = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 0, 1, -1, 1, 0])
    table = confusion(label, cluster, 2, 2)
    assert table.dtype == np.int64 and table.tolist() == [[2, 0, 0], [0, 1, 1]]
    score = matched_score(table)
    assert score.oacc == 3 / 4 and score.macc == 3 / 4 and score.iou.tolist() == [1, 0.5]


def test_the_matching_is_the_best_one():
    table = np.concatenate([np.random.default_rng(1).integers(0, 50, (4, 4)), np.zeros((4, 1), np.int64)], 1)
    best = max(sum(table[c, k] for c, k in enumerate(order)) for order in itertools.permutations(range(4)))
    assert matched_score(table).oacc == pytest.approx(best / table.sum())


def test_more_clusters_than_classes():
    label, cluster = np.array([0] * 10 + [1] * 10), np.array([0] * 6 + [1] * 4 + [2] * 9 + [3])
    score = matched_score(confusion(label, cluster, 2, 4))
    assert score.matched.tolist() == [0, -1, 1, -1]
    assert score.oacc == 15 / 20 and score.iou.tolist() == [0.6, 0.9]  # what is left over is wrong for its class, and claims nothing
    assert score.miou_m2o == 1 and score.note() == "4 clusters for 2 classes: 2 are left over, their points are wrong"


def test_fewer_clusters_than_classes():
    label, cluster = np.array([0] * 10 + [1] * 5 + [2] * 2), np.array([0] * 10 + [1] * 5 + [1] * 2)
    score = matched_score(confusion(label, cluster, 3, 2))
    assert score.iou.tolist() == [1, 5 / 7, 0] and score.miou == pytest.approx((1 + 5 / 7) / 3)
    assert score.note() == "2 clusters for 3 classes: 1 classes have none, their IoU is 0"


def test_absent_classes_are_left_out_of_means():
    score = matched_score(confusion(np.array([0, 0, 2]), np.array([1, 1, 0]), 4, 4))
    assert score.present == 2 and score.miou == 1 and np.isnan(score.iou[[1, 3]]).all()


def test_confusions_of_rooms_add_up():
    rng = np.random.default_rng(2)
    label, cluster = rng.integers(-1, 4, 300), rng.integers(-1, 6, 300)
    parts = sum(confusion(label[part], cluster[part], 4, 6) for part in (slice(0, 90), slice(90, 300)))
    assert (parts == confusion(label, cluster, 4, 6)).all() and parts.sum() == (label >= 0).sum()


def test_predicted_classes_are_not_matched():
    table = confusion(np.array([0, 0, 1]), np.array([1, 1, 0]), 2, 2)
    assert class_score(table).miou == 0 and matched_score(table).miou == 1
    with pytest.raises(ValueError, match="as many clusters"):
        class_score(confusion(np.array([0]), np.array([0]), 2, 3))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="same"):
        confusion(np.zeros(3, int), np.zeros(2, int), 1, 1)
    with pytest.raises(ValueError, match="below 2"):
        confusion(np.array([2]), np.array([0]), 2, 1)
    with pytest.raises(ValueError, match="none"):
        matched_score(np.zeros((2, 3), np.int64))


def test_superpoints_vote():
    cluster, superpoint = np.array([2, 2, 0, -1, -1, 1]), np.array([0, 0, 0, 0, 1, 2])
    assert superpoint_majority(cluster, superpoint, 3).tolist() == [2, 2, 2, 2, -1, 1]
