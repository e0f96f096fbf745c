"""Rows in bundles of directions, for clusterings."""

from __future__ import annotations

import numpy as np


def bundles(count: int = 5, each: int = 60, dim: int = 16, spread: float = 0.1, seed: int = 0):
    """Rows around ``count`` orthogonal directions, of very different lengths, and the direction of each."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(count), each)
    rows = np.eye(dim)[truth] + spread * rng.normal(size=(count * each, dim))
    return rows * rng.uniform(0.1, 10, (len(rows), 1)), truth


def same_partition(a, b) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))
