import numpy as np
import pytest

from geoseg_ros.packs.calibration import p_value, step_down


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


def test_any_of_many_null_candidates_passes_as_often_as_the_level_says():
    rng = np.random.default_rng(2)
    passed = [step_down(p, p, 12).min() < 0.05 for p in rng.random((4000, 12))]
    assert abs(np.mean(passed) - 0.05) < 0.01


def test_null_candidates_beside_certain_ones_pass_as_often_as_the_level_says():
    rng = np.random.default_rng(3)
    passed = []
    for null in rng.random((4000, 6)):
        p = np.concatenate([np.full(4, 1e-9), null])
        passed.append(step_down(null, p, 10).min() < 0.05)
    assert abs(np.mean(passed) - 0.05) < 0.01


def test_step_down_by_hand():
    assert step_down([0.01, 0.02, 0.04], [0.02, 0.01, 0.04], 3) == pytest.approx([1 - 0.99**3, 1 - 0.98**2, 0.04])
    assert step_down([0.01, 0.011], [0.01, 0.011], 3) == pytest.approx([1 - 0.99**3] * 2)  # never below a better one's
    assert step_down([0.015], [0.01, 0.02], 3) == pytest.approx([1 - 0.985**2])  # not itself a candidate, worse than one
    assert step_down(0.01, [], 5) == pytest.approx(1 - 0.99**5)
    assert step_down(0.3, [0.3], 0) == pytest.approx(0.3)
    assert step_down([1.0, 1.0], [1.0, 1.0], 5) == pytest.approx([1, 1])


def test_step_down_keeps_tiny_p_values():
    assert step_down(1e-18, [1e-18], 10) == pytest.approx(1e-17)
