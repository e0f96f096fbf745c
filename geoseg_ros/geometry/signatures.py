"""Heat- and wave-kernel signatures: how the surface around a point is bent, at several scales, whatever the pose (Sun et al. 2009; Aubry et
al. 2011), from the robust Laplacian of a mesh or a cloud (Sharp & Crane 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from scipy.spatial import cKDTree

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.meshes import Mesh
from geoseg_ros.geometry.neighbours import knn

_MOST = 6000  # points that eigenvectors are computed of; more are thinned, and each takes over the nearest one's


def signatures(shape: Mesh | Cloud, scales: int = 16, waves: int = 32) -> NDArray[np.float32]:
    """Signatures of every vertex or point.

    Args:
        shape: all of its points finite.
        scales: of the heat kernel. waves: energies of the wave kernel.

    Returns:
        float32 [V, scales + waves], unit rows; logarithms, each column without its mean over the shape and with unit spread.
    """
    points = shape.vertices if isinstance(shape, Mesh) else shape.xyz
    if isinstance(shape, Mesh) and len(points) <= _MOST:
        laplacian, mass, near = *_of_mesh(shape), np.arange(len(points))
    else:
        rows = np.random.default_rng(0).permutation(len(points))[:_MOST]
        laplacian, mass = _of_cloud(points[rows])
        near = cKDTree(points[rows]).query(points)[1]
    values, vectors = _spectrum(laplacian, mass)
    joined = np.concatenate([_heat(values, vectors, scales), _wave(values, vectors, waves)], axis=1)
    spread = np.maximum(joined.std(axis=0), 1e-9)
    joined = (joined - joined.mean(axis=0)) / spread
    joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)
    return joined.astype(np.float32)[near]


def _of_mesh(mesh: Mesh) -> tuple[csc_matrix, csc_matrix]:
    try:
        import robust_laplacian
    except ImportError:
        return _of_cloud(mesh.vertices)
    return robust_laplacian.mesh_laplacian(mesh.vertices.astype(np.float64), mesh.faces)


def _of_cloud(points: NDArray[np.floating]) -> tuple[csc_matrix, csc_matrix]:
    """The robust Laplacian; without its package that of the graph of nearest neighbours, weighted by distance."""
    points = np.ascontiguousarray(points, np.float64)
    try:
        import robust_laplacian
    except ImportError:
        return _of_graph(np.asarray(points, np.float64))
    return robust_laplacian.point_cloud_laplacian(points, n_neighbors=min(30, len(points) - 1))


def _of_graph(points: NDArray[np.float64]) -> tuple[csc_matrix, csc_matrix]:
    distance, index = knn(points.astype(np.float32), 12)
    width = max(float(np.median(distance[:, -1])), 1e-12)
    weight = np.exp(-((distance[:, 1:] / width) ** 2)) / width**2
    rows = np.repeat(np.arange(len(points)), weight.shape[1])
    graph = csr_matrix((weight.ravel(), (rows, index[:, 1:].ravel())), shape=(len(points),) * 2)
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    return csc_matrix(diags(degree) - graph), csc_matrix(diags(np.ones(len(points))))


def _spectrum(laplacian: csc_matrix, mass: csc_matrix, count: int = 64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest eigenvalues [K] above zero and their eigenvectors [V, K]; the size of the shape is taken out."""
    area = float(mass.diagonal().sum())
    mass = mass + diags(np.full(mass.shape[0], 1e-9 * area / mass.shape[0]))
    count = min(count, laplacian.shape[0] - 2)
    start = np.random.default_rng(0).normal(size=laplacian.shape[0])  # the same every time
    try:
        values, vectors = eigsh(laplacian, count, mass, sigma=-1e-3 / area, v0=start)
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    order = np.argsort(values)
    values, vectors = np.maximum(values[order] * area, 0), vectors[:, order] * np.sqrt(area)
    first = min(int((values < 1e-4).sum()), len(values) - 1)
    return values[first:], vectors[:, first:]


def _heat(values: NDArray[np.float64], vectors: NDArray[np.float64], scales: int) -> NDArray[np.float64]:
    times = np.geomspace(4 * np.log(10) / values[-1], 4 * np.log(10) / max(values[0], values[-1] * 1e-4), scales)
    kept = np.exp(-times[:, None] * values)
    return np.log(vectors**2 @ kept.T / kept.sum(axis=1) + 1e-9)


def _wave(values: NDArray[np.float64], vectors: NDArray[np.float64], waves: int) -> NDArray[np.float64]:
    logs = np.log(np.maximum(values, 1e-4))
    energies = np.linspace(logs[0], logs[-1] / 1.02, waves)
    width = max(7 * (energies[-1] - energies[0]) / waves, 1e-6)
    kept = np.exp(-((energies[:, None] - logs) ** 2) / (2 * width**2))
    return np.log(vectors**2 @ kept.T / np.maximum(kept.sum(axis=1), 1e-12) + 1e-9)
