"""Ray casting against the triangles of a scene with Open3D's RaycastingScene (Embree).

Curved solids are hit where their triangles are, then the hit moves to the true surface, so that only their outlines are polygons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.simulation.materials import Material
from geoseg_ros.simulation.meshes import TexturedMesh
from geoseg_ros.simulation.solids import ELLIPSOID, Solids
from geoseg_ros.simulation.tessellation import tessellate

Array = NDArray[np.floating]  # float32 throughout; numpy's own annotations often say wider

_STEP = 2e-3  # metres, the farthest that a hit is moved to a curved surface


@dataclass(frozen=True)
class Hits:
    """What each of N rays hit first.

    Attributes:
        range: float32 [N], metres along the unit direction; inf where nothing was hit.
        solid: int32 [N], index of the solid; -1 where nothing was hit.
        normal: float32 [N, 3], unit, turned towards the ray's origin; 0 where nothing was hit.
        local: float32 [N, 3], the hit in the frame of its solid; 0 where nothing was hit.
        triangle: int32 [N], index into the triangles of the solid; -1 where nothing was hit.
        weights: float32 [N, 3], barycentric coordinates of the hit in its triangle; 0 where nothing was hit.
    """

    range: Array
    solid: NDArray[np.int32]
    normal: Array
    local: Array
    triangle: NDArray[np.int32]
    weights: Array


class RayCaster:
    """Finds what rays hit. The result does not depend on the number of threads.

    Args:
        solids: of the scene.
        materials: of the solids; they hold the triangles of meshes.
    """

    def __init__(self, solids: Solids, materials: Sequence[Material | TexturedMesh] = ()) -> None:
        import open3d as o3d  # seconds to import, and the commands show their help without it

        self._solids, self._tensor = solids, o3d.core.Tensor.from_numpy
        self._triangles, corners = tessellate(solids, materials)
        # One thread builds the tree, so that it is always the same one: it decides between triangles at equal distance.
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=1)
        index = np.arange(3 * len(corners), dtype=np.uint32).reshape(-1, 3)
        self._scene.add_triangles(self._tensor(corners.reshape(-1, 3)), self._tensor(index))

    def cast(self, origin: ArrayLike, directions: Array) -> Hits:
        """The first hit of each ray.

        Args:
            origin: [3], where all rays start, metres.
            directions: float32 [N, 3], unit vectors.
        """
        found = self._scene.cast_rays(self._tensor(_rays(origin, directions)))
        t = found["t_hit"].numpy()
        hit = np.flatnonzero(np.isfinite(t))
        triangles, face = self._triangles, found["primitive_ids"].numpy()[hit]
        owner = triangles.solid[face]
        u, v = found["primitive_uvs"].numpy()[hit].T
        weight = np.stack([1 - u - v, u, v], axis=1)
        x = np.einsum("nk,nkj->nj", weight, triangles.local[face])
        n = triangles.normal[face]
        bent = np.flatnonzero(triangles.curved[face])
        n[bent], x[bent], t[hit[bent]] = self._on_curve(owner[bent], x[bent], t[hit[bent]], directions[hit[bent]])
        n[np.einsum("ni,ni->n", n, directions[hit]) > 0] *= -1
        empty = np.zeros_like(directions)
        hits = Hits(t, np.full(len(t), -1, np.int32), empty, empty.copy(), np.full(len(t), -1, np.int32), empty.copy())
        hits.solid[hit], hits.normal[hit], hits.local[hit] = owner, n, x
        hits.triangle[hit], hits.weights[hit] = face.astype(np.int32) - triangles.first[owner], weight
        return hits

    def first_solid(self, origin: ArrayLike, directions: Array) -> NDArray[np.int32]:
        """Index of the solid that each ray hits first, int32 [N]; -1 where it hits nothing. Arguments as in :meth:`cast`."""
        face = self._scene.cast_rays(self._tensor(_rays(origin, directions)))["primitive_ids"].numpy()
        hit = face < len(self._triangles.solid)
        return np.where(hit, self._triangles.solid[np.where(hit, face, 0)], -1)

    def blocked(self, origin: ArrayLike, targets: Array) -> NDArray[np.bool_]:
        """bool [N]: something stands between ``origin`` [3] and each of ``targets`` (float32 [N, 3]), more than 5 mm before the target."""
        way = targets - np.asarray(origin, np.float32)
        way *= 1 - np.float32(5e-3) / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), np.float32(5e-3))
        return self._scene.test_occlusions(self._tensor(_rays(origin, way)), tfar=1.0).numpy()

    def _on_curve(self, solid: NDArray[np.int32], x: Array, t: Array, directions: Array) -> tuple[Array, Array, Array]:
        """Move hits from the triangles to the curved surface that they stand for, along the rays, with one step of Newton's method.

        Args:
            solid: int32 [K], ellipsoids, and frustums hit on their sides.
            x: float32 [K, 3], hits in the frames of their solids.
            t: float32 [K], their ranges.
            directions: float32 [K, 3], unit, outer frame.

        Returns:
            Outward unit normal [K, 3] in the outer frame, x and t.
        """
        rotation = self._solids.rotation[solid]
        way = np.einsum("nij,ni->nj", rotation, directions)
        value, gradient = self._implicit(solid, x)
        steep = np.einsum("ni,ni->n", gradient, way)
        step = -value / np.where(np.abs(steep) < 1e-6, np.float32(1e-6), steep)
        step = np.where(np.abs(step) < _STEP, step, 0)  # a ray that grazes the triangles may miss the surface
        x = x + step[:, None] * way
        n = np.einsum("nij,nj->ni", rotation, self._implicit(solid, x)[1])
        return n / np.linalg.norm(n, axis=1, keepdims=True), x, t + step

    def _implicit(self, solid: NDArray[np.int32], x: Array) -> tuple[Array, Array]:
        """The function that is 0 on the curved surface, [K], and its gradient [K, 3], at local points ``x`` [K, 3]."""
        size = np.maximum(self._solids.size[solid], np.float32(1e-9))
        slope, radius = (size[:, 1] - size[:, 0]) / (2 * size[:, 2]), (size[:, 0] + size[:, 1]) / 2
        rho = np.maximum(np.hypot(x[:, 0], x[:, 1]), np.float32(1e-9))
        round_ = self._solids.kind[solid] == ELLIPSOID
        value = np.where(round_, (np.einsum("ni,ni->n", x / size, x / size) - 1) / 2, rho - radius - slope * x[:, 2])
        side = np.stack([x[:, 0] / rho, x[:, 1] / rho, -slope], axis=1)
        return value, np.where(round_[:, None], x / (size * size), side)


def _rays(origin: ArrayLike, directions: Array) -> Array:
    """float32 [N, 6] as Open3D takes them."""
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origin, directions
    return rays
