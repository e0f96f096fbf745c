"""Similarity of tokens with sets of reference tokens, which are bounded by prototypes and by evenly spread subsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def affinity(tokens: torch.Tensor, references: torch.Tensor, neighbours: int, chunk: int = 4096) -> torch.Tensor:
    """Mean cosine of each unit token [..., D] with its ``neighbours`` nearest unit references [R, D]; -1 where R = 0."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    if len(references) == 0:
        return flat.new_full(tokens.shape[:-1], -1.0)
    k = min(neighbours, len(references))
    parts = [(block @ references.T).topk(k, dim=1).values.mean(1) for block in flat.split(chunk)]
    return torch.cat(parts).reshape(tokens.shape[:-1])


def recurrence(items: Sequence[torch.Tensor], neighbours: int, partners: int) -> list[torch.Tensor]:
    """How much each token recurs in the other items: mean over these of :func:`affinity`.

    Args:
        items: tokens [n_i, D] of each item, unit length.
        neighbours: nearest tokens over which an affinity is averaged.
        partners: largest number of other items to compare with, evenly spread, so that the cost is linear in the number of items.

    Returns:
        [n_i] for each item; zeros for a single item.
    """
    count = len(items)
    result = []
    for i, item in enumerate(items):
        others = evenly([j for j in range(count) if j != i], partners)
        scores = [affinity(item, items[j], neighbours) for j in others]
        result.append(torch.stack(scores).mean(0) if scores else torch.zeros(len(item)))
    return result


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of ``items``, evenly spread."""
    return list(items) if len(items) <= count else [items[k * len(items) // count] for k in range(count)]


def even_rows(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` rows of ``tokens`` [n, ...], evenly spread; rows repeat where there are fewer."""
    return tokens[torch.arange(count) * len(tokens) // count]


def prototypes(tokens: torch.Tensor, count: int, rounds: int = 8, limit: int = 20_000) -> torch.Tensor:
    """At most ``count`` unit prototypes of unit tokens [n, D] by spherical k-means; deterministic (evenly spread start)."""
    if len(tokens) <= count:
        return tokens.clone()
    if len(tokens) > limit:
        tokens = even_rows(tokens, limit)
    centres = even_rows(tokens, count)
    for _ in range(rounds):
        owner = torch.cat([(block @ centres.T).argmax(1) for block in tokens.split(4096)])
        total = torch.zeros_like(centres).index_add_(0, owner, tokens)
        empty = torch.bincount(owner, minlength=count) == 0
        centres = torch.where(empty[:, None], centres, torch.nn.functional.normalize(total, dim=1))
    return centres
