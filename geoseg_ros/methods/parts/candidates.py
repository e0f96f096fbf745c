"""Pseudo labels between two pictures: candidates, filters, and the cap per region (3D-SC).

The geodesic filter is the paper's; the others are what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.geodesics import bicyclic_error
from geoseg_ros.geometry.sampling import farthest_points
from geoseg_ros.methods.parts.descriptors import fuse
from geoseg_ros.methods.parts.matching import nearest
from geoseg_ros.methods.parts.views import ObjectView

Floats = NDArray[np.floating]
Filter = Callable[[ObjectView, ObjectView, NDArray[np.int64]], NDArray[np.float64]]
"""Error [K], the larger the worse, of candidates int64 [K, 2]: rows of the cells of two views."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of cells of two views. Attributes: pairs: int64 [K, 2], rows of ``ThingView.cell``. score: float32 [K], cosine."""

    pairs: NDArray[np.int64]
    score: NDArray[np.float32]

    def select(self, kept: NDArray) -> Candidates:
        """Those of ``kept``, bool [K] or rows."""
        return Candidates(self.pairs[kept], self.score[kept])


def candidates(source: ObjectView, target: ObjectView, descriptor_weight: float = 1 / 3, cycle: float | None = 0.05) -> Candidates:
    """The most similar cell of the target for every cell of the source.

    Args:
        descriptor_weight: of the descriptors of the surface beside the tokens, 0 to 1.
        cycle: largest distance to where the way back ends, as a share of the source's extent; None: not checked.
    """
    first, second = (_features(view, descriptor_weight) for view in (source, target))
    there, score = nearest(first, second)
    pairs = np.stack([np.arange(len(first)), there], axis=1)
    if cycle is None:
        return Candidates(pairs, score)
    back = nearest(second, first)[0][there]
    apart = np.linalg.norm(source.cell[back] - source.cell[pairs[:, 0]], axis=1)
    return Candidates(pairs, score).select(apart < cycle * source.extent)


def geodesic_error(source: ObjectView, target: ObjectView, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bicyclic geodesic error: where the descriptors of the surface alone lead, against the candidate."""
    vertices = np.stack([source.vertex[pairs[:, 0]], target.vertex[pairs[:, 1]]], axis=1)
    a, b = source.surface, target.surface
    forward, backward = np.full(len(a.mesh), -1, np.int64), np.full(len(b.mesh), -1, np.int64)
    used_a, used_b = np.unique(vertices[:, 0]), np.unique(vertices[:, 1])
    forward[used_a] = nearest(a.descriptors[used_a], b.descriptors)[0]
    backward[used_b] = nearest(b.descriptors[used_b], a.descriptors)[0]
    return bicyclic_error(a.geodesics, b.geodesics, vertices, forward, backward)


def spherical_error(source: ObjectView, target: ObjectView, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Angle (radians) between the directions from the middle of each object, in the frame that both stand in."""
    a, b = (_unit(_boxed(view)[rows]) for view, rows in zip((source, target), pairs.T, strict=True))
    return np.arccos(np.clip((a * b).sum(axis=1), -1, 1))


def triplane_error(source: ObjectView, target: ObjectView, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest distance on the three coordinate planes, in half sizes of the boxes around the objects."""
    apart = _boxed(source)[pairs[:, 0]] - _boxed(target)[pairs[:, 1]]
    planes = [np.linalg.norm(np.delete(apart, axis, axis=1), axis=1) for axis in range(3)]
    return np.max(planes, axis=0)


def similarity_error(source: ObjectView, target: ObjectView, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 - cosine of the descriptors of the surface."""
    return 1 - (source.descriptor[pairs[:, 0]] * target.descriptor[pairs[:, 1]]).sum(axis=1).astype(np.float64)


FILTERS: dict[str, Filter] = {
    "spherical": spherical_error,
    "triplane": triplane_error,
    "feature similarity": similarity_error,
    "geodesic": geodesic_error,
}


def capped(view: ObjectView, found: Candidates, regions: int = 48, most: int = 30, seed: int = 0) -> Candidates:
    """At most ``most`` candidates from each of ``regions`` regions of the source, so that large faces do not outweigh small parts."""
    points = view.surface.mesh.vertices
    centres = points[farthest_points(points, min(regions, len(points)))]
    at = points[view.vertex[found.pairs[:, 0]]]
    region = np.linalg.norm(at[:, None] - centres, axis=2).argmin(axis=1) if len(at) else np.zeros(0, np.int64)
    order = np.random.default_rng(seed).permutation(len(at))
    kept = np.zeros(len(at), bool)
    for k in np.unique(region):
        kept[order[region[order] == k][:most]] = True
    return found.select(kept)


def chained(steps: Sequence[Candidates]) -> Candidates:
    """Candidates from the first view of a chain to its last (DIY-SC): those that every step carries on, with their lowest score.

    Args:
        steps: from each view to the next, in an order in which neighbours look alike, such as that of time; at least one.
    """
    found = steps[0]
    for step in steps[1:]:
        order = np.argsort(step.pairs[:, 0], kind="stable")
        starts = step.pairs[order, 0]
        place = np.searchsorted(starts, found.pairs[:, 1])
        goes_on = place < len(starts)
        goes_on[goes_on] = starts[place[goes_on]] == found.pairs[goes_on, 1]
        row = order[place[goes_on]]
        pairs = np.stack([found.pairs[goes_on, 0], step.pairs[row, 1]], axis=1)
        found = Candidates(pairs, np.minimum(found.score[goes_on], step.score[row]))
    return found


def _features(view: ObjectView, weight: float) -> Floats:
    if not 0 < weight < 1:
        return view.token if weight <= 0 else view.descriptor
    return fuse([view.token, view.descriptor], [1 - weight, weight])


def _boxed(view: ObjectView) -> Floats:
    """Places [n, 3] of the cells in the box around the object, -1 to 1."""
    points = view.surface.mesh.vertices.astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return ((points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-9))[view.vertex]


def _unit(values: Floats) -> Floats:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
