"""From sampled points to a decision for every point of the cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

COMPETITORS = 5
SPREAD = 20


def competitive(
    points: NDArray[np.float32], foreground: NDArray[np.float32], background: NDArray[np.float32], k: int = COMPETITORS
) -> NDArray[np.float32]:
    """Score in -1 .. 1 of every point: (d_bg - d_fg) / (d_bg + d_fg), d the mean distance to the k nearest samples of each kind.

    Args:
        points: float32 [M, 3]. foreground, background: samples float32 [m, 3], same frame, m >= 1.

    Returns:
        float32 [M]; above 0 means foreground.
    """
    to_foreground, to_background = _mean_distance(points, foreground, k), _mean_distance(points, background, k)
    total = np.maximum(to_foreground + to_background, 1e-12)
    return ((to_background - to_foreground) / total).astype(np.float32)


def knn20(points: NDArray[np.float32], sampled: NDArray[np.float32], matched: NDArray[np.int64], k: int = SPREAD) -> NDArray[np.float32]:
    """Score of every point by the spread of the foreground samples (Yang et al.): 1 near a sample, else -1.

    Args:
        points: float32 [M, 3], the cloud. sampled: float32 [N, 3], the points that the network saw.
        matched: int64 [m], the foreground samples among ``sampled``; their k nearest of ``sampled`` are foreground, and so is every
            point of the cloud whose nearest seen point is.

    Returns:
        float32 [M], 1 or -1.
    """
    tree = cKDTree(sampled)
    chosen = np.zeros(len(sampled), bool)
    chosen[tree.query(sampled[np.unique(matched)], min(k, len(sampled)))[1].reshape(-1)] = True
    return np.where(chosen[tree.query(points)[1]], 1, -1).astype(np.float32)


def nearest_score(points: NDArray[np.float32], seen: NDArray[np.float32], score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score float32 [M] of ``points`` [M, 3]: that of the nearest of the points ``seen`` [N, 3] with ``score`` [N]."""
    return np.asarray(score[cKDTree(seen).query(points)[1]], np.float32)


def best_of_groups(score: NDArray[np.float32], groups: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scores float32 [N] after every point took the best of the mean scores of the ``groups`` [G, N] that hold it (each holds some
    point); the lowest of all scores where none does."""
    if not len(groups):
        return score
    means = groups @ score / groups.sum(1)
    best = np.where(groups, means[:, None], -np.inf).max(0)
    return np.where(groups.any(0), best, score.min()).astype(np.float32)


def _mean_distance(points: NDArray[np.float32], samples: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    # samples repeat; each place counts once, or one crowded place would be all five neighbours
    distinct = np.unique(samples, axis=0)
    distance = cKDTree(distinct).query(points, min(k, len(distinct)))[0]
    return np.asarray(distance, np.float64).reshape(len(points), -1).mean(axis=1)
