"""Procedural shapes as point sets whose labels are free: what point networks are pre-trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.extractor_training import LabelledShapes
from geoseg_ros.geometry.sampling import unit_sphere
from geoseg_ros.settings import Settings, setting
from geoseg_ros.simulation.families import FURNITURE
from geoseg_ros.simulation.solids import BOX, ELLIPSOID, FRUSTUM, QUAD, Solids

Array = NDArray[np.floating]
SOURCE = "procedural shapes, families as labels"
_FIRST, _FIRST_HELD_OUT = 1_000_000, 2_000_000  # seeds of the instances


@dataclass(frozen=True)
class ShapesConfig(Settings):
    """Procedural shapes for pre-training."""

    instances: int = setting(60, "instances of each family to learn from", range=(1, 100_000))
    held_out: int = setting(10, "further instances of each family, for the score", range=(1, 100_000))
    points: int = setting(2048, "points of a shape", range=(1, 1 << 20))


def sample_surface(solids: Solids, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points drawn uniformly by area from the surfaces of solids; parts of a surface inside another solid are drawn too.

    Returns:
        xyz float32 [count, 3] in the frame of the solids, and outward unit normals float32 [count, 3].
    """
    area = np.array([_AREA[int(k)](s.astype(np.float64)) for k, s in zip(solids.kind, solids.size, strict=True)])
    owner = rng.choice(len(solids), count, p=area / area.sum())
    local, normal = np.empty((count, 3)), np.empty((count, 3))
    for kind, draw in _DRAW.items():
        rows = solids.kind[owner] == kind
        if rows.any():
            local[rows], normal[rows] = draw(solids.size[owner[rows]].astype(np.float64), rng)
    rotation = solids.rotation[owner]
    xyz = np.einsum("nij,nj->ni", rotation, local) + solids.centre[owner]
    return xyz.astype(np.float32), np.einsum("nij,nj->ni", rotation, normal).astype(np.float32)


def shape(family: int, seed: int, count: int) -> tuple[Array, Array]:
    """One instance of family ``family`` (index into ``families.FURNITURE``) in the unit sphere: points and normals float32 [count, 3]."""
    rng = np.random.default_rng((family, seed))
    xyz, normal = sample_surface(FURNITURE.solids(FURNITURE.names[family], int(rng.integers(1 << 31))), count, rng)
    return unit_sphere(xyz)[0], normal


def make_shapes(instances: int, points: int, first_seed: int) -> LabelledShapes:
    """``instances`` of every family, of ``points`` points each, with seeds from ``first_seed`` on."""
    made = [shape(family, first_seed + k, points) for family in range(len(FURNITURE.names)) for k in range(instances)]
    xyz, normal = (torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*made, strict=True))
    return LabelledShapes(xyz, normal, torch.arange(len(FURNITURE.names)).repeat_interleave(instances), len(FURNITURE.names), SOURCE)


def pretraining_shapes(config: ShapesConfig) -> tuple[LabelledShapes, LabelledShapes]:
    """The shapes to learn from, and the held-out ones."""
    return make_shapes(config.instances, config.points, _FIRST), make_shapes(config.held_out, config.points, _FIRST_HELD_OUT)


def _box_area(s: Array) -> float:
    return float(8 * (s[0] * s[1] + s[1] * s[2] + s[0] * s[2]))


def _frustum_area(s: Array) -> float:
    return float(np.pi * (s[0] + s[1]) * np.hypot(s[0] - s[1], 2 * s[2]) + np.pi * (s[0] ** 2 + s[1] ** 2))


def _ellipsoid_area(s: Array) -> float:
    p = 1.6075  # Thomsen's approximation, within 1.1 %
    a, b, c = s**p
    return float(4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / p))


def _draw_box(s: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    face = np.stack([s[:, 1] * s[:, 2], s[:, 0] * s[:, 2], s[:, 0] * s[:, 1]], axis=1)
    axis = (rng.random(len(s))[:, None] * face.sum(axis=1, keepdims=True) > face.cumsum(axis=1)).sum(axis=1)
    sign = rng.choice([-1.0, 1.0], len(s))
    place = rng.uniform(-1, 1, s.shape)
    rows = np.arange(len(s))
    place[rows, axis] = sign
    normal = np.zeros(s.shape)
    normal[rows, axis] = sign
    return place * s, normal


def _draw_frustum(s: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    low, high, half = s.T
    slope = np.hypot(low - high, 2 * half)
    areas = np.stack([(low + high) * slope, low**2, high**2], axis=1)
    kind = (rng.random(len(s))[:, None] * areas.sum(axis=1, keepdims=True) > areas.cumsum(axis=1)).sum(axis=1)
    angle, u = rng.uniform(0, 2 * np.pi, len(s)), rng.random(len(s))
    # the radius of a point of the side is distributed like the radius of a ring: by the squares
    side = np.sqrt(u * high**2 + (1 - u) * low**2)
    flat = np.abs(high - low) < 1e-9
    along = np.where(flat, u, (side - low) / np.where(flat, 1, high - low))
    radius = np.choose(kind, [side, low * np.sqrt(u), high * np.sqrt(u)])
    z = np.choose(kind, [half * (2 * along - 1), -half, half])
    across = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    normal = np.concatenate([across * (2 * half / slope)[:, None], ((low - high) / slope)[:, None]], axis=1)
    cap = kind > 0
    normal[cap] = np.stack([0 * u, 0 * u, np.where(kind == 1, -1, 1)], axis=1)[cap]
    return np.concatenate([across * radius[:, None], z[:, None]], axis=1), normal


def _draw_ellipsoid(s: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    direction = np.empty(s.shape)
    left = np.arange(len(s))
    while len(left):  # rejection: a direction u of the unit sphere stands for |u / s| of the surface; at least half are kept on average
        tried = rng.normal(size=(len(left), 3))
        tried /= np.linalg.norm(tried, axis=1, keepdims=True)
        direction[left] = tried
        left = left[rng.random(len(left)) > np.linalg.norm(tried / s[left], axis=1) * s[left].min(axis=1)]
    normal = direction / s
    return direction * s, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _draw_quad(s: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    place = rng.uniform(-1, 1, s.shape) * s
    place[:, 2] = 0
    return place, np.tile([0.0, 0.0, 1.0], (len(s), 1))


_AREA = {BOX: _box_area, FRUSTUM: _frustum_area, ELLIPSOID: _ellipsoid_area, QUAD: lambda s: float(4 * s[0] * s[1])}
_DRAW = {BOX: _draw_box, FRUSTUM: _draw_frustum, ELLIPSOID: _draw_ellipsoid, QUAD: _draw_quad}
