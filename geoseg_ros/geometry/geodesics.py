"""Distances along a surface, from chosen vertices of a mesh or points of a cloud.

By the heat method (Crane et al. 2013; Sharp & Crane 2020 for surfaces that are not manifold and for clouds) with potpourri3d, else by
Dijkstra's shortest paths along edges, which are longer than the surface's own by some percent.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.meshes import Mesh
from geoseg_ros.geometry.neighbours import connected_parts, graph_edges, knn

Backend = Literal["auto", "heat", "dijkstra"]
_NEIGHBOURS = 10  # of a point in the graph of a cloud, itself included
_FAR = 4.0  # edges of that graph longer than so many times the usual distance bridge a gap and are left out
_LEAST = 10  # points of a connected part that the heat method is used for


class Geodesics:
    """Distances on one surface. Parts of it that are not connected are infinitely far apart.

    Attributes:
        points: float64 [V, 3].
        diagonal: of the bounding box.
        part: int64 [V], the connected part of each point.
        backend: "heat" or "dijkstra", what is used.
    """

    def __init__(self, shape: Mesh | Cloud | NDArray[np.floating], backend: Backend = "auto") -> None:
        """Args: shape: a mesh, or a cloud of points that are all finite. backend: "auto": heat where potpourri3d is there.

        Raises:
            InputError: no points, points that are not finite, or "heat" without potpourri3d.
        """
        mesh = shape if isinstance(shape, Mesh) else None
        points = shape.vertices if isinstance(shape, Mesh) else shape.xyz if isinstance(shape, Cloud) else shape
        self.points: NDArray[np.float64] = np.ascontiguousarray(points, np.float64)
        if not len(self.points) or not np.isfinite(self.points).all():
            raise InputError("geodesics: expected points that are all finite")
        self.diagonal = float(np.linalg.norm(self.points.max(axis=0) - self.points.min(axis=0)))
        self._faces = None if mesh is None else mesh.faces
        self._edges = _mesh_edges(mesh) if mesh is not None else _cloud_edges(self.points)
        self.part = connected_parts(len(self.points), self._edges)
        heat = _potpourri() if backend != "dijkstra" else None
        if backend == "heat" and heat is None:
            raise InputError("geodesics: the heat method needs the package potpourri3d")
        self.backend = "dijkstra" if heat is None else "heat"
        self._heat = heat
        self._solvers: dict[int, Any] = {}
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._graph: csr_matrix | None = None

    def distances(self, sources: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distances from some points to all.

        Args:
            sources: int [S], rows of ``points``.

        Returns:
            float64 [S, V], infinite in other connected parts.
        """
        sources = np.asarray(sources, np.int64)
        found = np.full((len(sources), len(self.points)), np.inf)
        along: list[int] = []
        for k, source in enumerate(sources):
            solver = self._solver(int(self.part[source])) if self._heat is not None else None
            if solver is None:
                along.append(k)
                continue
            rows = self._rows[int(self.part[source])]
            value = np.asarray(solver.compute_distance(int(np.searchsorted(rows, source))), np.float64)
            if np.isfinite(value).all():
                found[k, rows] = np.maximum(value, 0)
            else:
                along.append(k)
        if along:
            found[along] = dijkstra(self._weights(), directed=False, indices=sources[along])
        found[np.arange(len(sources)), sources] = 0
        return found

    def between(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distances float64 [K] of pairs of points, two int [K]."""
        first, second = np.asarray(first, np.int64), np.asarray(second, np.int64)
        if len(np.unique(second)) < len(np.unique(first)):
            first, second = second, first
        found = np.full(len(first), np.inf)
        near = self.part[first] == self.part[second]
        for source in np.unique(first[near]):
            rows = near & (first == source)
            found[rows] = self.distances(np.array([source]))[0, second[rows]]
        return found

    def _solver(self, part: int) -> Any:
        """The heat solver of a connected part, made when it is first asked for; None where there is none."""
        if part not in self._solvers:
            rows = np.flatnonzero(self.part == part)
            self._rows[part], self._solvers[part] = rows, None
            if len(rows) >= _LEAST and self._heat is not None:
                try:
                    self._solvers[part] = self._made(rows)
                except (ValueError, RuntimeError):  # what a degenerate part makes of it; paths along edges still work there
                    self._solvers[part] = None
        return self._solvers[part]

    def _made(self, rows: NDArray[np.int64]) -> Any:
        if self._faces is None:
            return self._heat.PointCloudHeatSolver(self.points[rows])  # type: ignore[union-attr]
        faces = self._faces[self.part[self._faces[:, 0]] == self.part[rows[0]]]
        return self._heat.MeshHeatMethodDistanceSolver(self.points[rows], np.searchsorted(rows, faces))  # type: ignore[union-attr]

    def _weights(self) -> csr_matrix:
        if self._graph is None:
            a, b = self._edges.T
            length = np.maximum(np.linalg.norm(self.points[a] - self.points[b], axis=1), 1e-12)  # zero would be no edge
            self._graph = csr_matrix((length, (a, b)), shape=(len(self.points),) * 2)
        return self._graph


def bicyclic_error(
    source: Geodesics, target: Geodesics, pairs: NDArray[np.integer], forward: NDArray[np.integer], backward: NDArray[np.integer]
) -> NDArray[np.float64]:
    """How far two ways to find the same place of another object end apart, mean over both directions (3D-SC).

    Args:
        source, target: the two surfaces, of V and W points.
        pairs: int [K, 2], a point of the source and the point of the target that it was matched to.
        forward: int [V], for every point of the source the point of the target that other descriptors give.
        backward: int [W], the same from target to source.

    Returns:
        float64 [K], shares of the diagonals; infinite across connected parts.
    """
    s, t = np.asarray(pairs, np.int64).reshape(-1, 2).T
    there = target.between(np.asarray(forward)[s], t) / max(target.diagonal, 1e-12)
    back = source.between(np.asarray(backward)[t], s) / max(source.diagonal, 1e-12)
    return (there + back) / 2


def _mesh_edges(mesh: Mesh) -> NDArray[np.int64]:
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0)


def _cloud_edges(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Edges of the graph of nearest neighbours, those across gaps left out."""
    if len(points) < 2:
        return np.zeros((0, 2), np.int64)
    distance, index = knn((points - points.mean(axis=0)).astype(np.float32), _NEIGHBOURS)
    edges = graph_edges(index)
    usual = float(np.median(distance[:, -1]))
    return edges[np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) <= _FAR * usual]


def _potpourri() -> Any:
    try:
        import potpourri3d
    except ImportError:
        return None
    return potpourri3d
