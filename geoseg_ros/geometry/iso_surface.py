"""The surface where a field on a grid is zero, by surface nets (Gibson 1998): one vertex in every cell that the surface crosses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.geometry.meshes import Mesh

_CORNERS = np.stack(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij"), axis=-1).reshape(-1, 3)
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


def iso_surface(field: NDArray[np.floating], origin: ArrayLike, cell: float) -> Mesh:
    """A mesh of the zero level of a field that is negative inside; holes only where the surface leaves the grid.

    Args:
        field: [X, Y, Z], each at least 2; finite.
        origin: [3], where the first value is. cell: distance of neighbouring values.
    """
    inside = field < 0
    shape = tuple(n - 1 for n in field.shape)
    corner_values = [field[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] for corner in _CORNERS]
    crossed = np.zeros(shape, bool)
    for values in corner_values[1:]:
        crossed |= (values < 0) != (corner_values[0] < 0)
    cells = np.argwhere(crossed)
    values = np.stack([v[crossed] for v in corner_values], axis=1)
    total, count = np.zeros((len(cells), 3)), np.zeros(len(cells))
    for a, b in _EDGES:
        cut = (values[:, a] < 0) != (values[:, b] < 0)
        share = values[cut, a] / (values[cut, a] - values[cut, b])
        total[cut] += _CORNERS[a] + share[:, None] * (_CORNERS[b] - _CORNERS[a])
        count[cut] += 1
    vertices = (cells + total / np.maximum(count, 1)[:, None]) * cell + np.asarray(origin, np.float64)
    row = np.full(shape, -1, np.int64)
    row[crossed] = np.arange(len(cells))
    faces = np.concatenate([_quads(inside, row, axis) for axis in range(3)])
    return Mesh(vertices.astype(np.float32), faces)


def _quads(inside: NDArray[np.bool_], row: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Two triangles around every edge of the grid along ``axis`` that the surface cuts, counter-clockwise from outside."""
    low = np.take(inside, range(inside.shape[axis] - 1), axis)
    high = np.take(inside, range(1, inside.shape[axis]), axis)
    u, v = (axis + 1) % 3, (axis + 2) % 3
    edges = np.argwhere(low != high)
    limit = np.array(row.shape)
    whole = (edges[:, u] > 0) & (edges[:, v] > 0) & (edges[:, u] < limit[u]) & (edges[:, v] < limit[v])
    edges = edges[whole]
    around = []
    for du, dv in ((-1, -1), (0, -1), (0, 0), (-1, 0)):
        at = edges.copy()
        at[:, u] += du
        at[:, v] += dv
        around.append(row[tuple(at.T)])
    quad = np.stack(around, axis=1)
    outward = low[tuple(edges.T)]  # inside at the lower end: the surface looks along the axis
    quad = np.where(outward[:, None], quad, quad[:, ::-1])
    return np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
