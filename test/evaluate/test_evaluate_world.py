"""The procedural world as sets: unpaired, with rivals, rooms without the object, and the switch test."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import paper_protocol
from geoseg_ros.evaluate.world import world_sets
from geoseg_ros.simulation.families import FURNITURE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sets():
    return world_sets("tiny", ["stool", "lamp"], [3, 4], 2)


def test_sets(sets) -> None:
    names = [(s.group, s.name, s.given, s.seed) for s in sets]
    assert len(names) == len(set(names)) == 2 * 2 * 4  # seeds, given, two families and two switches
    for items in sets:
        if items.group.startswith("rooms, "):
            (rival,) = items.rivals
            assert {items.own.name, rival.name} == {"stool", "lamp"} and items.own.name == items.name
            assert len(items.images) == len(items.clouds) == 3
            assert [c.shown for c in items.clouds] == [True, True, False] == [i.shown for i in items.images]
            assert all(c.other is None for c in items.clouds)
        else:
            assert not items.rivals and not items.images and len(items.clouds) == 2
            assert all(c.other is not None and c.other.any() and not (c.other & c.truth).any() for c in items.clouds)
        assert len(items.own.images) == 2 and len(items.own.clouds) == (0 if items.given == "pictures" else 2)


def test_switch_measures_the_rooms_of_the_other_family(sets) -> None:
    switch = next(s for s in sets if s.name == "stool in rooms of lamp")
    rooms = next(s for s in sets if s.name == "lamp" and s.seed == switch.seed and s.given == switch.given)
    for a, b in zip(switch.clouds, rooms.clouds, strict=False):
        assert a.data is b.data and a.other is not None and np.array_equal(a.other, b.truth)
    assert FURNITURE.id("stool") != FURNITURE.id("lamp")


def test_learnt_and_measured_rooms_differ(sets) -> None:
    for items in sets:
        learnt = {cloud.xyz.tobytes() for cloud in items.own.clouds}
        assert learnt.isdisjoint(item.data.xyz.tobytes() for item in items.clouds)
    first, second = (next(s for s in sets if s.name == "stool" and s.seed == seed) for seed in (3, 4))
    assert not np.array_equal(first.images[0].data, second.images[0].data)


def test_paper_protocol_keeps_the_seed(sets) -> None:
    found = paper_protocol(next(s for s in sets if s.name == "stool" and s.seed == 4))
    assert found.seed == 4 and found.clouds and all(c.shown for c in found.clouds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", ["stool"], [0]), "at least two"),
        (("tiny", ["stool", "unicorn"], [0]), "unicorn"),
        (("huge", ["stool", "lamp"], [0]), "huge"),
        (("tiny", ["stool", "lamp"], [0], 1), "at least 2"),
    ],
)
def test_bad_input(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        world_sets(*arguments)
