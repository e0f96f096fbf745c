"""Correspondences between simulated instances are exact, and tell left from right."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.parts.world import make_pair, seen_at, take_shot
from geoseg_ros.geometry.iso_surface import iso_surface
from geoseg_ros.geometry.meshes import sample_surface
from geoseg_ros.simulation.part_truth import FRONTED, corresponding, make_object, signed_distance
from geoseg_ros.simulation.shapes import LEG


@pytest.fixture(scope="module")
def bag():
    return make_object("bag", 1)


def on_surface(obj, count=400):
    return sample_surface(obj.surface(900), count)[0].astype(np.float64)


def test_iso_surface_is_closed_and_turned_outwards():
    axis = np.linspace(-1, 1, 24)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    mesh = iso_surface(np.linalg.norm(grid, axis=-1) - 0.7, (-1, -1, -1), axis[1] - axis[0])
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.7).max() < 0.01
    assert ((mesh.vertices * mesh.normals()).sum(axis=1) > 0.6).all()


@pytest.mark.parametrize("family", FRONTED)
def test_distances_to_solids(family):
    solids = make_object(family, 4).solids
    rng = np.random.default_rng(0)
    for k in range(len(solids)):
        inside = signed_distance(solids, k, solids.centre[k : k + 1])[0]
        far = signed_distance(solids, k, solids.centre[k : k + 1] + 10 * rng.normal(size=(1, 3)))[0]
        assert inside < 0 < far


def test_a_place_comes_back_to_itself_and_lies_on_the_other(bag):
    other = make_object("bag", 2)
    places = on_surface(bag)
    found = corresponding(bag, other, places)
    known = np.isfinite(found).all(axis=1)
    assert known.mean() > 0.8
    distance = np.min([np.abs(signed_distance(other.solids, k, found[known])) for k in range(len(other.solids))], axis=0)
    assert np.quantile(distance, 0.9) < 0.01
    back = corresponding(other, bag, found[known])
    same = np.isfinite(back).all(axis=1)
    assert same.mean() > 0.9
    np.testing.assert_allclose(back[same], places[known][same], atol=1e-6)


def test_left_stays_left_and_front_stays_front():
    one, two = make_object("bed", 1), make_object("bed", 3)
    legs = [k for k in range(len(one.solids)) if one.solids.part[k] == LEG]
    assert len({one.keys[k] for k in legs}) == len(legs) == 4
    centres = one.solids.centre[legs] + one.solids.rotation[legs][:, :, 0] * one.solids.size[legs][:, :1]
    found = corresponding(one, two, centres)
    known = np.isfinite(found).all(axis=1)
    assert known.any()
    np.testing.assert_array_equal(np.sign(found[known, :2]), np.sign(centres[known, :2]))


def test_what_cannot_be_told_apart_corresponds_to_nothing():
    case = make_object("bookcase", 0)
    books = [k for k, key in enumerate(case.keys) if key is None]
    assert books
    assert np.isnan(corresponding(case, make_object("bookcase", 1), case.solids.centre[books[:1]])).all()
    star = make_object("office_chair", 0)
    assert sum(key is None for key in star.keys) == 10  # five arms with castors, which stand at any angle
    with pytest.raises(InputError, match="family mug"):
        make_object("mug", 0)


def test_pairs_show_the_same_places(bag):
    rng = np.random.default_rng(1)
    source, target = take_shot(bag, rng, 160), take_shot(make_object("bag", 2), rng, 160)
    for shot in (source, target):
        rows = np.argwhere(shot.mask)[::50]
        places = shot.xyz[rows[:, 0], rows[:, 1]]
        np.testing.assert_allclose(shot.camera.project(places)[0], rows[:, ::-1], atol=0.1)
        assert 0.5 < shot.extent / 160 < 0.95
        assert np.isfinite(seen_at(shot, places)).all() and np.isnan(seen_at(shot, places + [0, 0, 5])).all()
    pair = make_pair(source, target, rng, 15)
    assert len(pair.source_at) == len(pair.target_at) == 15
    at = pair.source_at.astype(int)
    true = corresponding(source.object, target.object, source.xyz[at[:, 1], at[:, 0]])
    np.testing.assert_allclose(target.camera.project(true)[0], pair.target_at)
    mirrored = np.isfinite(pair.mirror_at).all(axis=1)
    assert mirrored.any()
