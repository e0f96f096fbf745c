"""Tokens as colours."""

import numpy as np

from geoseg_ros.display.token_colours import UNKNOWN, lifted_picture, token_colours
from geoseg_ros.projection.lifted_scene import LiftedScene


def test_like_tokens_have_like_colours_and_unknown_ones_are_grey():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 16))
    which = rng.integers(0, 3, 300)
    tokens = (kinds[which] * rng.uniform(1, 5, (300, 1)) + rng.normal(0, 0.01, (300, 16))).astype(np.float16)
    known = np.arange(300) > 9
    colours = token_colours(tokens, known).astype(int)
    assert (colours[:10] == UNKNOWN).all()
    # the third direction is noise, stretched; the first two part the kinds
    means = [colours[known & (which == k)][:, :2].mean(0) for k in range(3)]
    spread = max(colours[known & (which == k)][:, :2].std(0).max() for k in range(3))
    assert min(np.abs(means[a] - means[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 60 > 4 * spread
    assert (token_colours(tokens, np.zeros(300, bool)) == UNKNOWN).all()


def test_a_room_is_drawn_in_three_ways_whatever_is_up():
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0, 2, 0.05), np.arange(0, 2, 0.05)))
    xyz = np.stack([x, np.zeros_like(x), y], 1).astype(np.float32)  # a floor in a world where -y is up
    count = len(xyz)
    tokens = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float16)
    scene = LiftedScene(
        xyz, None, np.tile(np.float32([0, -1, 0]), (count, 1)), tokens, np.ones(count, np.int32), (x > 1).astype(np.int64),
        np.zeros(0, np.int64), 0.05, np.array([0.0, -1.0, 0.0]),
    )  # fmt: skip
    picture = lifted_picture(scene, (160, 120))
    assert picture.shape == (120 + 26 + 12, 3 * 166 + 6, 3)
    assert [np.unique(cell[30:].reshape(-1, 3), axis=0).shape[0] > 2 for cell in np.split(picture[:, 6:], [166, 332], axis=1)] == [True] * 3
