"""Tokens of rendered views carried to the points that the pixels show."""

import numpy as np
import torch

from geoseg_ros.projection.lifting import lift_tokens


def test_lifted_tokens_are_means_over_the_pixels_that_show_a_point():
    tokens = torch.arange(2 * 2 * 2 * 3, dtype=torch.float32).reshape(2, 2, 2, 3)
    index = np.full((2, 4, 4), -1, np.int32)
    index[0, 0, 0] = index[0, 0, 1] = 0  # two pixels of cell (0, 0)
    index[0, 3, 3] = 0  # and one of cell (1, 1)
    index[1, 2, 0] = 2  # cell (1, 0) of view 1
    features, shown = lift_tokens(tokens, index, 4)
    assert shown.tolist() == [True, False, True, False]
    assert torch.allclose(features[0], (2 * tokens[0, 0, 0] + tokens[0, 1, 1]) / 3)
    assert torch.allclose(features[2], tokens[1, 1, 0])
    assert (features[[1, 3]] == 0).all()


def test_nothing_is_lifted_from_empty_views():
    features, shown = lift_tokens(torch.ones(2, 2, 2, 3), np.full((2, 4, 4), -1, np.int32), 2)
    assert not shown.any() and (features == 0).all()
