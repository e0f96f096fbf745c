"""Exact correspondences between instances of a simulated family: which place of one is which place of another.

A solid of one instance corresponds to the solid of another that has the same part and kind, and the same position among its like: left or
right, front or back, lower or higher, in groups of equal number. So left and right legs are distinguished by construction. Within a solid,
places correspond by their share of its lengths. What has no counterpart, or one hidden inside another solid, corresponds to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.iso_surface import iso_surface
from geoseg_ros.geometry.meshes import Mesh, clean, even
from geoseg_ros.simulation.families import FURNITURE, Catalogue
from geoseg_ros.simulation.materials import floor
from geoseg_ros.simulation.rooms import Scene
from geoseg_ros.simulation.shapes import BASE
from geoseg_ros.simulation.solids import BOX, ELLIPSOID, FRUSTUM, QUAD, Builder, Solids, concatenate

Floats = NDArray[np.floating]
Key = tuple[int, int, int, int, int, int]
FRONTED = ("chair", "office_chair", "armchair", "sofa", "bed", "toilet", "monitor", "cabinet", "drawer_unit", "bag")
"""Families of which one can see where front, left and right are."""
_TURNING = {("office_chair", BASE)}  # parts that stand at any angle
_MIDDLE = 0.12  # share of the half size within which a solid is neither left nor right, neither front nor back
_LEVEL = 0.03  # metres; solids of one group whose heights differ by less count as one level
_THICKER = 0.004  # metres that fused surfaces lie outside the true ones, so that thin boards do not vanish between values of the grid
_HIDDEN = 0.006  # metres inside another solid


@dataclass(frozen=True, eq=False)
class PartedObject:
    """One instance of a family in its own frame: z up, floor at 0, front towards +x; metres.

    Attributes:
        family: name. solids: P of them. scene: it alone on a floor, for pictures and scans; the object is instance 1.
    """

    family: str
    solids: Solids
    scene: Scene

    @cached_property
    def keys(self) -> list[Key | None]:
        """What each solid is known by among those of other instances; None where several are alike."""
        low, high = self.solids.bounds()
        offset = (self.solids.centre - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6)
        side = (np.sign(offset) * (np.abs(offset) > _MIDDLE)).astype(int)
        groups: dict[tuple[int, int, int, int], list[int]] = {}
        for k in range(len(self.solids)):
            if (self.family, int(self.solids.part[k])) not in _TURNING:
                group = (int(self.solids.part[k]), int(self.solids.kind[k] == ELLIPSOID), int(side[k, 0]), int(side[k, 1]))
                groups.setdefault(group, []).append(k)
        keys: list[Key | None] = [None] * len(self.solids)
        for group, members in groups.items():
            members.sort(key=lambda k: float(self.solids.centre[k, 2]))
            heights = self.solids.centre[members, 2]
            if len(members) == 1 or np.diff(heights).min() > _LEVEL:
                for rank, k in enumerate(members):
                    keys[k] = (*group, rank, len(members))
        return keys

    @property
    def diagonal(self) -> float:
        """Of the bounding box."""
        low, high = self.solids.bounds()
        return float(np.linalg.norm(high - low))

    def solid_at(self, xyz: Floats) -> NDArray[np.int64]:
        """int64 [N]: the solid whose surface is nearest to each point [N, 3]."""
        distance = np.stack([np.abs(signed_distance(self.solids, k, xyz)) for k in range(len(self.solids))])
        return distance.argmin(axis=0)

    def surface(self, vertices: int = 1500) -> Mesh:
        """One connected surface around all solids, as a good reconstruction gives it, with vertices that lie evenly."""
        cell = max(0.008, self.diagonal / 160)
        low, high = self.solids.bounds()
        low, high = low - 3 * cell, high + 3 * cell
        shape = np.ceil((high - low) / cell).astype(int) + 1
        axes = [low[i] + cell * np.arange(shape[i]) for i in range(3)]
        field = np.full(shape, 3 * cell)
        half = self.solids.half_extent() + 3 * cell
        for k in range(len(self.solids)):
            part = tuple(
                slice(*np.searchsorted(axes[i], (self.solids.centre[k, i] - half[k, i], self.solids.centre[k, i] + half[k, i])))
                for i in range(3)
            )
            grid = np.stack(np.meshgrid(*(axes[i][part[i]] for i in range(3)), indexing="ij"), axis=-1)
            near = signed_distance(self.solids, k, grid.reshape(-1, 3)).reshape(grid.shape[:3]) - _THICKER
            field[part] = np.minimum(field[part], near)
        return clean(even(iso_surface(field, low, cell), vertices), name=self.family)


def make_object(family: str, seed: int, texture_seed: int | None = None, catalogue: Catalogue = FURNITURE) -> PartedObject:
    """The instance of a family with these seeds. Raises InputError for an unknown family."""
    catalogue.check([family])
    solids = catalogue.solids(family, seed)
    texture = seed if texture_seed is None else texture_seed
    materials = catalogue.materials(family, texture)
    ground = Builder()
    ground.add(QUAD, 0, len(materials), (0, 0, 0), (8, 8, 0))
    scene = Scene(
        solids=concatenate([replace(solids, instance=np.ones(len(solids), np.int32)), ground.solids(0)]),
        materials=(*materials, floor(np.random.default_rng(texture))),
        objects=(),
        zones=((-3.0, 3.0, -3.0, 3.0),),
        height=2.6,
        ids={},
    )
    return PartedObject(family, solids, scene)


def corresponding(source: PartedObject, target: PartedObject, xyz: Floats) -> NDArray[np.float64]:
    """The places of the target that places on the source's surface correspond to, float64 [N, 3]; NaN where there is none.

    Args:
        xyz: [N, 3], on or near the surface of ``source``, in its frame.
    """
    xyz = np.asarray(xyz, np.float64)
    found = np.full(xyz.shape, np.nan)
    solid = source.solid_at(xyz)
    known = {key: k for k, key in enumerate(target.keys) if key is not None}
    for k in np.unique(solid):
        other = known.get(source.keys[k]) if source.keys[k] is not None else None
        if other is None:
            continue
        rows = solid == k
        local = (xyz[rows] - source.solids.centre[k]) @ source.solids.rotation[k]
        share = _shares(source.solids, int(k), local)
        placed = _places(target.solids, other, share) @ target.solids.rotation[other].T + target.solids.centre[other]
        hidden = target.solid_at(placed) != other  # where two surfaces coincide, whose place it is would be chance
        for j in range(len(target.solids)):
            if j != other:
                hidden |= signed_distance(target.solids, j, placed) < -_HIDDEN
        found[rows] = np.where(hidden[:, None], np.nan, placed)
    return found


def signed_distance(solids: Solids, k: int, xyz: Floats) -> NDArray[np.float64]:
    """Distances [N] of points [N, 3] from the surface of solid ``k``, negative inside; of ellipsoids to first order."""
    x = (np.asarray(xyz, np.float64) - solids.centre[k]) @ solids.rotation[k]
    size, kind = solids.size[k].astype(np.float64), solids.kind[k]
    if kind == ELLIPSOID:
        first, second = np.linalg.norm(x / size, axis=1), np.linalg.norm(x / size**2, axis=1)
        return np.where(second > 1e-6, first * (first - 1) / np.maximum(second, 1e-6), -size.min())
    if kind == FRUSTUM:
        return _from_frustum(np.hypot(x[:, 0], x[:, 1]), x[:, 2], *size)
    beyond = np.abs(x) - (size if kind == BOX else size * (1, 1, 0))
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


def _from_frustum(rho: Floats, z: Floats, low: float, high: float, half: float) -> NDArray[np.float64]:
    """Distance from a capped cone with radius ``low`` at -half and ``high`` at +half, as a trapezium in (rho, z)."""
    edge = np.array([high - low, 2 * half])
    point = np.stack([rho - low, z + half], axis=1)
    along = np.clip(point @ edge / (edge @ edge), 0, 1)
    wall = np.linalg.norm(point - along[:, None] * edge, axis=1)
    caps = [np.hypot(np.maximum(rho - r, 0), z - at) for r, at in ((low, -half), (high, half))]
    inside = (np.abs(z) < half) & (point[:, 0] * edge[1] - point[:, 1] * edge[0] < 0)
    distance = np.minimum(wall, np.minimum(*caps))
    return np.where(inside, -distance, distance)


def _shares(solids: Solids, k: int, local: Floats) -> NDArray[np.float64]:
    """Local places [N, 3] as angle, share of the way to the side, and share of the height; of ellipsoids as shares of the half axes."""
    size = solids.size[k].astype(np.float64)
    if solids.kind[k] == ELLIPSOID:
        return local / size
    z = local[:, 2] / np.maximum(size[2], 1e-9)
    if solids.kind[k] == FRUSTUM:
        radius = np.maximum(size[0] + (size[1] - size[0]) * (np.clip(z, -1, 1) + 1) / 2, 1e-9)
        across = local[:, :2] / radius[:, None]
        return np.stack([np.arctan2(across[:, 1], across[:, 0]), np.hypot(*across.T), z], axis=1)
    across = local[:, :2] / size[:2]
    return np.stack([np.arctan2(across[:, 1], across[:, 0]), np.abs(across).max(axis=1), z], axis=1)


def _places(solids: Solids, k: int, share: Floats) -> NDArray[np.float64]:
    """The inverse of :func:`_shares` for another solid."""
    size = solids.size[k].astype(np.float64)
    if solids.kind[k] == ELLIPSOID:
        return share * size
    angle, out, z = share.T
    way = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if solids.kind[k] == FRUSTUM:
        radius = size[0] + (size[1] - size[0]) * (np.clip(z, -1, 1) + 1) / 2
        return np.column_stack([way * (out * radius)[:, None], z * size[2]])
    way /= np.maximum(np.abs(way).max(axis=1, keepdims=True), 1e-9)
    return np.column_stack([way * out[:, None] * size[:2], z * size[2]])
