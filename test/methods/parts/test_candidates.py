"""Candidates between two pictures, each filter, and the cap."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.parts.world import take_shot
from geoseg_ros.geometry.geodesics import Geodesics
from geoseg_ros.methods.parts.candidates import FILTERS, Candidates, candidates, capped, chained, geodesic_error
from geoseg_ros.methods.parts.descriptors import place_descriptors
from geoseg_ros.methods.parts.views import GRID, Surface, rasterise, view_of
from geoseg_ros.simulation.part_truth import make_object


@pytest.fixture(scope="module")
def views(fake_backbone):
    """Two pictures of one object, whose places are described exactly."""
    obj = make_object("toilet", 0)
    mesh = obj.surface(900)
    surface = Surface(mesh, Geodesics(mesh, "dijkstra"), place_descriptors(mesh.vertices))
    shots = [take_shot(obj, np.random.default_rng(k), 240, yaw=yaw) for k, yaw in enumerate((-0.3, 0.3))]
    return shots, [view_of(s.image, s.mask, s.camera, surface, fake_backbone, side=240) for s in shots]


def test_cells_show_the_vertex_that_is_there(views):
    for shot, view in zip(*views, strict=True):
        pixel = ((view.cell + 0.5) * 240 / GRID).astype(int)
        true = shot.xyz[pixel[:, 0], pixel[:, 1]]
        apart = np.linalg.norm(view.surface.mesh.vertices[view.vertex] - true, axis=1)
        assert np.nanquantile(apart, 0.9) < 0.06 * shot.object.diagonal
        np.testing.assert_allclose(np.linalg.norm(view.token, axis=1), 1, rtol=1e-4)


def test_good_descriptors_give_right_candidates_that_pass_every_filter(views):
    shots, (first, second) = views
    found = candidates(first, second, descriptor_weight=1.0)
    assert len(found.pairs) > 100
    places = [v.surface.mesh.vertices[v.vertex[rows]] for v, rows in zip((first, second), found.pairs.T, strict=True)]
    assert np.quantile(np.linalg.norm(places[0] - places[1], axis=1), 0.9) < 0.1 * shots[0].object.diagonal
    for error in FILTERS.values():
        values = error(first, second, found.pairs)
        assert values.shape == (len(found.pairs),) and values.min() >= -1e-6
    assert (geodesic_error(first, second, found.pairs) <= 0.05).mean() > 0.9


def test_wrong_candidates_fail_every_filter(views):
    _, (first, second) = views
    found = candidates(first, second, descriptor_weight=1.0)
    wrong = found.pairs.copy()
    height = second.surface.mesh.vertices[second.vertex, 2]
    low = first.surface.mesh.vertices[first.vertex[wrong[:, 0]], 2] < np.median(height)
    wrong[:, 1] = np.where(low, height.argmax(), height.argmin())
    for name, error in FILTERS.items():
        assert np.median(error(first, second, wrong)) > 2 * np.quantile(error(first, second, found.pairs), 0.9), name


def test_the_way_back_refuses_and_can_be_left_out(views):
    _, (first, second) = views
    every = candidates(first, second, 0.0, cycle=None)
    assert len(every.pairs) == len(first.cell) > len(candidates(first, second, 0.0, cycle=0.05).pairs)


def test_the_cap_leaves_small_parts_their_share(views):
    view = views[1][0]
    rows = np.arange(len(view.cell))
    found = Candidates(np.stack([rows, rows], axis=1), np.ones(len(rows), np.float32))
    kept = capped(view, found, regions=8, most=5)
    assert 8 < len(kept.pairs) <= 40
    assert len(capped(view, found.select(np.zeros(len(rows), bool))).pairs) == 0


def test_pictures_that_do_not_fit(views):
    shot, view = views[0][0], views[1][0]
    with pytest.raises(InputError, match="square"):
        view_of(shot.image[:100], shot.mask[:100], shot.camera, view.surface, None)
    with pytest.raises(InputError, match="does not show the surface"):
        rasterise(view.surface.mesh, shot.camera, np.zeros((GRID, GRID), bool))


def test_chains_keep_what_every_step_carries_on():
    def step(pairs, score):
        return Candidates(np.array(pairs, np.int64).reshape(-1, 2), np.array(score, np.float32))

    first, second = step([[0, 5], [1, 6], [2, 9], [3, 5]], [0.9, 0.8, 0.7, 0.6]), step([[6, 1], [5, 4], [7, 7]], [0.5, 0.95, 1])
    found = chained([first, second])
    assert found.pairs.tolist() == [[0, 4], [1, 1], [3, 4]]
    np.testing.assert_allclose(found.score, [0.9, 0.5, 0.6])
    assert chained([first]) is first and len(chained([first, step([], [])]).pairs) == 0
