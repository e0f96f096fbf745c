"""k-means, the number of clusters, and spectra of graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.learning.clustering import choose_count, kmeans, nearest_centroid
from geoseg_ros.learning.spectrum import laplacian_spectrum
from support.bundles import bundles, same_partition


def test_bundles_of_directions_are_found_whatever_their_lengths() -> None:
    rows, truth = bundles()
    found = kmeans(rows, 5)
    assert same_partition(found.label, truth)
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-6)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.allclose(found.similarity, (unit * found.centroids[found.label]).sum(axis=1), atol=1e-5)
    label, similarity = nearest_centroid(rows, found.centroids)
    assert np.array_equal(label, found.label) and np.allclose(similarity, found.similarity, atol=1e-6)


def test_result_is_the_same_at_any_number_of_threads() -> None:
    rows, _ = bundles(each=400, dim=128, spread=0.6)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(kmeans(rows, 13, restarts=3))
    torch.set_num_threads(before)
    assert results[0].centroids.tobytes() == results[1].centroids.tobytes()
    assert np.array_equal(results[0].label, results[1].label)


def test_empty_clusters_are_filled() -> None:
    rows, _ = bundles(count=2, each=10)
    start = np.tile(rows[:1], (4, 1))  # three of four have no row
    found = kmeans(rows, 4, restarts=0, start=start)
    assert (np.bincount(found.label, minlength=4) > 0).all()
    assert len(np.unique(kmeans(np.ones((6, 3)), 6).label)) >= 1  # equal rows: no seed is far from another


def test_points_are_grouped_by_distance_where_directions_do_not_count() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(c, 0.1, (50, 2)) for c in ((1, 1), (5, 5), (0, 5))])
    found = kmeans(points, 3, spherical=False)
    assert sorted(np.rint(found.centroids).astype(int).tolist()) == [[0, 5], [1, 1], [5, 5]]


def test_weights_pull_the_centroid() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    weighted = kmeans(rows, 1, np.array([3.0, 1.0])).centroids[0]
    assert np.allclose(weighted, np.array([3, 1]) / np.sqrt(10), atol=1e-6)


def test_a_start_is_kept_where_it_fits_best() -> None:
    rows, truth = bundles()
    found = kmeans(rows, 5, restarts=0, start=np.eye(16)[[3, 1, 4, 0, 2]])
    assert np.array_equal(found.label, np.array([3, 1, 4, 0, 2]).argsort()[truth])


@pytest.mark.parametrize("count", [0, 301])
def test_impossible_numbers_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="clusters: expected 1 to 300"):
        kmeans(bundles()[0], count)


@pytest.mark.parametrize("count", [3, 7])
def test_the_number_of_clear_bundles_is_found(count: int) -> None:
    assert choose_count(bundles(count)[0]) == count


def test_rows_that_are_the_same_have_a_spectrum() -> None:
    rows = np.repeat(np.eye(4, 8), 100, axis=0)
    values, vectors = laplacian_spectrum(rows, 9)
    assert values.shape == (9,) and vectors.shape == (400, 9) and np.isfinite(values).all() and (np.diff(values) >= -1e-12).all()


def test_spectrum_of_separate_parts_has_a_zero_for_each() -> None:
    rows, truth = bundles(3, spread=0.02)
    values, vectors = laplacian_spectrum(rows / np.linalg.norm(rows, axis=1, keepdims=True), 5)
    assert np.all(values[:3] < 1e-3) and values[3] > 0.01
    assert np.allclose(vectors.T @ vectors, np.eye(5), atol=1e-6)
