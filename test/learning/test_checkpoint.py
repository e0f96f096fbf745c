"""Files of tensors: exact, atomic, repeatable, and refused with one line when they are not what they should be."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import FORMAT, HEAD, below, load_optimiser, optimiser_state, read_tensors, under, write_tensors

TENSORS = {"a.x": torch.arange(6.0).view(2, 3).T, "a.y": torch.tensor(3), "b": torch.tensor([True])}


def test_files_are_exact_and_repeatable(tmp_path):
    shared = torch.zeros(4)
    given = {**TENSORS, "c": shared, "d": shared[:2]}
    write_tensors(tmp_path / "one", "toy", given, {"number": 1.5})
    write_tensors(tmp_path / "two", "toy", dict(reversed(given.items())), {"number": 1.5})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    tensors, head = read_tensors(tmp_path / "one", "toy")
    assert head == {"format": FORMAT, "kind": "toy", "number": 1.5} and tensors.keys() == given.keys()
    assert all(torch.equal(value, given[name]) and value.dtype == given[name].dtype for name, value in tensors.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_prefixes():
    assert under("a", TENSORS).keys() == {"x", "y"} and under("", TENSORS) == {}
    assert under("p", below("p", TENSORS)).keys() == TENSORS.keys()


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(InputError, match="no such file"):
        read_tensors(path, "toy")
    write_tensors(path, "toy", TENSORS, {})
    whole = path.read_bytes()
    with pytest.raises(InputError, match="expected a file of kind 'other', got 'toy'"):
        read_tensors(path, "other")
    with pytest.raises(InputError, match="expected at most 0 MiB"):
        read_tensors(path, "toy", largest=10)
    deep = "[" * 100_000 + "]" * 100_000
    heads = [
        None,
        {},
        {HEAD: ""},
        {HEAD: "[]"},
        {HEAD: deep},
        {HEAD: json.dumps({"kind": "toy"})},
        {HEAD: '{"kind": "toy", "format": null}'},
    ]
    contents = [whole[: len(whole) // 2], b"", b"x" * 100, b"\xff" * 8 + whole[8:]]
    for case in [*heads, *contents]:
        if isinstance(case, bytes):
            path.write_bytes(case)
        else:
            save_file({"a": torch.zeros(1)}, str(path), case)
        with pytest.raises(InputError, match="not a file of kind 'toy', or a damaged one") as error:
            read_tensors(path, "toy")
        assert "\n" not in str(error.value)
    save_file({"a": torch.zeros(1)}, str(path), {HEAD: json.dumps({"kind": "toy", "format": FORMAT + 1})})
    with pytest.raises(InputError, match="newer"):
        read_tensors(path, "toy")


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "RMSprop", "Adagrad"])
def test_optimisers_survive(kind):
    def make():
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(3, 2))
        options = {"momentum": 0.9} if kind == "SGD" else {}
        return weight, getattr(torch.optim, kind)([weight], lr=0.1, **options)

    def step(weight, optimiser, k):
        optimiser.zero_grad()
        (weight * k).square().sum().backward()
        optimiser.step()

    first, second = make(), make()
    for k in range(3):
        step(*first, k)
    with torch.no_grad():
        second[0].copy_(first[0])
    tensors, values = optimiser_state(first[1])
    as_from_a_file = {name: value.clone() for name, value in tensors.items()}
    load_optimiser(second[1], as_from_a_file, json.loads(json.dumps(values)))
    for k in range(3):
        step(*first, k)
        step(*second, k)
    assert torch.equal(first[0], second[0])
