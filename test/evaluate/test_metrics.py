"""Metrics against hand-computed values and slow, obvious implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from geoseg_ros.evaluate.metrics import (
    Counts,
    auroc,
    bootstrap,
    calibration_error,
    count,
    grouped_interval,
    iou,
    mean,
    micro_interval,
    micro_iou,
)

YES, NO = np.ones(4, bool), np.zeros(4, bool)


def test_counts_by_hand() -> None:
    predicted = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    truth = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    counts = count(predicted, truth)
    assert counts == Counts(tp=2, fp=1, fn=1, tn=4)
    assert counts.iou() == iou(predicted, truth) == 0.5
    assert counts.accuracy() == 6 / 8
    assert counts.precision() == 2 / 3
    # the wrong pixels are left out, everything else is right
    assert count(predicted, truth, predicted == truth) == Counts(2, 0, 0, 4)


def test_counts_equal_a_loop() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        predicted, truth, counted = rng.random((3, 50)) < rng.random((3, 1))
        pairs = [(p, t) for p, t, c in zip(predicted, truth, counted, strict=True) if c]
        expected = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        assert count(predicted, truth, counted) == Counts(*expected)


@pytest.mark.parametrize(
    ("predicted", "truth", "figures"),
    [
        (NO, NO, (1.0, 1.0, 1.0)),  # nothing there and nothing found is right
        (YES, NO, (0.0, 0.0, 0.0)),
        (NO, YES, (0.0, 0.0, 0.0)),
        (YES, YES, (1.0, 1.0, 1.0)),
    ],
)
def test_empty_cases(predicted, truth, figures) -> None:
    counts = count(predicted, truth)
    assert (counts.iou(), counts.accuracy(), counts.precision()) == figures


def test_an_item_without_any_point_is_right() -> None:
    nothing = np.zeros(0, bool)
    assert count(nothing, nothing) == Counts(0, 0, 0, 0)
    assert Counts(0, 0, 0, 0).accuracy() == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="predicted"):
        count(np.ones(3, bool), YES)
    with pytest.raises(ValueError, match="counted"):
        count(YES, YES, np.ones(3, bool))
    with pytest.raises(ValueError, match="confidence"):
        calibration_error([0.5], [1, 0])


def test_micro_iou_weighs_items_by_size() -> None:
    items = [Counts(8, 0, 2, 0), Counts(1, 9, 0, 5)]  # IoU .8 and .1
    assert micro_iou(items) == 9 / 20
    assert np.isnan(micro_iou([])) and np.isnan(mean([]))
    assert micro_iou([Counts(0, 0, 0, 7)]) == 1.0


def test_auroc_equals_all_pairs() -> None:
    rng = np.random.default_rng(5)
    for size in range(1, 8):
        positive, negative = rng.integers(0, 5, size), rng.integers(0, 4, 9 - size)
        pairs = [(p > n) + (p == n) / 2 for p, n in itertools.product(positive, negative)]
        assert auroc(positive, negative) == pytest.approx(np.mean(pairs))
    assert auroc([2, 3], [0, 1]) == 1.0 and auroc([0], [1]) == 0.0 and auroc([1], [1]) == 0.5
    assert auroc([np.inf], [-np.inf]) == 1.0
    assert np.isnan(auroc([], [1.0])) and np.isnan(auroc([1.0], []))
    with pytest.raises(ValueError, match="NaN"):
        auroc([np.nan], [1.0])


def test_calibration_error_by_hand() -> None:
    # bin 0: one item, .05 and wrong -> gap .05; bin 9: two items, mean .95, share right .5 -> gap .45
    assert calibration_error([0.05, 0.9, 1.0], [0, 1, 0]) == pytest.approx((0.05 + 2 * 0.45) / 3)
    assert calibration_error([1.0, 0.0], [1, 0]) == 0.0
    assert np.isnan(calibration_error([], []))
    with pytest.raises(ValueError, match="0 .. 1"):
        calibration_error([1.2], [1])


def test_bootstrap_is_seeded_and_brackets_the_mean() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.1, 200)
    low, high = bootstrap(values, seed=4)
    assert (low, high) == bootstrap(values, seed=4) != bootstrap(values, seed=5)
    # the interval of a mean is close to +- 1.96 standard errors
    error = values.std() / np.sqrt(200)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert bootstrap([0.7, 0.7]) == (0.7, 0.7)
    assert np.isnan(bootstrap([])).all()


def test_bootstrap_of_two_items_is_that_of_all_samples() -> None:
    # of two items 0 and 1 a resample has mean 0, .5, 1 with chance 1/4, 1/2, 1/4
    assert bootstrap([0.0, 1.0], level=0.4) == (0.5, 0.5)
    assert bootstrap([0.0, 1.0], level=0.6) == (0.0, 1.0)


def test_grouped_interval_draws_within_groups() -> None:
    assert grouped_interval([[0.2, 0.2], [0.8]]) == (0.5, 0.5)  # groups weigh alike, whatever their size
    values = np.random.default_rng(1).random(30)
    assert grouped_interval([values], seed=2) == bootstrap(values, seed=2)
    assert grouped_interval([values, []], seed=2) == bootstrap(values, seed=2)
    assert np.isnan(grouped_interval([[]])).all()
    # of the groups {0, 1} and {0, 1} the mean of means is 0, .25, .5, .75, 1 with chances 1, 4, 6, 4, 1 of 16
    assert grouped_interval([[0, 1], [0, 1]], level=0.8) == (0.25, 0.75)


def test_micro_interval_draws_items() -> None:
    same = [Counts(3, 1, 0, 9)] * 5
    assert micro_interval(same) == (0.75, 0.75)
    mixed = [Counts(90, 0, 10, 0), Counts(0, 5, 5, 90)]
    assert micro_interval(mixed, level=0.99) == (0.0, 0.9)
    assert micro_interval([Counts(0, 0, 0, 9)]) == (1.0, 1.0)
    assert np.isnan(micro_interval([])).all()
