import numpy as np
import pytest
import torch

from geoseg_ros.learning.affinity import affinity, even_rows, evenly, prototypes, recurrence


def unit_tokens(seed, *shape):
    tokens = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()
    return torch.nn.functional.normalize(tokens, dim=-1)


def test_evenly_spread_items_and_rows():
    assert evenly(range(9), 4) == [0, 2, 4, 6] and evenly("abc", 4) == ["a", "b", "c"]
    assert even_rows(torch.arange(9), 4).tolist() == [0, 2, 4, 6] and even_rows(torch.arange(2), 4).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("neighbours", [1, 3, 7])
def test_affinity_equals_the_naive_mean_of_the_nearest(neighbours):
    tokens, references = unit_tokens(0, 5, 40, 16), unit_tokens(1, 90, 16)
    naive = (tokens @ references.T).topk(neighbours, dim=-1).values.mean(-1)
    assert torch.allclose(affinity(tokens, references, neighbours, chunk=64), naive, atol=1e-6)


def test_affinity_with_few_references_none_and_no_tokens():
    tokens = unit_tokens(0, 10, 16)
    two = unit_tokens(1, 2, 16)
    assert torch.allclose(affinity(tokens, two, 5), (tokens @ two.T).mean(1), atol=1e-6)
    assert affinity(tokens, two[:0], 3).tolist() == [-1.0] * 10
    assert affinity(tokens[:0].reshape(0, 4, 16), two, 3).shape == (0, 4)


def test_equal_references_each_count_once():
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert affinity(same[:1], same, 2).item() == 1.0


def test_an_item_without_the_object_changes_recurrence_by_less_than_one_part_in_the_number_of_items():
    obj = unit_tokens(9, 1, 64)
    items = [torch.cat([obj.expand(5, -1), unit_tokens(10 + k, 30, 64)]) for k in range(6)]
    before = recurrence(items, 3, partners=20)
    after = recurrence([*items, unit_tokens(99, 35, 64)], 3, partners=20)
    change = torch.stack([(a - b).abs().max() for a, b in zip(after[:6], before, strict=True)])
    assert change.max() < 1 / len(items) + 1e-6
    assert all(a[:5].mean() > a[5:].max() + 0.2 for a in after[:6])  # what recurs still stands out


def test_a_lone_item_does_not_recur_and_partners_are_bounded(monkeypatch):
    assert recurrence([unit_tokens(0, 4, 8)], 3, 16)[0].tolist() == [0.0] * 4
    met = []
    monkeypatch.setattr("geoseg_ros.learning.affinity.affinity", lambda item, other, k: met.append(other) or torch.zeros(len(item)))
    recurrence([unit_tokens(k, 2, 8) for k in range(10)], 3, partners=4)
    assert len(met) == 10 * 4


def test_prototypes_are_deterministic_unit_vectors_that_find_the_clusters():
    centres = torch.eye(8)[:4]
    tokens = torch.nn.functional.normalize(centres.repeat(50, 1) + 0.1 * unit_tokens(0, 200, 8), dim=1)
    first = prototypes(tokens, 4)
    assert torch.equal(first, prototypes(tokens.clone(), 4))
    assert torch.allclose(first.norm(dim=1), torch.ones(4), atol=1e-5)
    assert (first @ centres.T).max(0).values.min() > 0.98
    assert torch.equal(prototypes(tokens[:3], 4), tokens[:3])
    assert prototypes(tokens[:0], 4).shape == (0, 8)


def test_prototypes_of_equal_tokens_are_finite():
    assert torch.isfinite(prototypes(torch.eye(3)[:1].repeat(50, 1), 5)).all()
