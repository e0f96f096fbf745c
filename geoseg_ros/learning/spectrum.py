"""Spectra of nearest-neighbour graphs of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, identity
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from scipy.spatial import cKDTree

NEIGHBOURS = 10
Floats = NDArray[np.float64]


def spread_sample(total: int, limit: int) -> NDArray[np.int64]:
    """At most ``limit`` indices below ``total``, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(total, limit)).round().astype(np.int64))


def laplacian_spectrum(rows: NDArray[np.floating], count: int, neighbours: int = NEIGHBOURS) -> tuple[Floats, Floats]:
    """The smallest eigenvalues of the normalised Laplacian of a nearest-neighbour graph, and their eigenvectors.

    Edges weigh exp(-d^2 / (2 m^2)), where d is the distance of two rows and m the median over all edges. LogoSP's released affinity
    exp(-d / D) is nearly 1 for every pair of unit rows and joins all of them; a graph of neighbours does not.

    Args:
        rows: [n, D], of unit length.
        count: eigenvalues, fewer than n.
        neighbours: of each row.

    Returns:
        values float64 [count], rising; vectors float64 [n, count], with the largest entry of each positive.
    """
    total = len(rows)
    distance, index = cKDTree(rows).query(rows, min(neighbours + 1, total))
    distance, index = distance[:, 1:], index[:, 1:]
    middle = max(float(np.median(distance)), 1e-9)
    weight = np.exp(-(distance**2) / (2 * middle**2)) + 1e-9  # far rows stay connected
    start = np.arange(0, index.size + 1, index.shape[1])
    graph = csr_matrix((weight.ravel(), index.ravel(), start), shape=(total, total))
    graph = graph.maximum(graph.T)
    root = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    # the smallest of L = I - S are the largest of I + S, which ARPACK finds quickly
    shifted = identity(total) + root @ graph @ root
    if total <= max(2 * count, 32):
        values, vectors = np.linalg.eigh(shifted.toarray())
    else:
        try:
            values, vectors = eigsh(shifted, k=count, which="LA", v0=np.linspace(1, 2, total), tol=1e-9)
        except ArpackNoConvergence:  # many rows that are the same give many eigenvalues that are
            values, vectors = np.linalg.eigh(shifted.toarray())
    order = np.argsort(-values, kind="stable")[:count]
    values, vectors = 2 - values[order], vectors[:, order]
    top = np.abs(vectors).argmax(axis=0)
    return np.asarray(values, np.float64), vectors * np.sign(vectors[top, np.arange(len(order))])
