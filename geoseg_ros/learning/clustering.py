"""k-means, of directions or of points, and a rule that chooses the number of clusters.

Sums are taken row by row by compiled code, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.errors import InputError
from geoseg_ros.learning.spectrum import laplacian_spectrum, spread_sample

FEWEST, MOST = 2, 30  # clusters that the rule chooses between
SAMPLE = 2000  # rows that it looks at


@dataclass(frozen=True)
class Clusters:
    """Rows in clusters.

    Attributes:
        centroids: float32 [C, D]; spherical: of unit length.
        label: int64 [n], cluster of each row.
        similarity: float32 [n], 1 - d^2 / 2 with the distance d to the centroid of its cluster; spherical: that is the cosine.
    """

    centroids: NDArray[np.float32]
    label: NDArray[np.int64]
    similarity: NDArray[np.float32]


def unit_rows(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows [n, D] at unit length, float32; rows of zeros stay."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.ascontiguousarray(features / np.maximum(length, 1e-12), np.float32)


def kmeans(
    features: NDArray[np.floating],
    count: int,
    weight: NDArray[np.floating] | NDArray[np.integer] | None = None,
    restarts: int = 10,
    iterations: int = 80,
    seed: int = 0,
    start: NDArray[np.floating] | None = None,
    spherical: bool = True,
) -> Clusters:
    """k-means with k-means++ seeds; the best of several starts. Spherical: by cosine (Dhillon & Modha, Machine Learning 2001).

    An empty cluster takes the row that is least like its own centroid.

    Args:
        features: [n, D]; spherical: scaled to unit length here.
        count: number of clusters C.
        weight: [n], > 0, of each row in its centroid; None: all alike.
        restarts: starts from drawn seeds.
        iterations: at most, per start.
        seed: of the drawn seeds.
        start: centroids [C, D] of a further start, such as those of a clustering before.
        spherical: rows are compared by their directions only.

    Raises:
        InputError: more clusters than rows, or none.
    """
    scaled = unit_rows if spherical else _as_rows
    rows = scaled(np.asarray(features))
    if not 1 <= count <= len(rows):
        raise InputError(f"clusters: expected 1 to {len(rows)}, one for each row, got {count}")
    weights = np.ones(len(rows)) if weight is None else np.ascontiguousarray(weight, np.float64)
    starts = [] if start is None else [scaled(np.asarray(start))]
    starts += [_drawn(rows, weights, count, np.random.default_rng([seed, k])) for k in range(restarts)]
    best, best_fit = None, -np.inf
    for centroids in starts:
        found = _refined(rows, weights, centroids, iterations, scaled)
        fit = _total(found.similarity, weights)
        if fit > best_fit:  # among equal ones the first
            best, best_fit = found, fit
    assert best is not None
    return best


def nearest_centroid(features: NDArray[np.floating], centroids: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar centroid of each row, int64 [n], the first of equal ones, and the cosine to it, float32 [n]."""
    label, similarity, _ = _assign(unit_rows(features), unit_rows(centroids))
    return label, similarity


def choose_count(features: NDArray[np.floating], most: int = MOST) -> int:
    """A number of clusters: where the eigenvalues of the normalised Laplacian of the nearest-neighbour graph rise most (the eigengap; von
    Luxburg, Statistics and Computing 2007, section 8.3).

    Args:
        features: [n, D]; an even sample of at most ``SAMPLE`` of them is used.
        most: largest number considered.
    """
    rows = unit_rows(features[spread_sample(len(features), SAMPLE)])
    most = min(most, len(rows) - 1)
    if most <= FEWEST:
        return max(1, most)
    values, _ = laplacian_spectrum(rows, most + 1)
    return FEWEST + int(np.diff(values)[FEWEST - 1 :].argmax())


def _drawn(rows: NDArray[np.float32], weight: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Seeds [C, D] by k-means++ (Arthur & Vassilvitskii, SODA 2007): far from the others is likely."""
    distance = np.full(len(rows), np.inf)
    chosen: list[int] = []
    for _ in range(count):
        share = np.cumsum(weight * distance if chosen else weight)
        if share[-1] > 0:
            index = min(int(np.searchsorted(share, rng.random() * share[-1], side="right")), len(rows) - 1)
        else:  # every row is a seed already, or equals one
            index = int(np.setdiff1d(np.arange(len(rows)), chosen)[0])
        chosen.append(index)
        _, similarity, _ = _assign(rows, rows[index : index + 1])
        distance = np.minimum(distance, 1 - similarity.astype(np.float64))
        distance[chosen] = 0
    return rows[chosen]


def _refined(
    rows: NDArray[np.float32],
    weight: NDArray[np.float64],
    centroids: NDArray[np.float32],
    iterations: int,
    scaled: Callable[[NDArray[np.floating]], NDArray[np.float32]],
) -> Clusters:
    label, similarity, _ = _assign(rows, centroids)
    for _ in range(iterations):
        _fill_empty(label, similarity, len(centroids))
        total = np.bincount(label, weight, len(centroids))
        centroids = scaled(_sums(rows, label, weight, len(centroids)) / np.maximum(total, 1e-12)[:, None])
        before = label
        label, similarity, _ = _assign(rows, centroids)
        if np.array_equal(before, label):
            break
    return Clusters(centroids, label, similarity)


def _as_rows(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(features, np.float32)


def _fill_empty(label: NDArray[np.int64], similarity: NDArray[np.float32], count: int) -> None:
    """Give every empty cluster the row that is farthest from its centroid, of a cluster that has another row; in place."""
    sizes = np.bincount(label, minlength=count)
    for empty in np.flatnonzero(sizes == 0):
        row = int(np.where(sizes[label] > 1, similarity, np.inf).argmin())
        sizes[label[row]] -= 1
        sizes[empty] += 1
        label[row], similarity[row] = empty, np.inf  # not to be moved again


@compiled
def _assign(rows, centroids):  # noqa: ANN001, ANN202
    """Nearest centroid of each row, int64 [n], the first of equally near ones; and 1 - d^2 / 2, float32 [n], with the distances d to it
    and to the next. For rows of unit length that is the cosine."""
    count, dim = centroids.shape
    columns = np.ascontiguousarray(centroids.T)
    label = np.empty(len(rows), np.int64)
    best, second = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    squares = np.empty(count, np.float32)
    for i in range(len(rows)):
        squares[:] = 0
        for d in range(dim):
            value = rows[i, d]
            for c in range(count):
                step = value - columns[d, c]
                squares[c] += step * step
        first = 0
        for c in range(1, count):
            if squares[c] < squares[first]:
                first = c
        other = np.float32(4)
        for c in range(count):
            if c != first and squares[c] < other:
                other = squares[c]
        label[i], best[i], second[i] = first, 1 - squares[first] / 2, 1 - other / 2
    return label, best, second


@compiled
def _sums(rows, label, weight, count):  # noqa: ANN001, ANN202
    """Weighted sum of the rows of each cluster, float64 [C, D]."""
    sums = np.zeros((count, rows.shape[1]))
    for i in range(len(rows)):
        for d in range(rows.shape[1]):
            sums[label[i], d] += weight[i] * rows[i, d]
    return sums


@compiled
def _total(similarity, weight):  # noqa: ANN001, ANN202
    total = 0.0
    for i in range(len(similarity)):
        total += weight[i] * similarity[i]
    return total
