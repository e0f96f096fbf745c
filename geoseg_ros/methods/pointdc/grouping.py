"""Two further ways to group super-voxels: GrowSP's growth of them, and LogoSP's groups of frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.learning.clustering import kmeans, unit_rows
from geoseg_ros.learning.spectrum import Floats, laplacian_spectrum

GROWTH_WEIGHTS = (1.0, 0.2, 0.8)  # of colour, position and normal beside the unit feature (GrowSP's released code)


def grown(
    feature: NDArray[np.floating],
    rgb: NDArray[np.floating] | None,
    xyz: NDArray[np.floating],
    normal: NDArray[np.floating],
    size: NDArray[np.integer],
    target: int,
) -> NDArray[np.int64]:
    """Merge the super-voxels of one scene into fewer (Zhang et al., "GrowSP", CVPR 2023, section 3.3): k-means of their descriptors.

    Args:
        feature: [S, D]. rgb: [S, 3], mean colour 0 .. 1, or None. xyz: [S, 3], metres, mean position. normal: [S, 3], mean normal.
        size: [S], points of each super-voxel.
        target: super-voxels that are left, at most S.

    Returns:
        int64 [S], the new super-voxel of each, 0.. in order of first occurrence.
    """
    colour, position, direction = GROWTH_WEIGHTS
    parts = [unit_rows(feature), position * (xyz - xyz.mean(axis=0)), direction * normal]
    if rgb is not None:
        parts.append(colour * (rgb - 0.5))
    label = kmeans(np.concatenate(parts, axis=1), min(target, len(feature)), size, restarts=3, spherical=False).label
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[place]


def spectral_embedding(rows: NDArray[np.floating], groups: int, frequencies: int = 128, share: float = 0.99) -> Floats:
    """LogoSP's embedding of super-voxels (Zhang et al., CVPR 2025, section 3.3): frequencies of the graph, grouped by what they carry.

    The features are transformed to the graph's frequencies, U^T F. The strongest frequencies with ``share`` of the energy are kept,
    without the constant one; they are clustered by their amplitudes (the rows of U^T F) into groups, and the eigenvectors of a group are
    averaged. The released code drops the first channel of the amplitudes where it means to drop the constant frequency, so that
    amplitudes and eigenvectors are off by one; here both are rows of the same table.

    Args:
        rows: F [n, D], of unit length.
        groups: of frequencies.
        frequencies: that are computed, from the lowest on.
        share: of the energy.

    Returns:
        float64 [n, at most ``groups``].
    """
    _, vectors = laplacian_spectrum(rows, min(frequencies, len(rows) - 1))
    vectors = vectors[:, 1:]
    amplitude = vectors.T @ np.asarray(rows, np.float64)
    energy = (amplitude**2).sum(axis=1)
    order = np.argsort(-energy, kind="stable")
    kept = order[: 1 + int(np.searchsorted(np.cumsum(energy[order]), share * energy.sum()))]
    groups = min(groups, len(kept))
    label = kmeans(amplitude[kept], groups, restarts=5, spherical=False).label
    return np.stack([vectors[:, kept[label == k]].mean(axis=1) for k in range(groups)], axis=1)
