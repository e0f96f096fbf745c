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
    xyz, normal = np.require(xyz, np.float32, ["C", "W"]), np.require(normal, np.float32, ["C", "W"])
    count = len(xyz)
    rng = np.random.default_rng(0)
    free = np.arange(count)
    planes: list[Plane] = []
    refused = 0
    # two refusals: a large face of an object may outvote the last wall
    while len(planes) < config.max_planes and refused < 2 and len(free) >= max(10, config.min_share * count):
        found = _best_plane(np.take(xyz, free, axis=0), np.take(normal, free, axis=0), voxel, config, rng)
        if found is None:
            break
        direction, offset, inliers = found
        members = free[inliers]
        if len(members) < config.min_share * count:
            break
        free = free[~inliers]
        behind = np.count_nonzero(_along(xyz, direction) - offset < -3 * config.threshold * voxel)
        bounds = behind <= config.behind_share * count
        share = config.min_share if bounds else config.inner_share
        if len(members) < share * count or _width(np.take(xyz, members, axis=0)) < config.min_extent:
            refused += 1
            continue
        mask = np.zeros(count, bool)
        mask[members] = True
        planes.append(Plane(direction, offset, mask))
    return planes


def _best_plane(
    xyz: NDArray[np.float32], normal: NDArray[np.float32], voxel: float, config: PlaneConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]] | None:
    band, cos = config.threshold * voxel, config.normal_cos
    seeds = rng.choice(len(xyz), min(config.hypotheses, len(xyz)), replace=False)
    axes = normal[seeds].astype(np.float64)
    offsets = (axes * xyz[seeds]).sum(axis=1)
    sample = rng.choice(len(xyz), min(2000, len(xyz)), replace=False)
    some_xyz, some_normal = np.take(xyz, sample, axis=0), np.take(normal, sample, axis=0)
    # a single normal is rough: score in a band twice as thick
    columns = np.concatenate([some_xyz.T, some_normal.T])  # contiguous along the points: several times quicker
    votes = _votes(columns, axes.astype(np.float32), offsets.astype(np.float32), np.float32(2 * band), np.float32(cos))
    fits = []
    for i in np.argsort(-votes, kind="stable")[:5]:
        rough = _inliers(some_xyz, some_normal, axes[i], offsets[i], 2 * band, cos)
        fit = _refine(some_xyz, some_normal, rough, (2 * band, 2 * band, band), cos)
        if fit is not None:
            fits.append(fit)
    if not fits:
        return None
    direction, offset, _ = max(fits, key=lambda fit: int(np.count_nonzero(fit[2])))
    fit = _refine(xyz, normal, _inliers(xyz, normal, direction, offset, band, cos), (band, band), cos)
    if fit is None:
        return None
    direction, offset, inliers = fit
    # as thin as the noise allows, so that objects on the plane keep their lowest points
    noise = 1.4826 * float(np.median(np.abs(_along(xyz, direction)[inliers] - offset)))
    return direction, offset, _inliers(xyz, normal, direction, offset, float(np.clip(4 * noise, 0.5 * voxel, band)), cos)


def _refine(
    xyz: NDArray[np.float32], normal: NDArray[np.float32], inliers: NDArray[np.bool_], bands: tuple[float, ...], cos: float
) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]] | None:
    """Alternate fitting and choosing inliers; None where fewer than three are left."""
    direction, offset = np.zeros(3), 0.0
    for band in bands:
        if np.count_nonzero(inliers) < 3:
            return None
        centre, scatter = _moments(xyz, inliers)
        direction = least_eigen(scatter[None])[1][0]  # total least squares
        offset = float(_along(centre[None], direction)[0])
        if offset > 0:
            direction, offset = -direction, -offset
        inliers = _inliers(xyz, normal, direction, offset, band, cos)
    return (direction, offset, inliers) if np.count_nonzero(inliers) >= 3 else None


def _width(xyz: NDArray[np.float32]) -> float:
    """Extent along the second principal direction, metres, without the outer 2 % on each side."""
    _, scatter = _moments(xyz, np.ones(len(xyz), np.bool_))
    second = _along(xyz, np.linalg.eigh(scatter)[1][:, 1])
    low, high = np.quantile(second, [0.02, 0.98])
    return float(high - low)


def _along(xyz: NDArray, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinate of points [M, 3] along a direction [3]. Not a matrix product: its bytes may depend on the number of threads."""
    return xyz[:, 0] * direction[0] + xyz[:, 1] * direction[1] + xyz[:, 2] * direction[2]


@compiled
def _votes(columns, axes, offsets, band, cos):  # noqa: ANN001, ANN202
    """Number of points (x, y, z and normal: ``columns`` [6, S]) on each of the planes axes [H, 3] . x = offsets [H]: int64 [H]."""
    x, y, z, nx, ny, nz = columns
    votes = np.zeros(len(axes), np.int64)
    for h in range(len(axes)):
        ax, ay, az, offset = axes[h, 0], axes[h, 1], axes[h, 2], offsets[h]
        count = 0
        for i in range(len(x)):
            height = x[i] * ax + y[i] * ay + z[i] * az - offset
            turn = nx[i] * ax + ny[i] * ay + nz[i] * az
            count += (abs(height) < band) & (abs(turn) > cos)
        votes[h] = count
    return votes


@compiled
def _inliers(xyz, normal, direction, offset, band, cos):  # noqa: ANN001, ANN202
    """bool [M]: the points that lie on a plane and are turned as it is."""
    inliers = np.empty(len(xyz), np.bool_)
    for i in range(len(xyz)):
        height = xyz[i, 0] * direction[0] + xyz[i, 1] * direction[1] + xyz[i, 2] * direction[2] - offset
        turn = normal[i, 0] * direction[0] + normal[i, 1] * direction[1] + normal[i, 2] * direction[2]
        inliers[i] = (abs(height) < band) & (abs(turn) > cos)
    return inliers


@compiled
def _moments(xyz, use):  # noqa: ANN001, ANN202
    """Mean float64 [3] and scatter float64 [3, 3] of the points in use, of which there is at least one."""
    centre, scatter, count = np.zeros(3), np.zeros((3, 3)), 0
    for i in range(len(xyz)):
        if use[i]:
            count += 1
            for a in range(3):
                centre[a] += xyz[i, a]
    for a in range(3):
        centre[a] /= count
    for i in range(len(xyz)):
        if use[i]:
            for a in range(3):
                for b in range(a, 3):
                    scatter[a, b] += (xyz[i, a] - centre[a]) * (xyz[i, b] - centre[b])
    for a in range(3):
        for b in range(a):
            scatter[a, b] = scatter[b, a]
    return centre, scatter
