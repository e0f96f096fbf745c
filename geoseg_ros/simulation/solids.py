"""Solids as arrays: what a procedural scene is made of.

A local frame sits in the middle of every solid. ``size`` means, by kind:

==========  =====================================================================
BOX         half lengths along local x, y, z
FRUSTUM     radius at local z = -h, radius at z = +h, and h (a cylinder has equal radii, a cone one zero radius); capped
ELLIPSOID   half axes along local x, y, z
QUAD        half lengths along local x, y; a rectangle at local z = 0 (third value unused)
MESH        half lengths of the bounding box along local x, y, z; the triangles are those of the solid's material, a TexturedMesh
==========  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

BOX, FRUSTUM, ELLIPSOID, QUAD, MESH = range(5)


@dataclass(frozen=True)
class Solids:
    """P solids. Metres.

    Attributes:
        kind: int8 [P].
        size: float32 [P, 3], see the table above.
        rotation: float32 [P, 3, 3]; the columns are the local axes in the outer frame.
        centre: float32 [P, 3].
        part: int16 [P], index into ``shapes.PARTS``.
        instance: int32 [P], 0 = the room itself, 1 .. = objects.
        family: int16 [P], 0 = the room, else the id of ``families.Catalogue``.
        material: int32 [P], index into the materials of the scene (or of the object).
    """

    kind: NDArray[np.int8]
    size: NDArray[np.float32]
    rotation: NDArray[np.float32]
    centre: NDArray[np.float32]
    part: NDArray[np.int16]
    instance: NDArray[np.int32]
    family: NDArray[np.int16]
    material: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, rows: NDArray[np.bool_]) -> Solids:
        """The solids where ``rows`` (bool [P]) holds."""
        return Solids(*(getattr(self, f.name)[rows] for f in fields(Solids)))

    def radius(self) -> NDArray[np.float32]:
        """float32 [P]: radius of the bounding sphere around ``centre``."""
        s = self.size
        box = np.linalg.norm(s, axis=1)
        frustum = np.hypot(np.maximum(s[:, 0], s[:, 1]), s[:, 2])
        quad = np.hypot(s[:, 0], s[:, 1])
        return np.choose(self.kind, [box, frustum, s.max(axis=1), quad, box]).astype(np.float32)

    def half_extent(self) -> NDArray[np.float32]:
        """float32 [P, 3]: half lengths of the axis-aligned box around ``centre`` (of the oriented bounding box, so not always tight)."""
        s = self.size.copy()
        frustum = self.kind == FRUSTUM
        s[frustum, :2] = s[frustum, :2].max(axis=1, keepdims=True)
        s[self.kind == QUAD, 2] = 0
        return np.einsum("pij,pj->pi", np.abs(self.rotation), s)

    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(low, high), float32 [3] each: the axis-aligned box around all solids."""
        half = self.half_extent()
        return (self.centre - half).min(axis=0), (self.centre + half).max(axis=0)

    def moved(self, rotation: NDArray[np.float32], translation: ArrayLike) -> Solids:
        """The same solids after ``x -> rotation @ x + translation``."""
        turned = np.einsum("ij,pjk->pik", rotation, self.rotation).astype(np.float32)
        return replace(self, rotation=turned, centre=(self.centre @ rotation.T + np.asarray(translation)).astype(np.float32))


def concatenate(parts: Sequence[Solids]) -> Solids:
    """All solids of ``parts`` in order."""
    return Solids(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Solids)))


def yaw_matrix(yaw: float) -> NDArray[np.float32]:
    """float32 [3, 3]: turn by ``yaw`` radians about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def axis_matrix(axis: ArrayLike) -> NDArray[np.float32]:
    """float32 [3, 3]: a right-handed frame whose z column points along ``axis``; x stays horizontal."""
    z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[2]) > 0.99 else [0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1).astype(np.float32)


class Builder:
    """Collects solids in an object's frame: z up, the floor at z = 0, front towards +x."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ArrayLike, NDArray[np.float32], ArrayLike, int, int]] = []

    def add(
        self, kind: int, part: int, material: int, centre: ArrayLike, size: ArrayLike, rotation: NDArray[np.float32] | None = None
    ) -> None:
        """Add one solid; ``size`` as in the table of this module."""
        self._rows.append((kind, size, np.eye(3, dtype=np.float32) if rotation is None else rotation, centre, part, material))

    def box(self, part: int, material: int, centre: ArrayLike, lengths: ArrayLike, *, yaw: float = 0.0, pitch: float = 0.0) -> None:
        """A box with full ``lengths``; ``pitch`` leans its top towards -x (radians), then ``yaw`` turns it."""
        c, s = np.cos(-pitch), np.sin(-pitch)
        lean = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
        self.add(BOX, part, material, centre, np.asarray(lengths, np.float64) / 2, yaw_matrix(yaw) @ lean)

    def bar(self, part: int, material: int, start: ArrayLike, end: ArrayLike, width: float, depth: float) -> None:
        """A box-shaped bar from ``start`` to ``end``."""
        a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
        self.add(BOX, part, material, (a + b) / 2, (width / 2, depth / 2, np.linalg.norm(b - a) / 2), axis_matrix(b - a))

    def rod(self, part: int, material: int, start: ArrayLike, end: ArrayLike, radius: float, end_radius: float | None = None) -> None:
        """A cylinder or frustum from ``start`` to ``end``."""
        a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
        size = (radius, radius if end_radius is None else end_radius, np.linalg.norm(b - a) / 2)
        self.add(FRUSTUM, part, material, (a + b) / 2, size, axis_matrix(b - a))

    def ellipsoid(self, part: int, material: int, centre: ArrayLike, radii: ArrayLike, rotation: NDArray[np.float32] | None = None) -> None:
        """An ellipsoid with half axes ``radii``."""
        self.add(ELLIPSOID, part, material, centre, radii, rotation)

    def solids(self, family: int, instance: int = 0) -> Solids:
        """Everything added so far as arrays."""
        kind, size, rotation, centre, part, material = zip(*self._rows, strict=True)
        n = len(kind)
        return Solids(
            kind=np.array(kind, np.int8),
            size=np.array(size, np.float32).reshape(n, 3),
            rotation=np.array(rotation, np.float32).reshape(n, 3, 3),
            centre=np.array(centre, np.float32).reshape(n, 3),
            part=np.array(part, np.int16),
            instance=np.full(n, instance, np.int32),
            family=np.full(n, family, np.int16),
            material=np.array(material, np.int32),
        )
