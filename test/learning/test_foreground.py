import numpy as np
import pytest
import torch

from geoseg_ros.learning.foreground import find_foreground, inside, otsu, standing_still
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.selection import TrainConfig


def planted_set(images=8, height=12, width=16, dim=32, still=False):
    """Tokens [h, w, D] of pictures with a 3 x 4 object at changing places, and where it is. ``still``: the ground is always the same."""
    rng = np.random.default_rng(0)

    def unit(array):
        return array / np.linalg.norm(array, axis=-1, keepdims=True)

    obj = unit(unit(rng.normal(size=dim)) + 0.7 * unit(rng.normal(size=(3, 4, dim))))  # its parts have a look in common
    kinds = unit(rng.normal(size=(5, dim)))  # of ground, common to the set and the bank
    ground = kinds[rng.integers(5, size=(height, width))]
    maps, truths = [], []
    for _ in range(images):
        if not still:
            ground = kinds[rng.integers(5, size=(height, width))]
        tokens = ground + 0.05 * rng.normal(size=(height, width, dim))
        top, left = rng.integers(2, height - 5), rng.integers(2, width - 6)
        tokens[top : top + 3, left : left + 4] = obj + 0.05 * rng.normal(size=(3, 4, dim))
        truth = np.zeros((height, width), bool)
        truth[top : top + 3, left : left + 4] = True
        maps.append(torch.from_numpy(unit(tokens)).float())
        truths.append(truth)
    bank = unit(kinds[rng.integers(5, size=300)] + 0.05 * rng.normal(size=(300, dim)))
    return maps, truths, torch.from_numpy(bank).float()


def test_a_planted_object_is_found():
    maps, truths, bank = planted_set()
    chosen, scores = find_foreground(maps, bank, CosegConfig().neighbours, TrainConfig())
    found = np.stack([c.numpy() for c in chosen])
    truth = np.stack(truths)
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    assert all(s.shape == m.shape[:2] and torch.isfinite(s).all() for s, m in zip(scores, maps, strict=True))


def test_what_stands_still_is_not_the_object():
    maps, truths, _ = planted_set(still=True)
    nothing = torch.zeros(0, maps[0].shape[-1])  # no bank: only the camera that does not move speaks against the ground
    chosen, _ = find_foreground(maps, nothing, CosegConfig().neighbours, TrainConfig())
    found, truth = np.stack([c.numpy() for c in chosen]), np.stack(truths)
    assert found.sum() > 0 and (found & ~truth).sum() < 0.2 * found.sum()
    assert standing_still(maps).reshape(truth.shape)[~truth].median() > 0.9


def test_the_share_of_the_foreground_is_bounded():
    rng = np.random.default_rng(3)
    maps = [torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(10, 12, 16))).float(), dim=-1) for _ in range(4)]
    train = TrainConfig()
    chosen, _ = find_foreground(maps, torch.zeros(0, 16), CosegConfig().neighbours, train)
    eligible = 4 * int(inside(10, 12, train.border).sum())
    share = sum(int(c.sum()) for c in chosen) / eligible
    assert 0 < share <= train.foreground_most + 0.01


def test_a_object_that_fills_a_third_of_the_pictures_is_found_whole():
    rng = np.random.default_rng(5)
    kinds = rng.normal(size=(6, 32)) / np.sqrt(32)
    maps, truths = [], []
    for k in range(6):
        tokens, truth = kinds[1 + rng.integers(5, size=(12, 15))], np.zeros((12, 15), bool)
        truth[2:10, 2 + k % 3 : 9 + k % 3] = True
        tokens[truth] = kinds[0] + 0.5 * kinds[1 + rng.integers(5, size=truth.sum())]
        maps.append(torch.nn.functional.normalize(torch.from_numpy(tokens + 0.05 * rng.normal(size=tokens.shape)).float(), dim=-1))
        truths.append(truth)
    bank = torch.nn.functional.normalize(torch.from_numpy(kinds[1:]).float(), dim=-1)
    found = np.stack([c.numpy() for c in find_foreground(maps, bank, CosegConfig().neighbours, TrainConfig())[0]])
    assert (found & np.stack(truths)).sum() / (found | np.stack(truths)).sum() > 0.75  # the bound on the first share alone: < 0.5


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 40)])
def test_tiny_maps_and_a_single_image(size):
    tokens = torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(0).normal(size=(*size, 8))).float(), dim=-1)
    chosen, scores = find_foreground([tokens], tokens.reshape(-1, 8)[:1], CosegConfig().neighbours, TrainConfig())
    assert chosen[0].shape == scores[0].shape == size


def test_otsu_splits_two_heaps_between_them():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.1, 900), rng.normal(1, 0.1, 100)])
    assert 0.3 < otsu(values) < 0.75
    assert otsu(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.5, abs=0.5)
    assert np.isfinite(otsu(np.full(10, 0.2)))


def test_the_frame_is_at_least_one_token_wide():
    frame = inside(10, 20, 0.1)
    assert not frame[0].any() and not frame[:, :2].any() and frame[1:9, 2:18].all()
    assert not inside(5, 5, 0.01)[0].any()
