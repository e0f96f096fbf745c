"""Simulated sensors.

A spinning LiDAR measures positions only. A depth camera gives an organised cloud with registered colour, a terrestrial scanner a dense
coloured cloud of a whole room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.simulation.raycast import Hits
from geoseg_ros.simulation.render import Camera, develop, random_lights, shade
from geoseg_ros.simulation.rooms import Scene

Array = NDArray[np.floating]  # float32 throughout; numpy's own annotations often say wider


@dataclass(frozen=True)
class Pose:
    """Pose of a sensor in the world frame.

    Attributes:
        position: float32 [3], metres.
        rotation: float32 [3, 3]; the columns are the axes of the sensor.
    """

    position: Array
    rotation: Array


@dataclass(frozen=True)
class Scan:
    """A cloud in the sensor frame, and the surface that each point lies on.

    Attributes:
        cloud: N points.
        family: int16 [N], 0 = the room (or an invalid point).
        instance: int32 [N], 0 = the room (or an invalid point).
        part: int16 [N], index into ``shapes.PARTS``; -1 = invalid point.
    """

    cloud: Cloud
    family: NDArray[np.int16]
    instance: NDArray[np.int32]
    part: NDArray[np.int16]


@dataclass(frozen=True)
class Lidar:
    """A level spinning LiDAR; frame: x forward, y left, z up (REP 103). Points without an echo are left out; rings bottom to top.

    Attributes:
        rings, columns: beams and azimuth steps per turn.
        fov_low, fov_high: elevation of the lowest and highest ring, degrees.
        range_min, range_max: metres.
        noise: standard deviation of the range, metres.
        grazing: an echo is lost with probability exp(-cos(incidence) / grazing).
        lost: share of the echoes that are lost on any surface, 0 .. 1.
    """

    rings: int = 64
    columns: int = 1024
    fov_low: float = -38.0
    fov_high: float = 14.0
    range_min: float = 0.3
    range_max: float = 30.0
    noise: float = 0.008
    grazing: float = 0.04
    lost: float = 0.01

    def rays(self) -> Array:
        """Unit directions in the sensor frame, float32 [rings * columns, 3]; azimuth runs from -180 to 180 degrees, counter-clockwise."""
        return _ring_directions(tuple(np.linspace(self.fov_low, self.fov_high, self.rings)), self.columns).copy()

    def scan(self, scene: Scene, pose: Pose, rng: np.random.Generator) -> Scan:
        """Measure one turn; the sensor stands still meanwhile."""
        rays = self.rays()
        world = rays @ pose.rotation.T
        hits = scene.caster.cast(pose.position, world)
        keep = (hits.solid >= 0) & (hits.range > self.range_min) & (hits.range < self.range_max)
        keep &= rng.random(len(rays), np.float32) > _lost_echo_chance(hits, world, self.grazing) + np.float32(self.lost)
        rows = np.flatnonzero(keep)
        measured = hits.range[rows] + rng.normal(0, self.noise, len(rows)).astype(np.float32)
        xyz = (rays[rows] * measured[:, None]).astype(np.float32)
        return _scan(scene, Cloud(xyz), hits.solid[rows])


@dataclass(frozen=True)
class DepthCamera:
    """A structured-light camera; frame: optical, x right, y down, z forward (REP 103). Pixels without depth are NaN.

    Attributes:
        width, height, focal: pixels.
        z_min, z_max: metres.
        quantum: depth step in metres at 1 m; it grows with z^2 (Khoshelham and Elberink 2012, eq. 8).
        noise: standard deviation of the depth at 1 m, metres; grows with z^2.
        hole: share of the pixels at depth edges that have no depth.
        grazing: as for the LiDAR.
    """

    width: int = 320
    height: int = 240
    focal: float = 285.0
    z_min: float = 0.4
    z_max: float = 6.0
    quantum: float = 0.0014
    noise: float = 0.0012
    hole: float = 0.7
    grazing: float = 0.06

    def scan(self, scene: Scene, pose: Pose, rng: np.random.Generator, exposure: float = 1.5) -> Scan:
        """Measure one organised cloud with colour."""
        camera = Camera(pose.position, pose.rotation, self.width, self.height, self.focal)
        rays = camera.rays()
        world = rays @ pose.rotation.T
        hits = scene.caster.cast(pose.position, world)
        rgb = _colour(scene, pose, world, hits, rng, exposure)
        z = self._depth(hits, rays, world, rng)
        valid = np.isfinite(z)
        xyz = (rays * (z / rays[:, 2])[:, None]).astype(np.float32)
        return _scan(scene, Cloud(xyz, rgb, (self.height, self.width)), np.where(valid, hits.solid, -1))

    def _depth(self, hits: Hits, rays: Array, world: Array, rng: np.random.Generator) -> Array:
        z = np.where(hits.solid >= 0, hits.range * rays[:, 2], np.nan).astype(np.float32)
        grid = z.reshape(self.height, self.width)
        step = np.zeros(grid.shape, bool)
        across, down = np.abs(np.diff(grid, axis=1)) > 0.04 * grid[:, 1:], np.abs(np.diff(grid, axis=0)) > 0.04 * grid[1:]
        step[:, 1:] |= across
        step[:, :-1] |= across
        step[1:] |= down
        step[:-1] |= down
        lost = rng.random(len(z), np.float32) < _lost_echo_chance(hits, world, self.grazing)
        lost |= step.ravel() & (rng.random(len(z), np.float32) < np.float32(self.hole))
        noisy = z + rng.normal(0, self.noise, len(z)).astype(np.float32) * z * z
        quantum = np.float32(self.quantum) * z * z
        noisy = np.round(noisy / quantum) * quantum
        return np.where(lost | (z < self.z_min) | (z > self.z_max), np.float32(np.nan), noisy)


@dataclass(frozen=True)
class Scanner:
    """A terrestrial laser scanner with a camera: coloured panoramas from several stations, registered to the first, thinned evenly, as the
    clouds of S3DIS are. Frame of the first station: x forward, y left, z up (REP 103).

    Attributes:
        stations: places that the room is scanned from.
        step: angle between rays, degrees, in azimuth and elevation.
        fov_low, fov_high: elevation of the lowest and highest ring, degrees.
        range_max: metres. noise: standard deviation of the range, metres.
        spacing: one point is kept per cube of this side, metres.
        grazing: as for the LiDAR.
    """

    stations: int = 3
    step: float = 0.75
    fov_low: float = -75.0
    fov_high: float = 60.0
    range_max: float = 20.0
    noise: float = 0.002
    spacing: float = 0.02
    grazing: float = 0.03

    def rays(self) -> Array:
        """Unit directions in the sensor frame, float32 [rings * columns, 3]."""
        return _ring_directions(tuple(np.arange(self.fov_low, self.fov_high, self.step)), round(360 / self.step)).copy()

    def scan(self, scene: Scene, poses: Sequence[Pose], rng: np.random.Generator, exposure: float = 1.5) -> Scan:
        """Measure one cloud from all ``poses``, in the frame of the first."""
        rays, first = self.rays(), poses[0]
        xyz, rgb, solid = [], [], []
        for pose in poses:
            world = rays @ pose.rotation.T
            hits = scene.caster.cast(pose.position, world)
            keep = (hits.solid >= 0) & (hits.range < self.range_max)
            rows = np.flatnonzero(keep & (rng.random(len(rays), np.float32) > _lost_echo_chance(hits, world, self.grazing)))
            measured = hits.range[rows] + rng.normal(0, self.noise, len(rows)).astype(np.float32)
            xyz.append((pose.position + world[rows] * measured[:, None] - first.position) @ first.rotation)
            rgb.append(_colour(scene, pose, world, hits, rng, exposure)[rows])
            solid.append(hits.solid[rows])
        points = np.concatenate(xyz).astype(np.float32)
        kept = np.sort(np.unique(np.floor(points / self.spacing).astype(np.int32), axis=0, return_index=True)[1])
        return _scan(scene, Cloud(points[kept], np.concatenate(rgb)[kept]), np.concatenate(solid)[kept])


def _lost_echo_chance(hits: Hits, world: Array, grazing: float) -> Array:
    """Chance [N] that a surface gives no echo for the rays ``world`` [N, 3]: exp(-cos(incidence) / grazing)."""
    cosine = -np.einsum("ni,ni->n", hits.normal, world)
    return np.exp(-cosine / np.float32(grazing))


@lru_cache(8)
def _ring_directions(elevations: tuple[float, ...], columns: int) -> Array:
    """Unit directions of a full turn at elevations in degrees [R], float32 [R * columns, 3], ring by ring."""
    elevation, azimuth = np.meshgrid(np.radians(elevations), np.linspace(-np.pi, np.pi, columns, endpoint=False), indexing="ij")
    d = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return np.stack(d, axis=-1).reshape(-1, 3).astype(np.float32)


def _colour(scene: Scene, pose: Pose, world: Array, hits: Hits, rng: np.random.Generator, exposure: float) -> NDArray[np.uint8]:
    """uint8 [N, 3] of what the rays ``world`` [N, 3] hit, in the light of the room that the sensor stands in."""
    room = next((k for k, zone in enumerate(scene.zones) if pose.position[0] < zone[1]), 0)
    lights, ambient = random_lights(np.random.default_rng((min(scene.ids["room"]), room)), scene, room)  # of the room, not of the frame
    linear = shade(scene, pose.position, world, hits, lights, ambient)
    return develop(np.maximum(linear * (1 + rng.normal(0, 0.02, linear.shape).astype(np.float32)), 0), exposure)


def _scan(scene: Scene, cloud: Cloud, solid: NDArray[np.int32]) -> Scan:
    s, valid = scene.solids, solid >= 0
    return Scan(
        cloud,
        np.where(valid, s.family[solid], 0).astype(np.int16),
        np.where(valid, s.instance[solid], 0).astype(np.int32),
        np.where(valid, s.part[solid], -1).astype(np.int16),
    )


def level_pose(position: tuple[float, float, float], yaw: float) -> Pose:
    """A level sensor with x forward, z up, turned by ``yaw`` radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return Pose(np.array(position, np.float32), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32))


def optical_pose(position: tuple[float, float, float], yaw: float, pitch: float) -> Pose:
    """An optical frame that looks along ``yaw`` and down by ``pitch`` radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    return Pose(np.array(position, np.float32), np.stack([right, np.cross(forward, right), forward], axis=1).astype(np.float32))
