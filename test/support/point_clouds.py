"""Clouds for the tests of networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR, WALL, BOX = 0, 1, 2


def corner(seed: int, points: int = 3000) -> NDArray[np.float32]:
    """A floor, two walls and a box, metres, z up; float32 [points, 3]."""
    return labelled_corner(seed, points)[0]


def labelled_corner(seed: int, points: int = 3000) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """:func:`corner`, and what each point lies on."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0, 1, (points, 3))
    part = rng.integers(0, 4, points)
    size = rng.uniform(1.5, 2.5, 3)
    xyz = share * size
    for axis, index in ((2, 0), (0, 1), (1, 2)):
        xyz[part == index, axis] = 0
    box = part == 3
    side = rng.integers(0, 3, points)
    cube = share.copy()
    cube[np.arange(points), side] = rng.integers(0, 2, points)
    xyz[box] = (0.6 + cube * 0.5)[box] * [1, 1, 0.8] - [0, 0, 0.48]
    shift = np.append(rng.uniform(-2, 2, 2), 0.0)
    noise = rng.normal(0, 0.004, xyz.shape)
    return (xyz + shift + noise).astype(np.float32), np.array([FLOOR, WALL, WALL, BOX])[part]
