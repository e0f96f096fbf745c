"""Ray casting against analytic distances and against marching along the ray."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from geoseg_ros.simulation.families import FURNITURE, NAMES
from geoseg_ros.simulation.raycast import Hits, RayCaster
from geoseg_ros.simulation.solids import BOX, ELLIPSOID, FRUSTUM, QUAD, Builder, Solids, axis_matrix, concatenate, yaw_matrix


def one(kind: int, size: tuple[float, float, float], centre=(0.0, 0.0, 0.0), rotation=None) -> Solids:
    b = Builder()
    b.add(kind, 0, 0, centre, size, rotation)
    return b.solids(family=1, instance=1)


def unit(rows) -> np.ndarray:
    d = np.atleast_2d(np.asarray(rows, np.float32))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def inside(solids: Solids, p: int, x: np.ndarray, shrink: float = 0.0) -> np.ndarray:
    """Is x [N, 3] inside solid p, made smaller by ``shrink``? Written from the definitions, in float64."""
    q = (x - solids.centre[p].astype(float)) @ solids.rotation[p].astype(float)
    a, b, c = (float(v) for v in solids.size[p])
    if solids.kind[p] == BOX:
        return (np.abs(q) <= np.array([a, b, c]) - shrink).all(axis=1)
    if solids.kind[p] == ELLIPSOID:
        return ((q / (np.array([a, b, c]) - shrink)) ** 2).sum(axis=1) <= 1 if min(a, b, c) > shrink else np.zeros(len(q), bool)
    radius = a + (b - a) * (q[:, 2] + c) / (2 * c)
    return (np.abs(q[:, 2]) <= c - shrink) & (np.hypot(q[:, 0], q[:, 1]) <= radius - shrink)


@pytest.mark.parametrize(
    ("solids", "direction", "distance", "normal"),
    [
        (one(BOX, (1, 2, 3), (5, 0, 0)), (1, 0, 0), 4.0, (-1, 0, 0)),
        (one(BOX, (1, 1, 1), (5, 0, 0), yaw_matrix(np.pi / 4)), (1, 0, 0), 5 - 2**0.5, None),
        (one(ELLIPSOID, (1, 2, 3), (0, 5, 0)), (0, 1, 0), 3.0, (0, -1, 0)),
        (one(FRUSTUM, (0.5, 0.5, 1), (3, 0, 0)), (1, 0, 0), 2.5, (-1, 0, 0)),
        (one(FRUSTUM, (0.5, 0.5, 1), (0, 0, -4)), (0, 0, -1), 3.0, (0, 0, 1)),
        (one(FRUSTUM, (1, 0, 1), (3, 0, 0)), (1, 0, 0), 2.5, (-2 / 5**0.5, 0, 1 / 5**0.5)),
        (one(FRUSTUM, (0.2, 0.2, 2), (3, 0, 0), axis_matrix((0, 1, 0))), (1, 0, 0), 2.8, (-1, 0, 0)),
        (one(QUAD, (2, 1, 0), (0, 0, -2)), (0.6, 0, -0.8), 2.5, None),
        (one(QUAD, (1, 1, 0), (0, 0, -2)), (0, 0, -1), 2.0, (0, 0, 1)),
        (one(QUAD, (1, 1, 0), (2, 0, 0), axis_matrix((1, 0, 0))), (1, 0, 0), 2.0, (-1, 0, 0)),
        (one(BOX, (2, 2, 2)), (1, 0, 0), 2.0, (-1, 0, 0)),  # from within
    ],
)
def test_analytic(solids, direction, distance, normal):
    hits = RayCaster(solids).cast((0, 0, 0), unit(direction))
    assert hits.solid[0] == 0
    assert hits.range[0] == pytest.approx(distance, abs=1e-5)
    if normal is not None:
        np.testing.assert_allclose(hits.normal[0], normal, atol=1e-5)


@pytest.mark.parametrize("kind", [BOX, FRUSTUM, ELLIPSOID, QUAD])
def test_misses(kind):
    solids = one(kind, (0.5, 0.5, 0.5), (5, 0, 0))
    hits = RayCaster(solids).cast((0, 0, 0.2), unit([(-1, 0, 0), (0, 1, 0), (1, 0.2, 0.5), (0, 0, 1)]))
    assert (hits.solid == -1).all() and np.isinf(hits.range).all()
    assert (hits.normal == 0).all() and (hits.local == 0).all()


def test_thin_rod_far_away():
    rod = one(FRUSTUM, (0.005, 0.005, 1), (20, 0, 0))
    offsets = np.linspace(-0.0049, 0.0049, 21)
    hits = RayCaster(rod).cast((0, 0, 0), unit(np.stack([np.full(21, 20.0), offsets, np.zeros(21)], axis=1)))
    assert (hits.solid == 0).all()
    np.testing.assert_allclose(hits.range, 20 - np.sqrt(0.005**2 - offsets**2), atol=3e-4)


def test_furniture_against_marching():
    """Nothing lies before a hit, the hit is on the surface of its solid, and rays that miss everything pass through nothing."""
    rng = np.random.default_rng(3)
    shapes = []
    for k, name in enumerate(NAMES):
        place = (1.6 * (k % 5) - 3.2, 1.6 * (k // 5) - 3.2, 0)
        shape = FURNITURE.solids(name, k).moved(yaw_matrix(rng.uniform(0, 6)), place)
        shape.instance[:] = k + 1
        shapes.append(shape)
    solids = concatenate(shapes)
    origin = np.array([0.4, 0.3, 2.6], np.float32)
    rays = unit(rng.normal(size=(800, 3)) - (0, 0, 1.2))
    hits = RayCaster(solids).cast(origin, rays)
    assert 0.2 < np.mean(hits.solid >= 0) < 0.95
    found = np.flatnonzero(hits.solid >= 0)
    np.testing.assert_allclose(np.linalg.norm(hits.normal[found], axis=1), 1, atol=1e-4)
    assert (np.einsum("ni,ni->n", hits.normal[found], rays[found]) <= 1e-6).all()
    point = origin + rays * np.where(np.isfinite(hits.range), hits.range, 0)[:, None]
    for p in range(len(solids)):
        own = found[hits.solid[found] == p]
        assert not inside(solids, p, point[own].astype(float), shrink=1e-3).any()
        world = hits.local[own] @ solids.rotation[p].T + solids.centre[p]
        np.testing.assert_allclose(world, point[own], atol=1e-4)
    steps = np.linspace(0, 1, 160)[1:-1]
    reach = np.where(np.isfinite(hits.range), hits.range - 2e-3, 9.0)
    samples = (origin + rays[:, None].astype(float) * (reach[:, None, None] * steps[:, None])).reshape(-1, 3)
    for p in range(len(solids)):
        near = np.linalg.norm(samples - solids.centre[p], axis=1) < solids.radius()[p]
        assert not inside(solids, p, samples[near], shrink=1e-4).any()


def test_solids_do_not_change_each_other():
    rng = np.random.default_rng(5)
    shapes = []
    for k in range(12):
        shape = FURNITURE.solids(NAMES[k], k).moved(yaw_matrix(k), rng.uniform(-3, 3, 3))
        shape.instance[:] = 1 + k % 4
        shapes.append(shape)
    solids = concatenate(shapes)
    rays = unit(rng.normal(size=(4000, 3)))
    together = RayCaster(solids).cast((0, 0, 0), rays)
    alone = np.stack([RayCaster(solids.select(np.arange(len(solids)) == p)).cast((0, 0, 0), rays).range for p in range(len(solids))])
    np.testing.assert_array_equal(together.range, alone.min(axis=0))
    hit = together.solid >= 0
    np.testing.assert_array_equal(alone[together.solid[hit], np.flatnonzero(hit)], together.range[hit])
    np.testing.assert_array_equal(RayCaster(solids).first_solid((0, 0, 0), rays), together.solid)


def test_what_stands_behind_the_target_does_not_block():
    caster = RayCaster(one(BOX, (1, 1, 1), (5, 0, 0)))
    targets = np.array([[3.9, 0, 0], [4.001, 0, 0], [4.1, 0, 0], [0.003, 0, 0], [0, 0, 0]], np.float32)
    np.testing.assert_array_equal(caster.blocked((0, 0, 0), targets), [False, False, True, False, False])


def test_number_of_threads_changes_no_byte():
    """Every hit counts, those on shared edges and on faces that coincide too."""
    rng = np.random.default_rng(6)
    shapes = [FURNITURE.solids(name, k) for k, name in enumerate(("bookcase", "sofa", "plant", "chair"))]
    solids = concatenate([*shapes, shapes[0]])  # the bookcase stands there twice
    rays = np.concatenate([unit(rng.normal(size=(20_000, 3))), unit(np.round(rng.normal(size=(2000, 3)), 1) + 1e-3)])
    found = []
    for threads in (1, 2, 4):
        caster = RayCaster(solids, threads=threads)
        hits = caster.cast((1.5, 0.0, 0.5), rays)
        found.append([getattr(hits, f.name).tobytes() for f in fields(Hits)] + [caster.blocked((1.5, 0, 0.5), rays * 2).tobytes()])
    assert found[0] == found[1] == found[2]
