import numpy as np
import pytest

from geoseg_ros.coseg.presence import best_of, p_value


@pytest.mark.parametrize("size", [30, 100, 400])
def test_null_items_pass_the_threshold_as_often_as_it_says(size):
    rng = np.random.default_rng(0)
    shares = []
    for draw in (rng.normal, rng.gumbel, rng.logistic):
        p = np.concatenate([p_value(draw(size=50), draw(size=size)) for _ in range(400)])
        shares.append(np.mean(p < 0.05))
    assert np.all(np.abs(np.array(shares) - 0.05) < 0.02), shares


def test_p_values_fall_as_scores_rise_and_stay_in_bounds():
    null = np.random.default_rng(1).normal(size=60)
    p = p_value(np.linspace(-6, 6, 2001), null)
    assert np.all(np.diff(p) <= 0)
    assert p[0] == 1
    assert np.all((p > 0) & (p <= 1))
    assert p[-1] < 1e-3  # the tail goes on beyond 1 / (n + 1)


def test_p_value_is_the_rank_where_the_null_is_small_and_says_nothing_without_one():
    assert p_value([0.0, 2.5, 9.0], np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 0.5, 0.25]
    assert p_value([5.0], np.zeros(0)).tolist() == [1.0]


def test_constant_null_scores_give_no_confidence_in_an_equal_score():
    assert p_value(0.3, np.full(50, 0.3)) == 1


def test_best_of_many_null_candidates_is_calibrated():
    rng = np.random.default_rng(2)
    p = rng.random((4000, 12)).min(1)
    assert abs(np.mean(best_of(p, 12) < 0.05) - 0.05) < 0.01
    assert best_of(0.3, 0) == pytest.approx(0.3)
    assert best_of(1.0, 5) == 1


def test_best_of_keeps_tiny_p_values():
    assert best_of(1e-18, 10) == pytest.approx(1e-17)
