"""Geometric analysis of one cloud: voxels, normals, planes, superpoints and proposals."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.neighbours import graph_edges, knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.planes import Plane, PlaneConfig, find_planes
from geoseg_ros.geometry.proposals import ProposalConfig, object_proposals
from geoseg_ros.geometry.superpoints import SuperpointConfig, superpoints
from geoseg_ros.geometry.voxels import choose_voxel, voxel_downsample
from geoseg_ros.settings import Settings, section, setting
from geoseg_ros.stopwatch import Stopwatch

MIN_POINTS = 10
_EXCESS = 1.5  # times the budget


@dataclass(frozen=True)
class GeometryConfig(Settings):
    """How a cloud is analysed."""

    voxel: float = setting(
        0.0, "voxel edge; 0: chosen from the cloud so that about budget voxels are filled", unit="m", range=(0.0, 1000.0)
    )
    budget: int = setting(20_000, "filled voxels that are aimed at where voxel is 0; time grows with them", range=(100, 10_000_000))
    max_range: float = setting(
        0.0,
        "points farther from the sensor are left out; 0: only those farther from the median point than 4 times 98 % of the points",
        unit="m",
        range=(0.0, 1e6),
    )
    neighbours: int = setting(16, "points that a normal is fitted to", range=(4, 1000))
    graph_neighbours: int = setting(9, "neighbours of a point in the graph of superpoints and proposals", range=(2, 1000))
    planes: PlaneConfig = section(PlaneConfig, "the large planes: floor, walls, table top")
    superpoints: SuperpointConfig = section(SuperpointConfig, "patches of similar points (Felzenszwalb & Huttenlocher)")
    proposals: ProposalConfig = section(ProposalConfig, "sets of points that may be an object")


@dataclass(frozen=True)
class SceneGeometry:
    """One cloud of N points, analysed on M voxels.

    Attributes:
        xyz: float32 [M, 3], metres, frame of the cloud. rgb: uint8 [M, 3] or None. normal: float32 [M, 3], towards the sensor.
        inverse: int64 [N], voxel of each input point, -1 for invalid and far points.
        count: int64 [M], input points per voxel.
        plane: int64 [M], index into ``planes``, -1 = on none.
        planes: the large planes, in the order found.
        superpoint: int64 [M], 0.. ; a superpoint lies on one plane or on none.
        proposals: int64 voxel indices, sorted, the largest proposal first; proposals may contain one another.
        voxel: the voxel edge used, metres; 0 for an empty scene.
        seconds: stage -> seconds.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None
    normal: NDArray[np.float32]
    inverse: NDArray[np.int64]
    count: NDArray[np.int64]
    plane: NDArray[np.int64]
    planes: list[Plane]
    superpoint: NDArray[np.int64]
    proposals: list[NDArray[np.int64]]
    voxel: float
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def point_values(self, values: NDArray, fill: float = 0) -> NDArray:
        """Values per voxel [M, ...] to values per input point [N, ...]; ``fill`` where a point has no voxel."""
        out = np.full((len(self.inverse), *values.shape[1:]), fill, values.dtype)
        has = self.inverse >= 0
        out[has] = values[self.inverse[has]]
        return out

    @cached_property
    def up(self) -> NDArray[np.float64]:
        """[3], the direction that is up: the normal of the largest plane that lies within 60 degrees of +z (body frames, REP 103) or of -y
        (camera optical frames), whichever is nearer; +z without one."""
        best, up = 0, np.array([0.0, 0.0, 1.0])
        for plane in self.planes:
            normal = plane.normal / np.linalg.norm(plane.normal)
            for axis in (np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])):
                along = float(normal @ axis)
                size = int(np.count_nonzero(plane.mask))
                # a wall seen head-on by a camera faces -z; it is not a floor, which lies mostly below the sensor
                if abs(along) > 0.5 and size > best:
                    direction = normal * np.sign(along)
                    below = float(np.median(self.xyz[plane.mask] @ direction)) < 0
                    if below:
                        best, up = size, direction
        return up


def analyse_cloud(cloud: Cloud, config: GeometryConfig | None = None) -> SceneGeometry:
    """Voxels, normals, planes, superpoints and proposals of a cloud; a pure function of its arguments.

    A cloud with fewer than 10 usable points gives an empty scene.

    Raises:
        InputError: ``config.voxel`` is absurdly small for the cloud.
    """
    config = config or GeometryConfig()
    clock = Stopwatch()
    use = _usable(cloud, config.max_range)
    if np.count_nonzero(use) < MIN_POINTS:
        return _empty(cloud)
    voxel = config.voxel or choose_voxel(cloud.xyz, config.budget, use)
    grid = voxel_downsample(cloud.xyz, cloud.rgb, voxel, use)
    if not config.voxel and len(grid.xyz) > _EXCESS * config.budget:
        # the sample that the size was chosen by is not representative for some orders of points (ring by ring in each LiDAR column)
        voxel = choose_voxel(grid.xyz, config.budget)
        grid = voxel_downsample(cloud.xyz, cloud.rgb, voxel, use)
    xyz = grid.xyz
    clock.stop("voxels")
    _, index = knn(xyz, config.neighbours)
    normal, _ = normals(xyz, index)
    edges = graph_edges(index, config.graph_neighbours)
    clock.stop("normals")
    planes = find_planes(xyz, normal, voxel, config.planes)
    plane = np.full(len(xyz), -1, np.int64)
    for i, found in enumerate(planes):
        plane[found.mask] = i
    clock.stop("planes")
    superpoint = superpoints(xyz, normal, grid.rgb, plane, edges, config.superpoints)
    clock.stop("superpoints")
    proposals = object_proposals(xyz, normal, grid.rgb, plane, planes, superpoint, edges, voxel, config.proposals)
    clock.stop("proposals")
    return SceneGeometry(xyz, grid.rgb, normal, grid.inverse, grid.count, plane, planes, superpoint, proposals, voxel, clock.seconds)


def example_cloud() -> Cloud:
    """Two boxes on a floor, with colour: analysing it compiles, or loads from disk, every function of this room.

    The first time on a machine takes seconds; later processes find the functions on disk (see ``geoseg_ros.compiled``).
    """
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-1, 1, 0.02), np.arange(1, 3, 0.02)))
    height = np.where((np.abs(y - 2) < 0.2) & (np.abs(np.abs(x) - 0.2) < 0.15), 0.3, 0.0)
    xyz = np.stack([x, y, height - 1], axis=1).astype(np.float32)
    return Cloud(xyz, np.full(xyz.shape, 128, np.uint8))


def _usable(cloud: Cloud, max_range: float) -> NDArray[np.bool_]:
    """bool [N]: finite, within range, and not the exact origin, which many LiDAR drivers write where nothing came back."""
    xyz = np.require(cloud.xyz, np.float32, ["C", "W"])
    use = _within(xyz, float(max_range) or np.inf)
    index = np.flatnonzero(use)
    if max_range > 0 or len(index) < MIN_POINTS:
        return use
    sample = np.take(xyz, index[:: max(1, len(index) // 10_000)], axis=0)
    centre = np.median(sample, axis=0)
    _crop(xyz, use, centre, 4 * float(np.quantile(np.linalg.norm(sample - centre, axis=1), 0.98)))
    return use


@compiled
def _within(xyz, reach):  # noqa: ANN001, ANN202
    """bool [N]: farther than zero and at most ``reach`` from the origin, and finite."""
    use = np.empty(len(xyz), np.bool_)
    for i in range(len(xyz)):
        # float32 squares overflow to infinity beyond 1e19 m, which is out of range as well
        squared = xyz[i, 0] * xyz[i, 0] + xyz[i, 1] * xyz[i, 1] + xyz[i, 2] * xyz[i, 2]
        use[i] = squared > 0 and squared <= reach * reach and squared < np.inf
    return use


@compiled
def _crop(xyz, use, centre, reach):  # noqa: ANN001, ANN202
    """Take out of ``use``, in place, what is farther than ``reach`` from ``centre`` [3]; nothing if the cube around that ball holds all."""
    outside = False
    for i in range(len(xyz)):
        if use[i]:
            x, y, z = abs(xyz[i, 0] - centre[0]), abs(xyz[i, 1] - centre[1]), abs(xyz[i, 2] - centre[2])
            outside |= max(x, y, z) > reach
    if outside:
        for i in range(len(xyz)):
            x, y, z = xyz[i, 0] - centre[0], xyz[i, 1] - centre[1], xyz[i, 2] - centre[2]
            use[i] &= x * x + y * y + z * z <= reach * reach


def _empty(cloud: Cloud) -> SceneGeometry:
    none = np.zeros(0, np.int64)
    flat = np.zeros((0, 3), np.float32)
    rgb = None if cloud.rgb is None else np.zeros((0, 3), np.uint8)
    return SceneGeometry(flat, rgb, flat, np.full(len(cloud), -1, np.int64), none, none, [], none, [], 0.0)
