"""Meshes made fit for distances; distances against the exact algorithm; signatures that forget the pose."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from geoseg_ros.errors import InputError
from geoseg_ros.geometry import geodesics as module
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.geodesics import Geodesics, bicyclic_error
from geoseg_ros.geometry.meshes import Mesh, clean, decimate, even, sample_surface
from geoseg_ros.geometry.signatures import signatures


def mesh_of(solid: trimesh.Trimesh, colour=None) -> Mesh:
    return Mesh(np.array(solid.vertices, np.float32), np.array(solid.faces, np.int64), colour)


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return mesh_of(trimesh.creation.torus(0.3, 0.1, major_sections=36, minor_sections=16))


def test_exact_distances_are_the_oracle(torus):
    exact = pytest.importorskip("pygeodesic.geodesic", reason="oracle of distances").PyGeodesicAlgorithmExact(torus.vertices, torus.faces)
    sources = np.array([0, 200])
    truth = np.stack([exact.geodesicDistances(np.array([s]), None)[0] for s in sources])
    heat, paths = (Geodesics(torus, backend).distances(sources) for backend in ("heat", "dijkstra"))
    cloud = Geodesics(Cloud(torus.vertices)).distances(sources)
    size = torus.diagonal
    assert np.abs(heat - truth).mean() < 0.025 * size and np.abs(heat - truth).max() < 0.06 * size
    assert (paths >= truth - 1e-4).all() and (paths - truth).mean() < 0.08 * size
    assert np.abs(cloud - truth).mean() < 0.03 * size


@pytest.mark.parametrize("backend", ["heat", "dijkstra"])
def test_parts_that_are_not_connected_are_infinitely_far(torus, backend):
    two = Mesh(np.concatenate([torus.vertices, torus.vertices + 5]), np.concatenate([torus.faces, torus.faces + len(torus)]))
    found = Geodesics(two, backend).distances(np.array([3, len(torus) + 3]))
    assert np.isinf(found[0, len(torus) :]).all() and np.isinf(found[1, : len(torus)]).all()
    np.testing.assert_allclose(found[0, : len(torus)], found[1, len(torus) :], atol=8e-3)
    assert found[0, 3] == 0


def test_without_potpourri_paths_along_edges(torus, monkeypatch):
    monkeypatch.setattr(module, "_potpourri", lambda: None)
    assert Geodesics(torus).backend == "dijkstra"
    with pytest.raises(InputError, match="potpourri3d"):
        Geodesics(torus, "heat")


def test_bicyclic_error_is_zero_for_the_identity_and_the_mean_of_both_ways(torus):
    surface = Geodesics(torus, "dijkstra")
    same, pairs = np.arange(len(torus)), np.array([[0, 0], [5, 5], [5, 77]])
    error = bicyclic_error(surface, surface, pairs, same, same)
    assert error[0] == error[1] == 0
    assert error[2] == pytest.approx(surface.between(np.array([5]), np.array([77]))[0] / torus.diagonal)
    moved = same.copy()
    moved[0] = 9
    assert bicyclic_error(surface, surface, pairs[:1], moved, same)[0] == pytest.approx(
        surface.between(np.array([0]), np.array([9]))[0] / torus.diagonal / 2
    )


def test_cleaning_leaves_one_surface(torus):
    crumb = trimesh.creation.icosphere(1, 0.002)
    vertices = np.concatenate([torus.vertices, [[np.nan, 0, 0]], np.array(crumb.vertices) + 1]).astype(np.float32)
    faces = np.concatenate([torus.faces, [[0, 1, len(torus)], [2, 2, 3]], np.array(crumb.faces) + len(torus) + 1])
    found = clean(Mesh(vertices, faces))
    assert len(found) == len(torus) and len(found.faces) == len(torus.faces) and found.components().max() == 0
    apart = torus.vertices[torus.faces].reshape(-1, 3)  # three own vertices for every face, as STL-like files have
    assert len(clean(Mesh(apart, np.arange(len(apart)).reshape(-1, 3)))) == len(torus)


def test_too_little_and_too_much_surface(torus, monkeypatch):
    with pytest.raises(InputError, match="object: 10 usable faces, expected at least 20"):
        clean(torus.select(np.arange(len(torus.faces)) < 10), name="object")
    monkeypatch.setattr("geoseg_ros.geometry.meshes.MOST_FACES", 1000)
    with pytest.raises(InputError, match="1152 faces, expected at most 1000"):
        clean(torus)


def test_thinning_keeps_the_shape_and_its_colours(monkeypatch):
    solid = trimesh.creation.icosphere(4)
    colour = np.where(np.array(solid.vertices)[:, 2:] > 0, [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    for most in (300_000, 2000):  # by edges alone, and on a grid first
        monkeypatch.setattr("geoseg_ros.geometry.meshes._GRID_FIRST", most)
        thin = decimate(mesh_of(solid, colour), 600)
        assert 300 < len(thin.faces) <= 600
        assert np.abs(np.linalg.norm(thin.vertices, axis=1) - 1).max() < 0.08
        upper = thin.vertices[:, 2] > 0.3
        assert (thin.colour[upper, 0] > 200).all() and (thin.colour[upper, 2] < 50).all()


def test_samples_lie_evenly_on_the_surface(torus):
    points, face, weights = sample_surface(torus, 4000, seed=1)
    np.testing.assert_allclose(np.einsum("nk,nkc->nc", weights, torus.vertices[torus.faces[face]]), points, atol=1e-6)
    area = torus.face_normals()[1]
    outer = torus.vertices[torus.faces].mean(axis=1)
    outer = np.hypot(outer[:, 0], outer[:, 1]) > 0.3
    assert np.isin(face, np.flatnonzero(outer)).mean() == pytest.approx(area[outer].sum() / area.sum(), abs=0.02)
    with pytest.raises(InputError, match="no surface"):
        sample_surface(Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]])), 5)


def test_signatures_forget_pose_and_size_and_know_ends_from_middles():
    rod = trimesh.creation.capsule(1.0, 0.15, count=[16, 24]).subdivide()
    mesh = mesh_of(rod)
    turned = rod.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(1.0, (1, 2, 3)))
    turned.apply_scale(2.5)
    first, second = signatures(mesh), signatures(mesh_of(turned))
    assert np.median((first * second).sum(axis=1)) > 0.95
    along = np.array(rod.vertices)[:, 2]
    end, middle = np.argmax(along), np.argmin(np.abs(along - np.median(along)))
    other = np.argmin(along)
    assert first[end] @ first[other] > 0.9 > first[end] @ first[middle]


def test_even_vertices_on_uneven_triangles():
    box = mesh_of(trimesh.creation.box((1.0, 0.5, 0.25)), np.tile(np.array([[10, 20, 30]], np.uint8), (8, 1)))
    found = even(box, 500)
    assert 350 < len(found) < 700 and found.components().max() == 0 and (found.colour == [10, 20, 30]).all()
    middles = sample_surface(box, 500)[0]
    assert np.linalg.norm(middles[:, None] - found.vertices, axis=2).min(axis=1).max() < 0.1
