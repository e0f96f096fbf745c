"""Superpoints: equal to the textbook algorithm, and the invariants of a pure, complete partition."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.geometry.neighbours import graph_edges, knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.superpoints import SuperpointConfig, edge_concavity, edge_weights, segment_graph, superpoints


def first_occurrence_ids(label: np.ndarray) -> np.ndarray:
    """Renumber labels 0.. in the order in which they first occur."""
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def textbook(count: int, edges: np.ndarray, weight: np.ndarray, scale: float, min_size: int) -> np.ndarray:
    """Felzenszwalb & Huttenlocher, edge by edge, with sets."""
    component = {i: {i} for i in range(count)}
    internal = dict.fromkeys(range(count), 0.0)
    of = list(range(count))

    def join(a: int, b: int) -> int:
        keep, drop = (a, b) if len(component[a]) >= len(component[b]) else (b, a)
        for i in component[drop]:
            of[i] = keep
        component[keep] |= component.pop(drop)
        return keep

    order = np.argsort(weight, kind="stable")
    weight = weight.astype(np.float64)
    for e in order:
        a, b = of[edges[e, 0]], of[edges[e, 1]]
        if a != b and weight[e] <= min(internal[a] + scale / len(component[a]), internal[b] + scale / len(component[b])):
            internal[join(a, b)] = weight[e]
    for e in order:
        a, b = of[edges[e, 0]], of[edges[e, 1]]
        if a != b and min(len(component[a]), len(component[b])) < min_size:
            join(a, b)
    return first_occurrence_ids(np.array(of))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["distinct", "ties", "flat"])
def test_equals_the_textbook(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    count = 1500  # more edges than one block
    xyz = rng.normal(size=(count, 3)).astype(np.float32)
    edges = graph_edges(knn(xyz, 8)[1])
    # regions of different roughness with higher steps between them, so that components of many sizes meet
    region = np.argmin(np.linalg.norm(xyz[:, None] - xyz[None, :10], axis=2), axis=1)
    rough = rng.uniform(0.01, 0.2, 10)[region[edges[:, 0]]] + 0.3 * (region[edges[:, 0]] != region[edges[:, 1]])
    weight = (rough * rng.gamma(2.0, 1.0, len(edges))).astype(np.float32)
    if kind == "ties":
        weight = np.round(weight, 2).astype(np.float32)
    elif kind == "flat":  # every other region is a plane without colour: all its edges weigh nothing
        weight[(region[edges[:, 0]] == region[edges[:, 1]]) & (region[edges[:, 0]] % 2 == 0)] = 0
    scale, min_size = [(0.1, 1), (0.5, 3), (1.0, 8)][seed % 3]
    found = segment_graph(count, edges, weight, scale, min_size)
    np.testing.assert_array_equal(found, textbook(count, edges, weight, scale, min_size))
    assert 1 < found.max() + 1 < count


def test_edges_outside_the_spanning_tree_matter() -> None:
    """Why the segmentation is not run on the minimum spanning tree alone: 3 and 4 meet only over a heavier edge."""
    edges = np.array([[0, 1], [1, 2], [0, 2], [2, 3], [2, 4], [3, 4]])
    weight = np.array([0.0, 0.0, 0.0, 0.5, 0.6, 0.7], np.float32)
    assert segment_graph(5, edges, weight, 0.8, 1).tolist() == [0, 0, 0, 1, 1]


def bent_sheet(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floor and wall, random points with unit normals: (xyz, normal, side of each point)."""
    rng = np.random.default_rng(seed)
    floor = np.c_[rng.uniform(-1, 1, 1500), rng.uniform(0, 1, 1500), np.zeros(1500)]
    wall = np.c_[rng.uniform(-1, 1, 1500), np.ones(1500), rng.uniform(0, 1, 1500)]
    xyz = np.r_[floor, wall].astype(np.float32) + np.float32([0, 0, -1])
    _, index = knn(xyz, 12)
    normal, _ = normals(xyz, index)
    return xyz, normal, np.repeat([0, 1], 1500)


def graph(xyz: np.ndarray) -> np.ndarray:
    return graph_edges(knn(xyz, 9)[1])


def test_concave_and_convex_edges() -> None:
    xyz = np.array([[0, 0, 0], [1, 0, 0]], np.float32)
    lean = np.float32(np.sqrt(0.5))
    away = np.array([[-lean, 0, lean], [lean, 0, lean]], np.float32)  # normals diverge: a roof
    edges = np.array([[0, 1]])
    for normal, sign in ((away, 1), (away[::-1], -1)):
        bend, side = edge_concavity(xyz, normal, edges)
        assert bend[0] == pytest.approx(1) and side[0] == pytest.approx(sign * np.sqrt(2))
        assert edge_concavity(xyz[::-1], normal[::-1], edges)[1][0] == pytest.approx(side[0])  # direction of the edge is immaterial
    slight = np.array([[0, 0, 1], [0.1, 0, np.sqrt(0.99)]], np.float32)
    free = np.array([-1, -1])
    convex = edge_weights(xyz, slight, None, free, edges, 0.0)[0]
    concave = edge_weights(xyz, slight[::-1], None, free, edges, 0.0)[0]
    assert convex == pytest.approx(concave**2, rel=1e-3)
    black_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    assert edge_weights(xyz, slight, black_white, free, edges, 0.5)[0] == pytest.approx(convex + 0.5, rel=1e-3)
    assert edge_weights(xyz, away[::-1], None, free + 1, edges, 0.0)[0] == 0  # both on one plane


def test_a_concave_crease_parts_floor_and_wall() -> None:
    xyz, normal, side = bent_sheet()
    found = superpoints(xyz, normal, None, np.full(3000, -1), graph(xyz), SuperpointConfig(scale=0.5, min_size=30))
    away_from_crease = np.abs(xyz[:, 1] - 1) + np.abs(xyz[:, 2] + 1) > 0.15
    for part in np.unique(found[away_from_crease]):
        members = side[(found == part) & away_from_crease]
        assert members.min() == members.max()
    largest = [np.bincount(found[side == s]).max() for s in (0, 1)]
    assert min(largest) > 1000


def test_invariants() -> None:
    xyz, normal, _ = bent_sheet(1)
    rgb = np.random.default_rng(0).integers(0, 256, (3000, 3), dtype=np.uint8)
    plane = np.full(3000, -1)
    config = SuperpointConfig(scale=0.2, min_size=25)
    edges = graph(xyz)
    found = superpoints(xyz, normal, rgb, plane, edges, config)
    assert found.shape == (3000,) and found.min() == 0  # every point has one
    sizes = np.bincount(found)
    assert (sizes > 0).all() and sizes.min() >= 25  # ids are consecutive; the graph is connected, so no small set is left
    np.testing.assert_array_equal(found, superpoints(xyz.copy(), normal.copy(), rgb.copy(), plane, edges.copy(), config))  # deterministic
    # a quarter turn about up maps x -> y, y -> -x, exactly in floating point
    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
    turned = superpoints(xyz @ quarter.T, normal @ quarter.T, rgb, plane, edges, config)
    np.testing.assert_array_equal(first_occurrence_ids(turned), first_occurrence_ids(found))


def test_no_superpoint_crosses_a_plane_border() -> None:
    xyz, _, side = bent_sheet(2)
    flat = np.tile(np.float32([0, 0, 1]), (3000, 1))  # nothing else would part them
    plane = np.where(side == 1, 0, -1)
    found = superpoints(xyz, flat, None, plane, graph(xyz))
    for part in range(found.max() + 1):
        assert len(np.unique(plane[found == part])) == 1
    assert (superpoints(xyz, flat, None, np.full(3000, -1), graph(xyz)) == 0).all()


def test_without_edges_every_point_is_its_own() -> None:
    assert segment_graph(4, np.zeros((0, 2), np.int64), np.zeros(0, np.float32), 1.0, 5).tolist() == [0, 1, 2, 3]
    assert segment_graph(0, np.zeros((0, 2), np.int64), np.zeros(0, np.float32), 1.0, 5).tolist() == []
