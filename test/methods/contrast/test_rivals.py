"""Kinds of objects in one set of clouds, told apart by what its photographs show."""

import pytest
import torch

from geoseg_ros.backbones.tokens import unit
from geoseg_ros.methods.contrast.rivals import best_first, by_parts, split_kinds

DIM, TOKENS = 24, 6
PHOTOS = unit(torch.eye(DIM)[:2].sum(0) + 0.2 * torch.randn(40, DIM, generator=torch.Generator().manual_seed(1)))
"""They are a little like kind 0 and like nothing else: pictures and drawings are of two domains."""


def clouds(kinds, spread=0.1):
    """One domain of clouds that hold proposals of these kinds, and that none lies in another."""
    generator = torch.Generator().manual_seed(0)

    def proposal(kind):
        return unit(torch.eye(DIM)[kind] + spread * torch.randn(TOKENS, DIM, generator=generator))

    items = {k: torch.stack([proposal(kind) for kind in row]) for k, row in enumerate(kinds)}
    return [items], {k: torch.eye(len(row)) for k, row in enumerate(kinds)}


def test_the_photographs_say_which_kind_is_the_target():
    kinds = [(0, 5), (5, 0), (0, 0, 5), (5, 5), (0, 5)]
    domains, inside = clouds(kinds)
    split = split_kinds(domains, PHOTOS, inside, 3)
    for k, row in enumerate(kinds):
        assert split.target[k].tolist() == [kind == 0 for kind in row]
        assert split.rival[k].tolist() == [kind == 5 for kind in row]
    other = split_kinds(domains, unit(torch.eye(DIM)[4:6].sum(0))[None].repeat(9, 1), inside, 3)
    assert other.target[0].tolist() == [False, True]


@pytest.mark.parametrize("spread", [0.1, 0.4])
def test_one_kind_is_not_split(spread):
    domains, inside = clouds([(0, 0, 0)] * 6, spread)
    assert split_kinds(domains, PHOTOS, inside, 3) is None


def test_nothing_to_tell_apart():
    domains, inside = clouds([(0, 5)] * 5)
    assert split_kinds(domains, torch.zeros(0, DIM), inside, 3) is None  # no photographs
    domains, inside = clouds([(0, 0, 0, 5, 5, 5)])
    assert split_kinds(domains, PHOTOS, inside, 3) is None  # no other cloud to ask


def test_better_proposals_take_their_place():
    inside = torch.tensor([[1.0, 0.6, 0.4], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])  # a whole and its two parts
    assert best_first(torch.tensor([3.0, 2.0, 1.0]), inside).tolist() == [True, False, False]
    assert best_first(torch.tensor([2.0, 3.0, 1.0]), inside).tolist() == [False, True, True]


def test_two_things_taken_together_are_no_better_than_their_mean():
    inside = torch.tensor([[1.0, 0.6, 0.4], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert by_parts(torch.tensor([3.0, 2.0, -1.0]), inside).tolist() == pytest.approx([0.8, 2, -1])
    assert by_parts(torch.tensor([0.5, 2.0, -1.0]), inside).tolist() == pytest.approx([0.5, 2, -1])
    inside[0, 2] = 0.1  # the parts are not all of it
    assert by_parts(torch.tensor([3.0, 2.0, -1.0]), inside).tolist() == [3, 2, -1]
