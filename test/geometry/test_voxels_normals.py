"""Voxel grids, the k-NN graph and normals against brute force and known surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.neighbours import connected_parts, graph_edges, knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.voxels import choose_voxel, voxel_downsample


@pytest.mark.parametrize("far", [1.0, 1e4])  # a grid with a bit for every cell, and one that is too large for that
def test_voxels_equal_a_loop(far: float) -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (500, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    xyz[7], xyz[9, 1], xyz[11] = np.nan, np.inf, far
    grid = voxel_downsample(xyz, rgb, 0.3)
    cells: dict[tuple[int, ...], list[int]] = {}
    for i in range(500):
        if np.isfinite(xyz[i]).all():
            cells.setdefault(tuple(np.floor(xyz[i] / 0.3).astype(int)), []).append(i)
    assert len(grid.xyz) == len(cells)
    for v, cell in enumerate(sorted(cells)):
        members = cells[cell]
        assert (grid.inverse[members] == v).all() and grid.count[v] == len(members)
        np.testing.assert_allclose(grid.xyz[v], xyz[members].astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(grid.rgb[v], np.round(rgb[members].astype(np.float64).mean(axis=0)))
    assert (grid.inverse[[7, 9]] == -1).all()


def test_voxels_do_not_depend_on_the_point_order() -> None:
    rng = np.random.default_rng(1)
    xyz = rng.uniform(-1, 1, (2000, 3)).astype(np.float32)
    order = rng.permutation(2000)
    a, b = voxel_downsample(xyz, None, 0.2), voxel_downsample(xyz[order], None, 0.2)
    np.testing.assert_allclose(a.xyz, b.xyz, atol=1e-6)
    np.testing.assert_array_equal(a.inverse[order], b.inverse)


def test_voxel_too_small_for_the_extent() -> None:
    with pytest.raises(InputError, match="voxel"):
        voxel_downsample(np.array([[0, 0, 0], [1e6, 1e6, 1e6]], np.float32), None, 1e-4)


@pytest.mark.parametrize(("scale", "count"), [(1.0, 200_000), (50.0, 200_000), (1e-3, 200_000), (1.0, 5000)])
def test_chosen_voxel_meets_the_budget(scale: float, count: int) -> None:
    rng = np.random.default_rng(2)
    xy = rng.uniform(-1, 1, (count, 2))
    xyz = (scale * np.c_[xy, 0.1 * np.sin(5 * xy[:, 0])]).astype(np.float32)
    voxel = choose_voxel(xyz, 10_000)
    filled = len(voxel_downsample(xyz, None, voxel).xyz)
    assert 0.45 < filled / min(10_000, count / 2) < 1.4
    # a nearby frame gets the same grid
    assert choose_voxel(xyz[: int(0.99 * count)] + np.float32(0.001 * scale), 10_000) == voxel


def test_chosen_voxel_of_degenerate_clouds_is_positive() -> None:
    for xyz in (np.zeros((0, 3)), np.zeros((1, 3)), np.ones((50, 3))):
        assert choose_voxel(xyz.astype(np.float32), 1000) > 0


def test_knn_and_edges_equal_brute_force() -> None:
    xyz = np.random.default_rng(3).normal(size=(60, 3)).astype(np.float32)
    distance, index = knn(xyz, 6)
    full = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    np.testing.assert_array_equal(index, np.argsort(full, axis=1)[:, :6])
    np.testing.assert_allclose(distance, np.sort(full, axis=1)[:, :6], atol=1e-6)
    for k in (1, 4, 6, None):
        expected = {tuple(sorted((i, int(j)))) for i in range(60) for j in index[i, 1:k]}
        assert [tuple(edge) for edge in graph_edges(index, k).tolist()] == sorted(expected)


def test_knn_of_fewer_points_than_k() -> None:
    distance, index = knn(np.zeros((1, 3), np.float32), 8)
    assert distance.shape == index.shape == (1, 1)
    assert graph_edges(index).shape == (0, 2)


def test_normals_of_a_plane_and_a_sphere() -> None:
    rng = np.random.default_rng(4)
    flat = np.c_[rng.uniform(-1, 1, (2000, 2)), np.full(2000, 3.0)].astype(np.float32)
    normal, curvature = normals(flat, knn(flat, 12)[1])
    np.testing.assert_allclose(normal, np.tile([0, 0, -1.0], (2000, 1)), atol=1e-4)  # towards the sensor at the origin
    assert curvature.max() < 1e-6
    direction = rng.normal(size=(4000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centre = np.array([100.0, 50.0, 20.0])  # far away: float32 must not cancel
    ball = (centre + direction).astype(np.float32)
    normal, curvature = normals(ball, knn(ball, 12)[1], viewpoint=tuple(centre))
    cosine = -np.einsum("ij,ij->i", normal, direction)
    assert np.quantile(cosine, 0.01) > 0.98
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    assert (curvature >= 0).all() and curvature.max() <= 1 / 3 + 1e-6


@pytest.mark.parametrize("flatness", [1.0, 0.3, 1e-2, 1e-4, 0.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normals_equal_the_eigenvectors_of_lapack(flatness: float, scale: float) -> None:
    rng = np.random.default_rng(5)
    for widths in ((1, 1, flatness), (1, 0.3, 0.3 * flatness), (1, flatness, flatness)):  # balls, disks, blades and needles
        xyz = (scale * (rng.normal(size=(400, 3)) * widths @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + [0, 0, 5])).astype(np.float32)
        _, index = knn(xyz, 12)
        normal, curvature = normals(xyz, index)
        offset = xyz[index].astype(np.float64) - xyz[index].astype(np.float64).mean(axis=1, keepdims=True)
        value, vector = np.linalg.eigh(offset.transpose(0, 2, 1) @ offset)
        np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
        assert (np.einsum("ij,ij->i", normal, -xyz) >= -1e-6 * scale).all()
        np.testing.assert_allclose(curvature, value[:, 0] / value.sum(axis=1), atol=2e-6)
        # float32 rounds the covariance to 1e-6 of its largest value; a gap that small leaves the direction open
        sine = np.linalg.norm(np.cross(normal, vector[:, :, 0]), axis=1)
        assert (sine * (value[:, 1] - value[:, 0]) <= 2e-6 * value[:, 2]).all()


def test_normals_without_a_surface_are_unit_vectors() -> None:
    line = np.c_[np.linspace(1, 2, 50), np.ones((50, 2))].astype(np.float32)
    normal, curvature = normals(line, knn(line, 8)[1])
    np.testing.assert_allclose(normal[:, 0], 0, atol=1e-4)  # across the line
    one_place = np.ones((20, 3), np.float32)
    for found, bend in ((normal, curvature), normals(one_place, knn(one_place, 8)[1]), normals(one_place[:1], knn(one_place[:1], 8)[1])):
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(bend, 0, atol=1e-6)


def test_connected_parts() -> None:
    part = connected_parts(6, np.array([[0, 3], [3, 5], [1, 2]]))
    assert part[0] == part[3] == part[5] and part[1] == part[2] and len(set(part.tolist())) == 3
    assert sorted(connected_parts(3, np.zeros((0, 2), np.int64)).tolist()) == [0, 1, 2]
