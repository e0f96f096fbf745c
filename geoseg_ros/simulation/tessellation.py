"""Triangles of solids.

Curved surfaces become polygons whose vertices lie as far outside the true surface as the middles of their sides lie inside. This distance
is at most ``DEVIATION``, and at most a four-hundredth of the radius, so that thin rods stay round. The noise of the simulated sensors is
larger at every range that they measure (the least is 0.19 mm, of the depth camera at 0.4 m). Only the tips of flat or long ellipsoids
deviate more, because their number of sides follows the middle one of the three half axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.simulation.materials import Material
from geoseg_ros.simulation.meshes import TexturedMesh
from geoseg_ros.simulation.solids import BOX, ELLIPSOID, FRUSTUM, MESH, QUAD, Solids

DEVIATION = 1e-4  # metres
_ROUND = 1 / 400  # largest deviation as a share of the radius


@dataclass(frozen=True)
class Triangles:
    """The surfaces of solids as T triangles, ordered by solid.

    Attributes:
        solid: int32 [T], index of the solid that the triangle belongs to.
        local: float32 [T, 3, 3], corners in the frame of the solid.
        normal: float32 [T, 3], unit, in the outer frame; of either side.
        curved: bool [T]: the triangle stands for a piece of a curved surface.
        first: int32 [P], index of the first triangle of each solid.
    """

    solid: NDArray[np.int32]
    local: NDArray[np.float32]
    normal: NDArray[np.float32]
    curved: NDArray[np.bool_]
    first: NDArray[np.int32]


def tessellate(solids: Solids, materials: Sequence[Material | TexturedMesh]) -> tuple[Triangles, NDArray[np.float32]]:
    """The triangles of all solids.

    Args:
        solids: P solids.
        materials: of the solids; a solid of kind MESH takes its triangles from there.

    Returns:
        The triangles, and their corners in the outer frame, float32 [T, 3, 3].
    """
    local, curved = [], []
    for kind, size, sides, material in zip(solids.kind, solids.size, _sides(solids), solids.material, strict=True):
        if kind == MESH:
            mesh = materials[material]
            assert isinstance(mesh, TexturedMesh)
            corners, bent = mesh.corners, np.zeros(len(mesh.corners), bool)
        else:
            unit, bent = _UNIT[int(kind)](int(sides))
            corners = _taper(unit, size) if kind == FRUSTUM else unit * size
        local.append(corners)
        curved.append(bent)
    counts = np.array([len(c) for c in local], np.int32)
    owner = np.repeat(np.arange(len(solids), dtype=np.int32), counts)
    corners = np.concatenate(local).astype(np.float32)
    world = np.einsum("tij,tkj->tki", solids.rotation[owner], corners) + solids.centre[owner, None]
    normal = np.cross(world[:, 1] - world[:, 0], world[:, 2] - world[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.float32(1e-20))
    first = (np.cumsum(counts) - counts).astype(np.int32)
    return Triangles(owner, corners, normal, np.concatenate(curved), first), world


def _sides(solids: Solids) -> NDArray[np.int32]:
    """int32 [P]: sides of the polygon that stands for a circle of the solid."""
    radius = np.where(solids.kind == FRUSTUM, solids.size[:, :2].max(axis=1), np.sort(solids.size, axis=1)[:, 1])
    sag = 2 * np.minimum(DEVIATION / np.maximum(radius, 1e-6), _ROUND)
    return (4 * np.ceil(np.pi / np.arccos(1 - sag) / 4)).astype(np.int32)


def _taper(unit: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    """The corners of a unit cylinder as those of a frustum."""
    corners = unit * np.array([1, 1, size[2]], np.float32)
    corners[..., :2] *= np.where(unit[..., 2:] < 0, size[0], size[1])
    return corners


def _balanced(sides: int) -> float:
    """Radius of the corners of a regular polygon that deviates from the unit circle as much outwards as inwards."""
    return 2 / (1 + np.cos(np.pi / sides))


@lru_cache
def _box(sides: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    quad, _ = _quad(sides)
    faces = []
    for axis in range(3):
        face = np.roll(quad, axis + 1, axis=2)  # the third coordinate, 0 so far, becomes coordinate ``axis``
        for sign in (-1, 1):
            moved = face.copy()
            moved[..., axis] = sign
            faces.append(moved)
    return np.concatenate(faces), np.zeros(12, bool)


@lru_cache
def _quad(sides: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    a, b, c, d = (-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)
    return np.array([(a, b, c), (a, c, d)], np.float32), np.zeros(2, bool)


@lru_cache
def _frustum(sides: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    low = np.stack([_balanced(sides) * np.cos(angle), _balanced(sides) * np.sin(angle), -np.ones(sides)], axis=1)
    high = low * (1, 1, -1)
    low_next, high_next = np.roll(low, -1, axis=0), np.roll(high, -1, axis=0)
    wall = np.concatenate([np.stack([low, low_next, high_next], axis=1), np.stack([low, high_next, high], axis=1)])
    middle = np.tile([0.0, 0.0, 1.0], (sides, 1))
    caps = np.concatenate([np.stack([-middle, low_next, low], axis=1), np.stack([middle, high, high_next], axis=1)])
    return np.concatenate([wall, caps]).astype(np.float32), np.repeat([True, False], 2 * sides)


@lru_cache
def _ellipsoid(sides: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    latitude, longitude = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1), np.linspace(0, 2 * np.pi, sides + 1)
    up, around = np.meshgrid(latitude, longitude, indexing="ij")
    grid = _balanced(sides) * np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=2)
    a, b, c, d = (g.reshape(-1, 3) for g in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]))
    faces = np.concatenate(
        [np.stack([a, b, c], axis=1)[sides:], np.stack([a, c, d], axis=1)[:-sides]]
    )  # one triangle per side at the poles
    return faces.astype(np.float32), np.ones(len(faces), bool)


_UNIT: dict[int, Callable[[int], tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {
    BOX: _box,
    QUAD: _quad,
    FRUSTUM: _frustum,
    ELLIPSOID: _ellipsoid,
}
