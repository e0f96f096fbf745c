"""Surface normals and curvature from neighbourhoods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled, in_parts


def normals(
    xyz: NDArray[np.float32], index: NDArray[np.int64], viewpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Surface normals by principal components of each neighbourhood (Hoppe et al. 1992), turned towards the sensor.

    Args:
        xyz: float32 [M, 3], metres.
        index: int64 [M, k] from :func:`~geoseg_ros.geometry.neighbours.knn`.
        viewpoint: position of the sensor, metres.

    Returns:
        normal float32 [M, 3], unit length, with normal . (viewpoint - point) >= 0; curvature float32 [M], the smallest
        eigenvalue over the sum of the three, 0 (plane) .. 1/3 (no direction).
    """
    xyz, index = np.require(xyz, np.float32, ["C", "W"]), np.require(index, np.int64, ["C", "W"])
    normal, curvature = np.empty(xyz.shape, np.float32), np.empty(len(xyz), np.float32)

    def fit(first: int, end: int) -> None:
        covariance = _covariances(xyz, xyz[first:end], index[first:end])
        value, vector = least_eigen(covariance)
        away = np.einsum("ij,ij->i", vector, np.asarray(viewpoint) - xyz[first:end]) < 0
        vector[away] *= -1
        normal[first:end] = vector
        curvature[first:end] = np.maximum(value, 0) / np.maximum(np.trace(covariance, axis1=1, axis2=2), 1e-30)

    in_parts(len(xyz), fit, least=4096)
    return normal, curvature


def least_eigen(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest eigenvalue of symmetric matrices, and its eigenvector: several times quicker than LAPACK's, which take over where the
    two smallest values are close.

    Args:
        matrix: float64 [M, 3, 3], C-contiguous.

    Returns:
        float64 [M]; float64 [M, 3], unit length, of either sign.
    """
    value, vector, close = _least_eigen(matrix)
    unsure = np.flatnonzero(close)
    if len(unsure):
        values, vectors = np.linalg.eigh(matrix[unsure])
        value[unsure], vector[unsure] = values[:, 0], vectors[:, :, 0]
    return value, vector


@compiled
def _covariances(xyz, points, index):  # noqa: ANN001, ANN202
    """Scatter of the neighbourhoods ``index`` [n, k] of ``points`` [n, 3], some of ``xyz``, around their means: float64 [n, 3, 3]."""
    count, k = index.shape
    covariance = np.empty((count, 3, 3))
    offset = np.empty((k, 3))
    for i in range(count):
        mx = my = mz = 0.0
        for s in range(k):  # relative to the point: no cancellation far from the origin
            j = index[i, s]
            dx, dy = np.float64(xyz[j, 0]) - points[i, 0], np.float64(xyz[j, 1]) - points[i, 1]
            dz = np.float64(xyz[j, 2]) - points[i, 2]
            offset[s, 0], offset[s, 1], offset[s, 2] = dx, dy, dz
            mx, my, mz = mx + dx, my + dy, mz + dz
        mx, my, mz = mx / k, my / k, mz / k
        xx = yy = zz = xy = xz = yz = 0.0
        for s in range(k):
            dx, dy, dz = offset[s, 0] - mx, offset[s, 1] - my, offset[s, 2] - mz
            xx, yy, zz = xx + dx * dx, yy + dy * dy, zz + dz * dz
            xy, xz, yz = xy + dx * dy, xz + dx * dz, yz + dy * dz
        covariance[i, 0, 0], covariance[i, 1, 1], covariance[i, 2, 2] = xx, yy, zz
        covariance[i, 0, 1] = covariance[i, 1, 0] = xy
        covariance[i, 0, 2] = covariance[i, 2, 0] = xz
        covariance[i, 1, 2] = covariance[i, 2, 1] = yz
    return covariance


@compiled
def _least_eigen(matrix):  # noqa: ANN001, ANN202
    """(value [M], vector [M, 3], bool [M] not to trust), see :func:`least_eigen`.

    The value by the trigonometric formula (Smith, CACM 1961), the vector as the longest column of the adjugate of A - lambda I. Where
    the two smallest values are close (needles, single points) both lose digits.
    """
    count = len(matrix)
    values, vectors, close = np.empty(count), np.empty((count, 3)), np.empty(count, np.bool_)
    for i in range(count):
        xx, yy, zz = matrix[i, 0, 0], matrix[i, 1, 1], matrix[i, 2, 2]
        xy, xz, yz = matrix[i, 0, 1], matrix[i, 0, 2], matrix[i, 1, 2]
        mean = (xx + yy + zz) / 3
        a, b, c = xx - mean, yy - mean, zz - mean
        spread = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
        determinant = a * (b * c - yz * yz) + xy * (xz * yz - xy * c) + xz * (xy * yz - xz * b)
        cosine = max(-1.0, min(1.0, determinant / max(2 * spread**3, 1e-300)))
        value = mean + 2 * spread * np.cos((np.arccos(cosine) + 2 * np.pi) / 3)
        a, b, c = xx - value, yy - value, zz - value
        axx, ayy, azz = b * c - yz * yz, a * c - xz * xz, a * b - xy * xy  # the adjugate, which has rank one
        axy, axz, ayz = xz * yz - xy * c, xy * yz - xz * b, xy * xz - yz * a
        if abs(axx) >= abs(ayy) and abs(axx) >= abs(azz):
            x, y, z = axx, axy, axz
        elif abs(ayy) >= abs(azz):
            x, y, z = axy, ayy, ayz
        else:
            x, y, z = axz, ayz, azz
        length = np.sqrt(x * x + y * y + z * z)
        values[i] = value
        close[i] = not length > 0.05 * spread * spread  # it is of order (lambda_2 - lambda_1) (lambda_3 - lambda_1)
        length = max(length, 1e-300)
        vectors[i, 0], vectors[i, 1], vectors[i, 2] = x / length, y / length, z / length
    return values, vectors, close
