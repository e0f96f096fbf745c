"""Ray casting against the triangles of a scene with Open3D's RaycastingScene (Embree).

Curved solids are hit where their triangles are, then the hit moves to the true surface, so that only their outlines are polygons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.compiled import compiled
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
        threads: to cast with; 0 = as many as the machine has.
    """

    def __init__(self, solids: Solids, materials: Sequence[Material | TexturedMesh] = (), threads: int = 0) -> None:
        import open3d as o3d  # seconds to import, and the commands show their help without it

        self._solids, self._threads, self._tensor = solids, threads, o3d.core.Tensor.from_numpy
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
        found = self._scene.cast_rays(self._tensor(_rays(origin, directions)), nthreads=self._threads)
        t, face, uv = found["t_hit"].numpy(), found["primitive_ids"].numpy(), found["primitive_uvs"].numpy()
        shape, tri, s = directions.shape, self._triangles, self._solids
        hits = Hits(
            t,
            np.full(len(t), -1, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.full(len(t), -1, np.int32),
            np.zeros(shape, np.float32),
        )
        _complete_hits(
            (directions, face, uv),
            (tri.solid, tri.first, tri.local, tri.normal, tri.curved),
            (s.kind, s.size, s.rotation),
            (hits.range, hits.solid, hits.normal, hits.local, hits.triangle, hits.weights),
        )
        return hits

    def first_solid(self, origin: ArrayLike, directions: Array) -> NDArray[np.int32]:
        """Index of the solid that each ray hits first, int32 [N]; -1 where it hits nothing. Arguments as in :meth:`cast`."""
        face = self._scene.cast_rays(self._tensor(_rays(origin, directions)), nthreads=self._threads)["primitive_ids"].numpy()
        hit = face < len(self._triangles.solid)
        return np.where(hit, self._triangles.solid[np.where(hit, face, 0)], -1)

    def blocked(self, origin: ArrayLike, targets: Array) -> NDArray[np.bool_]:
        """bool [N]: something stands between ``origin`` [3] and each of ``targets`` (float32 [N, 3]), more than 5 mm before the target."""
        way = targets - np.asarray(origin, np.float32)
        way *= 1 - np.float32(5e-3) / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), np.float32(5e-3))
        return self._scene.test_occlusions(self._tensor(_rays(origin, way)), tfar=1.0, nthreads=self._threads).numpy()


@compiled
def _complete_hits(rays, triangles, solids, hits):  # type: ignore[no-untyped-def]
    """Fill in what is known of hits; move those of curved surfaces onto them.

    A hit moves along its ray, with one step of Newton's method, from the triangle to the surface that the triangle stands for.

    Args:
        rays: directions float32 [N, 3], triangles that they hit uint32 [N], barycentric coordinates float32 [N, 2].
        triangles: solid, first, local, normal and curved of ``Triangles``.
        solids: kind, size and rotation of ``Solids``.
        hits: the attributes of ``Hits``, whose range is known; written.
    """
    directions, faces, uv = rays
    owner, first, corners, flat, curved = triangles
    kind, size, rotation = solids
    t, solid, normal, local, triangle, weights = hits
    x, way, gradient = np.empty(3), np.empty(3), np.empty(3)
    for k in range(len(t)):
        if not np.isfinite(t[k]):
            continue
        face, d = faces[k], directions[k]
        p = owner[face]
        turn = rotation[p]
        solid[k], triangle[k] = p, face - first[p]
        weights[k, 0], weights[k, 1], weights[k, 2] = 1 - uv[k, 0] - uv[k, 1], uv[k, 0], uv[k, 1]
        for i in range(3):
            x[i] = weights[k, 0] * corners[face, 0, i] + uv[k, 0] * corners[face, 1, i] + uv[k, 1] * corners[face, 2, i]
            normal[k, i] = flat[face, i]
        if curved[face]:
            for i in range(3):
                way[i] = d[0] * turn[0, i] + d[1] * turn[1, i] + d[2] * turn[2, i]
            value = _implicit(kind[p], size[p], x, gradient)
            steep = gradient[0] * way[0] + gradient[1] * way[1] + gradient[2] * way[2]
            step = -value / steep if steep != 0 else np.inf
            if abs(step) < _STEP:  # a ray that grazes the triangles may miss the surface
                for i in range(3):
                    x[i] += step * way[i]
                t[k] += step
                _implicit(kind[p], size[p], x, gradient)
            length = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
            for i in range(3):
                normal[k, i] = (turn[i, 0] * gradient[0] + turn[i, 1] * gradient[1] + turn[i, 2] * gradient[2]) / length
        sign = -1 if normal[k, 0] * d[0] + normal[k, 1] * d[1] + normal[k, 2] * d[2] > 0 else 1
        for i in range(3):
            local[k, i] = x[i]
            normal[k, i] *= sign


@compiled
def _implicit(kind, size, x, gradient):  # type: ignore[no-untyped-def]
    """The function that is 0 on an ellipsoid, or on the side of a frustum, at the local point ``x`` [3]; its gradient [3] is written."""
    if kind == ELLIPSOID:
        value = -1.0
        for i in range(3):
            value += (x[i] / size[i]) ** 2
            gradient[i] = x[i] / size[i] ** 2
        return value / 2
    slope = (size[1] - size[0]) / (2 * size[2])
    rho = max(np.hypot(x[0], x[1]), 1e-9)
    gradient[0], gradient[1], gradient[2] = x[0] / rho, x[1] / rho, -slope
    return rho - (size[0] + size[1]) / 2 - slope * x[2]


def _rays(origin: ArrayLike, directions: Array) -> Array:
    """float32 [N, 6] as Open3D takes them."""
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origin, directions
    return rays
