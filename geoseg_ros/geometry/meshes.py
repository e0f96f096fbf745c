"""Triangle meshes of single objects: cleaning, thinning, sampling. Files are read by :mod:`geoseg_ros.io.mesh_files`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.neighbours import connected_parts

LEAST_FACES, MOST_FACES = 20, 1_000_000
_GRID_FIRST = 300_000  # faces; above, vertices are merged on a grid before edges are collapsed, which needs far more memory


@dataclass(frozen=True)
class Mesh:
    """V vertices and F triangles; metres, or the unit of the file.

    Attributes:
        vertices: float32 [V, 3].
        faces: int64 [F, 3], rows of ``vertices``; counter-clockwise from outside where the surface is oriented.
        colour: uint8 RGB [V, 3], or None.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    colour: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"mesh: expected vertices [V, 3] and faces [F, 3], got {self.vertices.shape} and {self.faces.shape}")
        if len(self.faces) and not (self.faces.min() >= 0 and self.faces.max() < len(self.vertices)):
            raise ValueError("mesh: a face names a vertex that does not exist")
        if self.colour is not None and self.colour.shape != self.vertices.shape:
            raise ValueError(f"mesh: expected a colour for each vertex, got {self.colour.shape}")

    def __len__(self) -> int:
        """Number of vertices."""
        return len(self.vertices)

    @property
    def diagonal(self) -> float:
        """Length of the diagonal of the bounding box."""
        return float(np.linalg.norm(self.vertices.max(axis=0) - self.vertices.min(axis=0)))

    def face_normals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unit normals [F, 3], zero for faces without area, and areas [F]."""
        corners = self.vertices.astype(np.float64)[self.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normal, axis=1)
        return normal / np.maximum(length, 1e-30)[:, None], length / 2

    def normals(self) -> NDArray[np.float32]:
        """Unit normals of the vertices float32 [V, 3], by area of their faces; zero where there is none."""
        normal, area = self.face_normals()
        total = np.zeros((len(self), 3))
        for corner in range(3):
            np.add.at(total, self.faces[:, corner], normal * area[:, None])
        return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)).astype(np.float32)

    def components(self) -> NDArray[np.int64]:
        """int64 [V]: the connected part of each vertex, ids from 0."""
        edges = np.concatenate([self.faces[:, :2], self.faces[:, 1:]])
        return connected_parts(len(self), edges)

    def finite(self) -> NDArray[np.bool_]:
        """bool [F]: faces whose corners are all finite."""
        return np.asarray(np.isfinite(self.vertices[self.faces]).all(axis=(1, 2)))

    def select(self, faces: NDArray[np.bool_]) -> Mesh:
        """The mesh of some faces (bool [F]), without the vertices that none of them uses."""
        kept = self.faces[faces]
        used, rows = np.unique(kept, return_inverse=True)
        return Mesh(self.vertices[used], rows.reshape(-1, 3).astype(np.int64), None if self.colour is None else self.colour[used])


def clean(mesh: Mesh, least_part: float = 0.02, name: str = "mesh") -> Mesh:
    """A mesh that distances can be measured on: what is not finite, has no area, or is a crumb is left out; equal vertices are one.

    Args:
        mesh: as read.
        least_part: connected parts with less than this share of the whole area are crumbs.
        name: for messages.

    Raises:
        InputError: fewer than LEAST_FACES faces are left, or more than MOST_FACES (then call :func:`decimate` before).
    """
    if len(mesh.faces) > MOST_FACES:
        raise InputError(f"{name}: {len(mesh.faces)} faces, expected at most {MOST_FACES}; thin it first")
    mesh = _merged(mesh.select(mesh.finite()))
    area = mesh.face_normals()[1]
    size = mesh.diagonal if len(mesh) else 0.0
    mesh = mesh.select(area > 1e-12 * size**2)
    if len(mesh.faces):
        part = mesh.components()[mesh.faces[:, 0]]
        areas = np.bincount(part, mesh.face_normals()[1])
        mesh = mesh.select((areas >= least_part * areas.sum())[part])
    if len(mesh.faces) < LEAST_FACES:
        raise InputError(f"{name}: {len(mesh.faces)} usable faces, expected at least {LEAST_FACES}")
    return mesh


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """At most about ``faces`` faces, by collapsing edges (Garland & Heckbert 1997); meshes with fewer are returned as they are.

    Very large meshes are merged on a grid first. Faces with vertices that are not finite are left out.
    """
    if len(mesh.faces) <= faces:
        return mesh
    mesh = mesh.select(mesh.finite())
    if len(mesh.faces) > max(_GRID_FIRST, 4 * faces):
        mesh = _on_grid(mesh, float(np.sqrt(2 * mesh.face_normals()[1].sum() / max(_GRID_FIRST, 4 * faces))))
    if len(mesh.faces) <= faces:
        return mesh
    import open3d as o3d

    solid = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    if mesh.colour is not None:
        solid.vertex_colors = o3d.utility.Vector3dVector(mesh.colour / 255.0)
    solid = solid.simplify_quadric_decimation(faces)
    colour = np.round(np.asarray(solid.vertex_colors) * 255).clip(0, 255).astype(np.uint8) if mesh.colour is not None else None
    return Mesh(np.asarray(solid.vertices, np.float32), np.asarray(solid.triangles, np.int64), colour)


def even(mesh: Mesh, vertices: int) -> Mesh:
    """A surface of about ``vertices`` vertices that lie evenly, whatever the triangles were like; for distances and descriptors.

    Long edges are divided, then the vertices of one grid cell are merged. Thin boards may become one sheet.
    """
    import trimesh

    area = float(mesh.face_normals()[1].sum())
    cell = np.sqrt(area / vertices)
    fine, faces, rows = trimesh.remesh.subdivide_to_size(
        mesh.vertices.astype(np.float64), mesh.faces, max_edge=cell, max_iter=30, return_index=True
    )
    colour = None
    if mesh.colour is not None:
        colour = np.zeros((len(fine), 3), np.uint8)
        colour[faces] = mesh.colour[mesh.faces[rows]].mean(axis=1).astype(np.uint8)[:, None]
    return _on_grid(Mesh(fine.astype(np.float32), np.asarray(faces, np.int64), colour), cell)


def sample_surface(mesh: Mesh, count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Points spread evenly over the surface by area.

    Returns:
        Points float32 [count, 3], the face of each int64 [count], and its barycentric coordinates float32 [count, 3].
    """
    rng = np.random.default_rng(seed)
    area = np.cumsum(mesh.face_normals()[1])
    if not len(area) or not area[-1] > 0:
        raise InputError("mesh: it has no surface")
    places = (np.arange(count) + rng.random(count)) / count * area[-1]  # stratified: few gaps
    face = np.minimum(np.searchsorted(area, places), len(area) - 1).astype(np.int64)
    root, other = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - other), root * other], axis=1)
    points = np.einsum("nk,nkc->nc", weights, mesh.vertices.astype(np.float64)[mesh.faces[face]])
    return points.astype(np.float32), face, weights.astype(np.float32)


def _merged(mesh: Mesh) -> Mesh:
    """Vertices at the same place made one, so that parts which touch at them are connected; faces that this makes flat are left out."""
    if not len(mesh):
        return mesh
    scale = max(mesh.diagonal, 1e-12) * 1e-6
    _, first, rows = np.unique(np.round(mesh.vertices.astype(np.float64) / scale), axis=0, return_index=True, return_inverse=True)
    return _kept(mesh, first, rows.reshape(-1)[mesh.faces])


def _on_grid(mesh: Mesh, cell: float) -> Mesh:
    """Vertices of one grid cell made one, at their mean."""
    low = mesh.vertices.min(axis=0)
    keys = np.floor((mesh.vertices - low) / (cell + 1e-12)).astype(np.int64)
    spans = keys.max(axis=0) + 1
    flat = (keys[:, 0] * spans[1] + keys[:, 1]) * spans[2] + keys[:, 2]
    _, first, rows, counts = np.unique(flat, return_index=True, return_inverse=True, return_counts=True)
    rows = rows.reshape(-1)
    mean = np.stack([np.bincount(rows, mesh.vertices[:, k].astype(np.float64)) for k in range(3)], axis=1) / counts[:, None]
    merged = mesh.vertices.copy()
    merged[first] = mean
    return _kept(Mesh(merged, mesh.faces, mesh.colour), first, rows[mesh.faces])


def _kept(mesh: Mesh, first: NDArray[np.int64], faces: NDArray[np.int64]) -> Mesh:
    """The vertices ``first`` and those renumbered faces that have three different ones, each once."""
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    faces = faces[whole]
    _, once = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.sort(once)].astype(np.int64)
    merged = Mesh(mesh.vertices[first], faces, None if mesh.colour is None else mesh.colour[first])
    return merged.select(np.ones(len(faces), bool))
