"""Objects over time: numbers that stay, births, deaths, concepts that are outvoted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from geoseg_ros.results import CloudResult, ObjectInstance
from geoseg_ros.runtime.tracking import Tracker, TrackingConfig

NAMES = {1: "mug", 2: "can"}


def obj(x: float, y: float = 0.0, label: int = 1, p: float = 0.02, instance: int = 1) -> ObjectInstance:
    return ObjectInstance(label, NAMES[label], instance, 1 - p, p, np.array([x, y, 0.0]), np.eye(3), np.full(3, 0.1), 50)


def numbers(objects: Sequence[ObjectInstance]) -> list[int]:
    return [entry.track for entry in objects]


def test_a_number_comes_with_the_second_sighting_and_stays() -> None:
    tracker = Tracker()
    assert [numbers(tracker.update(0.5 * i, [obj(1.0)])) for i in range(5)] == [[0], [1], [1], [1], [1]]
    once = Tracker(TrackingConfig(confirm=1))
    assert numbers(once.update(0.0, [obj(1.0), obj(3.0)])) == [1, 2]


def test_order_does_not_matter_and_is_kept() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    assert numbers(tracker.update(0.0, [obj(0.0), obj(1.0), obj(2.0)])) == [1, 2, 3]
    assert numbers(tracker.update(0.5, [obj(2.01), obj(0.02), obj(0.99)])) == [3, 1, 2]


def test_the_assignment_of_least_total_cost_wins() -> None:
    """Each on its own, the first object would take the second track; together that would leave the second object without any."""
    tracker = Tracker(TrackingConfig(confirm=1, max_distance=0.5))
    tracker.update(0.0, [obj(0.0), obj(0.6)])
    assert numbers(tracker.update(0.0, [obj(0.35), obj(0.9)])) == [1, 2]


def test_crossing_objects_keep_their_numbers_by_their_velocity() -> None:
    tracker = Tracker(TrackingConfig(confirm=1, max_distance=0.6))
    for i in range(21):  # two objects at 1 m/s meet at x = 0 at i = 10, 10 cm apart
        x = 0.1 * (i - 10)
        found = tracker.update(0.1 * i, [obj(x, 0.05), obj(-x, -0.05)])
    assert numbers(found) == [1, 2]


def test_a_object_that_moves_on_is_found_where_it_is_expected() -> None:
    fast = Tracker(TrackingConfig(confirm=1, max_distance=0.5))
    for i in range(6):
        assert numbers(fast.update(0.2 * i, [obj(0.4 * i)])) == [1]
    assert numbers(fast.update(2.0, [obj(4.0)])) == [1], "2 m farther than it was last seen, at 2 m/s"


def test_tracks_outlive_a_few_misses() -> None:
    tracker = Tracker(TrackingConfig(forget=3))
    for i in range(3):
        tracker.update(0.1 * i, [obj(1.0)])
    for i in range(3, 6):
        assert tracker.update(0.1 * i, []) == []
    assert numbers(tracker.update(0.6, [obj(1.0)])) == [1]
    for i in range(7, 11):
        tracker.update(0.1 * i, [])
    assert numbers(tracker.update(1.1, [obj(1.0)])) == [0]
    assert numbers(tracker.update(1.2, [obj(1.0)])) == [2], "a number is never used twice"


def test_what_flickers_never_gets_a_number() -> None:
    tracker = Tracker()
    for i in range(6):
        assert numbers(tracker.update(0.1 * i, [obj(1.0)] if i % 2 else [])) in ([], [0])


def test_a_long_silence_ends_tracks() -> None:
    tracker = Tracker(TrackingConfig(max_seconds=2.0))
    tracker.update(0.0, [obj(1.0)])
    assert numbers(tracker.update(1.9, [obj(1.0)])) == [1]
    assert numbers(tracker.update(4.0, [obj(1.0)])) == [0]


def test_time_that_goes_backwards_starts_anew() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    tracker.update(10.0, [obj(1.0)])
    assert numbers(tracker.update(10.0, [obj(1.0)])) == [1] and tracker.resets == 0, "the same stamp again is no jump"
    assert numbers(tracker.update(3.0, [obj(1.0)])) == [2] and tracker.resets == 1
    assert numbers(tracker.update(3.1, [obj(1.0)])) == [2] and tracker.resets == 1
    assert numbers(tracker.update(3.2, [obj(1.0)], "other_lidar")) == [3] and tracker.resets == 2


def test_a_reset_ends_tracks_but_numbers_go_on() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    tracker.update(0.0, [obj(1.0)])
    tracker.reset()
    assert numbers(tracker.update(0.1, [obj(1.0)])) == [2] and tracker.resets == 0


def test_one_wrong_concept_is_outvoted_and_evidence_changes_minds() -> None:
    tracker = Tracker()
    for i in range(4):
        tracker.update(0.1 * i, [obj(1.0, p=0.01)])
    (doubtful,) = tracker.update(0.4, [obj(1.0, label=2, p=0.04)])
    assert (doubtful.label, doubtful.name, doubtful.track) == (1, "mug", 1)
    for i in range(5, 20):
        (last,) = tracker.update(0.1 * i, [obj(1.0, label=2, p=0.01)])
    assert (last.label, last.name, last.track) == (2, "can", 1)


def test_a_object_of_the_same_concept_is_preferred() -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    tracker.update(0.0, [obj(0.0, label=1), obj(0.3, label=2)])
    found = tracker.update(0.1, [obj(0.14, label=2), obj(0.16, label=1)])
    assert [(entry.track, entry.label) for entry in found] == [(2, 2), (1, 1)]


def test_points_follow_their_object() -> None:
    tracker = Tracker()
    label, instance = np.array([0, 1, 2, 1], np.uint32), np.array([0, 1, 2, 1], np.uint32)
    confidence = np.array([0, 1, 1, 1], np.float32)
    for i in range(3):
        tracker.update(0.1 * i, [obj(0.0, p=0.001), obj(2.0, p=0.001)])
    result = CloudResult(label, instance, confidence, [obj(0.0), obj(2.0, label=2, p=0.2, instance=2)], [])
    answer = tracker.follow(0.3, result)
    assert answer.label.tolist() == [0, 1, 1, 1] and answer.label.dtype == np.uint32
    assert answer.instance is instance and [entry.name for entry in answer.objects] == ["mug", "mug"]
    assert result.label.tolist() == [0, 1, 2, 1], "the input is left alone"
    agreed = CloudResult(label, instance, confidence, [obj(0.0), obj(2.0, instance=2)], [])
    assert tracker.follow(0.4, agreed).label is label


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_extreme_p_values(p: float) -> None:
    tracker = Tracker(TrackingConfig(confirm=1))
    for i in range(3):
        (found,) = tracker.update(0.1 * i, [obj(0.0, p=p)])
    assert (found.track, found.label) == (1, 1)


def test_switched_off_it_does_nothing() -> None:
    tracker = Tracker(TrackingConfig(enabled=False))
    objects = [obj(1.0)]
    assert all(tracker.update(0.1 * i, objects)[0] is objects[0] for i in range(4))


def test_noisy_objects_keep_their_numbers() -> None:
    """Eight objects 1 m apart, seen nine times of ten with 3 cm noise, for 200 clouds; the answer is the same every time."""

    def run() -> list[list[int]]:
        rng = np.random.default_rng(0)
        tracker, history = Tracker(), []
        for i in range(200):
            seen = [k for k in rng.permutation(8) if rng.random() < 0.9]
            found = tracker.update(0.1 * i, [obj(k + rng.normal(0, 0.03), rng.normal(0, 0.03)) for k in seen])
            history.append([-1] * 8)
            for k, entry in zip(seen, found, strict=True):
                history[-1][k] = entry.track
        return history

    history = run()
    assert history == run()
    for k in range(8):
        assert len({row[k] for row in history[10:]} - {-1}) == 1
