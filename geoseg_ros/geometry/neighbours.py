"""k nearest neighbours and what follows from them: graph edges, normals, curvature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
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
    offset = xyz[index] - xyz[:, None]  # relative to the point: no cancellation far from the origin
    offset -= offset.mean(axis=1, keepdims=True)
    covariance = np.matmul(offset.transpose(0, 2, 1), offset).astype(np.float64)
    value, vector = np.linalg.eigh(covariance)
    normal = vector[:, :, 0]
    away = np.einsum("ij,ij->i", normal, np.asarray(viewpoint) - xyz) < 0
    normal[away] *= -1
    curvature = np.maximum(value[:, 0], 0) / np.maximum(value.sum(axis=1), 1e-30)
    return normal.astype(np.float32), curvature.astype(np.float32)
