"""The large planes of a scene (floor, walls, table top) by RANSAC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.normals import least_eigen
from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class PlaneConfig(Settings):
    """What counts as a plane of the scene rather than a face of an object."""

    max_planes: int = setting(6, "largest number of planes", range=(0, 1000))
    threshold: float = setting(
        1.5, "largest distance of a point from its plane; the measured noise may make the band thinner", unit="voxels", range=(0.0, 1000.0)
    )
    normal_cos: float = setting(0.8, "smallest |cosine| between a point's normal and the plane's", range=(0.0, 1.0))
    min_extent: float = setting(
        0.4, "smallest width of a plane across its longest direction; faces of objects on a table are smaller", unit="m", range=(0.0, 1e6)
    )
    min_share: float = setting(
        0.04, "smallest share of the voxels on a plane that bounds the scene, such as floor or wall (see behind_share)", range=(0.0, 1.0)
    )
    inner_share: float = setting(
        0.15, "smallest share on any other plane, such as a table top; large, so that the front of a cupboard stays", range=(0.0, 1.0)
    )
    behind_share: float = setting(
        0.02, "a plane bounds the scene if at most this share of the voxels lies behind it as the sensor sees it", range=(0.0, 1.0)
    )
    hypotheses: int = setting(200, "planes tried per round", range=(1, 100_000))


@dataclass(frozen=True)
class Plane:
    """normal . x = offset.

    Attributes:
        normal: float64 [3], unit, turned towards the sensor origin (offset <= 0).
        offset: float, metres.
        mask: bool [M], the points on it; the masks of several planes are disjoint.
    """

    normal: NDArray[np.float64]
    offset: float
    mask: NDArray[np.bool_]


def find_planes(xyz: NDArray[np.float32], normal: NDArray[np.float32], voxel: float, config: PlaneConfig | None = None) -> list[Plane]:
    """Large planes, the one with most points first (Fischler & Bolles 1981, with normals as in Schnabel et al. 2007).

    One point and its normal make a hypothesis; the best few are refined by repeated least squares, and the one with most
    points is taken. Seeds are fixed, so the result is a function of the input.

    Args:
        xyz: float32 [M, 3], metres, about one point per voxel, sensor at the origin.
        normal: float32 [M, 3], unit.
        voxel: voxel edge, metres.
        config: settings of planes.
    """
    config = config or PlaneConfig()
    columns = np.ascontiguousarray(np.concatenate([xyz.T, normal.T]), np.float32)
    count = len(xyz)
    rng = np.random.default_rng(0)
    free = np.arange(count)
    planes: list[Plane] = []
    refused = 0
    # two refusals: a large face of an object may outvote the last wall
    while len(planes) < config.max_planes and refused < 2 and len(free) >= max(10, config.min_share * count):
        found = _best_plane(np.take(columns, free, axis=1), voxel, config, rng)
        if found is None:
            break
        direction, offset, inliers = found
        members = free[inliers]
        if len(members) < config.min_share * count:
            break
        free = free[~inliers]
        behind = np.count_nonzero(_along(columns, direction) - offset < -3 * config.threshold * voxel)
        bounds = behind <= config.behind_share * count
        share = config.min_share if bounds else config.inner_share
        if len(members) < share * count or _width(np.take(columns, members, axis=1)) < config.min_extent:
            refused += 1
            continue
        mask = np.zeros(count, bool)
        mask[members] = True
        planes.append(Plane(direction, offset, mask))
    return planes


def _best_plane(
    columns: NDArray[np.float32], voxel: float, config: PlaneConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]] | None:
    """(direction [3], offset, its points bool [M]) of the plane with most points, None without any.

    The points are columns here and below, float32 [6, M]: x, y, z and normal. Contiguous along the points: several times quicker.
    """
    band, cos = config.threshold * voxel, config.normal_cos
    count = columns.shape[1]
    seeds = rng.choice(count, min(config.hypotheses, count), replace=False)
    axes = columns[3:, seeds].T.astype(np.float64)
    offsets = (axes * columns[:3, seeds].T).sum(axis=1)
    some = np.take(columns, rng.choice(count, min(2000, count), replace=False), axis=1)
    # a single normal is rough: score in a band twice as thick
    votes = _votes(some, axes.astype(np.float32), offsets.astype(np.float32), np.float32(2 * band), np.float32(cos))
    fits = []
    for i in np.argsort(-votes, kind="stable")[:5]:
        fit = _refine(some, _inliers(some, axes[i], offsets[i], 2 * band, cos), (2 * band, 2 * band, band), cos)
        if fit is not None:
            fits.append(fit)
    if not fits:
        return None
    direction, offset, _ = max(fits, key=lambda fit: int(np.count_nonzero(fit[2])))
    fit = _refine(columns, _inliers(columns, direction, offset, band, cos), (band, band), cos)
    if fit is None:
        return None
    direction, offset, inliers = fit
    # as thin as the noise allows, so that objects on the plane keep their lowest points
    noise = 1.4826 * float(np.median(np.abs(_along(columns, direction)[inliers] - offset)))
    return direction, offset, _inliers(columns, direction, offset, float(np.clip(4 * noise, 0.5 * voxel, band)), cos)


def _refine(
    columns: NDArray[np.float32], inliers: NDArray[np.bool_], bands: tuple[float, ...], cos: float
) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]] | None:
    """Alternate fitting and choosing inliers; None where fewer than three are left."""
    direction, offset = np.zeros(3), 0.0
    for band in bands:
        if np.count_nonzero(inliers) < 3:
            return None
        centre, scatter = _moments(columns, inliers)
        direction = least_eigen(scatter[None])[1][0]  # total least squares
        offset = float(_along(centre, direction))
        if offset > 0:
            direction, offset = -direction, -offset
        inliers = _inliers(columns, direction, offset, band, cos)
    return (direction, offset, inliers) if np.count_nonzero(inliers) >= 3 else None


def _width(columns: NDArray[np.float32]) -> float:
    """Extent along the second principal direction, metres, without the outer 2 % on each side."""
    _, scatter = _moments(columns, np.ones(columns.shape[1], np.bool_))
    second = _along(columns, np.linalg.eigh(scatter)[1][:, 1])
    low, high = np.quantile(second, [0.02, 0.98])
    return float(high - low)


def _along(columns: NDArray, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinate of points along a direction [3]. Not a matrix product: its bytes may depend on the number of threads."""
    return columns[0] * direction[0] + columns[1] * direction[1] + columns[2] * direction[2]


@compiled
def _votes(columns, axes, offsets, band, cos):  # noqa: ANN001, ANN202
    """Number of points on each of the planes axes [H, 3] . x = offsets [H]: int64 [H]."""
    x, y, z, nx, ny, nz = columns[0], columns[1], columns[2], columns[3], columns[4], columns[5]  # unpacked they lose the known stride
    votes = np.zeros(len(axes), np.int64)
    for h in range(len(axes)):
        ax, ay, az, offset = axes[h, 0], axes[h, 1], axes[h, 2], offsets[h]
        count = np.int32(0)  # as wide as the coordinates: twice as quick
        for i in range(len(x)):
            height = x[i] * ax + y[i] * ay + z[i] * az - offset
            turn = nx[i] * ax + ny[i] * ay + nz[i] * az
            count += np.int32((abs(height) < band) & (abs(turn) > cos))
        votes[h] = count
    return votes


@compiled
def _inliers(columns, direction, offset, band, cos):  # noqa: ANN001, ANN202
    """bool [M]: the points that lie on a plane and are turned as it is."""
    x, y, z, nx, ny, nz = columns[0], columns[1], columns[2], columns[3], columns[4], columns[5]
    ax, ay, az = direction
    inliers = np.empty(len(x), np.bool_)
    for i in range(len(x)):
        height = x[i] * ax + y[i] * ay + z[i] * az - offset
        turn = nx[i] * ax + ny[i] * ay + nz[i] * az
        inliers[i] = (abs(height) < band) & (abs(turn) > cos)
    return inliers


@compiled
def _moments(columns, use):  # noqa: ANN001, ANN202
    """Mean float64 [3] and scatter float64 [3, 3] of the points in use, of which there is at least one."""
    x, y, z = columns[0], columns[1], columns[2]
    mx = my = mz = 0.0
    count = 0
    for i in range(len(x)):
        if use[i]:
            count += 1
            mx, my, mz = mx + x[i], my + y[i], mz + z[i]
    mx, my, mz = mx / count, my / count, mz / count
    xx = yy = zz = xy = xz = yz = 0.0
    for i in range(len(x)):
        if use[i]:
            dx, dy, dz = x[i] - mx, y[i] - my, z[i] - mz
            xx, yy, zz = xx + dx * dx, yy + dy * dy, zz + dz * dz
            xy, xz, yz = xy + dx * dy, xz + dx * dz, yz + dy * dz
    return np.array([mx, my, mz]), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
