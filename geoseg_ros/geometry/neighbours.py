"""k nearest neighbours and what follows from them: graph edges, normals, curvature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def knn(xyz: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` nearest points of every point, itself first.

    Args:
        xyz: float32 [M, 3], finite, M >= 1. Where k > M, k is M.

    Returns:
        distance float32 [M, k] in metres, ascending; index int64 [M, k].
    """
    k = min(k, len(xyz))
    distance, index = cKDTree(xyz).query(xyz, k)
    return distance.reshape(len(xyz), k).astype(np.float32), index.reshape(len(xyz), k).astype(np.int64)


def graph_edges(distance: NDArray[np.float32], index: NDArray[np.int64], radius: float = np.inf) -> NDArray[np.int64]:
    """The undirected edges of a k-NN graph, each once: int64 [E, 2], first < second, in lexicographic order, length <= ``radius``."""
    m, k = index.shape
    source = np.repeat(np.arange(m), k - 1)
    target = index[:, 1:].reshape(-1)
    keep = (distance[:, 1:].reshape(-1) <= radius) & (source != target)
    low, high = np.minimum(source, target)[keep], np.maximum(source, target)[keep]
    keys = np.sort(low * m + high)
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    return np.stack([keys // m, keys % m], axis=1)


def normals(
    xyz: NDArray[np.float32], index: NDArray[np.int64], viewpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Surface normals by principal components of each neighbourhood (Hoppe et al. 1992), turned towards the sensor.

    Args:
        xyz: float32 [M, 3].
        index: int64 [M, k] from :func:`knn`.
        viewpoint: position of the sensor, metres.

    Returns:
        normal float32 [M, 3], unit length, with normal . (viewpoint - point) >= 0; curvature float32 [M], the smallest
        eigenvalue over the sum of the three, 0 (plane) .. 1/3 (no direction).
    """
    # neighbour by neighbour [k, M, 3]: the long axis inside is several times quicker than three coordinates inside
    offset = np.take(xyz, index.T, axis=0) - xyz  # relative to the point: no cancellation far from the origin
    offset -= offset.mean(axis=0)
    offset = np.ascontiguousarray(offset.transpose(1, 0, 2))
    covariance = np.matmul(offset.transpose(0, 2, 1), offset).astype(np.float64)
    least, normal = _least_eigen(covariance)
    away = np.einsum("ij,ij->i", normal, np.asarray(viewpoint) - xyz) < 0
    normal[away] *= -1
    curvature = np.maximum(least, 0) / np.maximum(np.trace(covariance, axis1=1, axis2=2), 1e-30)
    return normal.astype(np.float32), curvature.astype(np.float32)


def connected_parts(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected component of each of ``count`` points joined by ``edges`` [E, 2]: int64 [count], 0.. ."""
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _least_eigen(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest eigenvalue [M] of symmetric matrices [M, 3, 3] and its unit eigenvector [M, 3], either sign.

    The value by the trigonometric formula (Smith, CACM 1961), the vector as the longest column of the adjugate of A - lambda I. Where
    the two smallest values are close (needles, single points) both lose digits, and LAPACK answers instead.
    """
    # contiguous copies: each is read several times
    xx, yy, zz, xy, xz, yz = (matrix[:, i, j].copy() for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    mean = (xx + yy + zz) / 3

    def adjugate(shift: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """The six entries of adj(A - shift I), in the order of those of A."""
        a, b, c = xx - shift, yy - shift, zz - shift
        return b * c - yz * yz, a * c - xz * xz, a * b - xy * xy, xz * yz - xy * c, xy * yz - xz * b, xy * xz - yz * a

    spread = np.sqrt(((xx - mean) ** 2 + (yy - mean) ** 2 + (zz - mean) ** 2 + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
    minor = adjugate(mean)
    determinant = (xx - mean) * minor[0] + xy * minor[3] + xz * minor[4]
    cosine = np.clip(determinant / np.maximum(2 * spread**3, 1e-300), -1, 1)
    value = mean + 2 * spread * np.cos((np.arccos(cosine) + 2 * np.pi) / 3)

    axx, ayy, azz, axy, axz, ayz = adjugate(value)
    columns = np.stack([axx, axy, axz, axy, ayy, ayz, axz, ayz, azz], axis=1).reshape(-1, 3, 3)
    longest = np.abs(np.stack([axx, ayy, azz], axis=1)).argmax(axis=1)  # the adjugate has rank one
    vector = columns[np.arange(len(columns)), longest]
    length = np.linalg.norm(vector, axis=1)
    # of order (lambda_2 - lambda_1) (lambda_3 - lambda_1)
    close = np.flatnonzero(~(length > 0.05 * spread * spread))
    vector /= np.maximum(length, 1e-300)[:, None]
    if len(close):
        values, vectors = np.linalg.eigh(matrix[close])
        value[close], vector[close] = values[:, 0], vectors[:, :, 0]
    return value, vector
