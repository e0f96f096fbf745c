"""The surface of one object from posed depth images and its mask in each. What was not seen stays open.

Many views: a truncated signed distance field (Curless & Levoy 1996). Few: Poisson's surface (Kazhdan & Hoppe 2013), cut where points are
thin; or an alpha shape (Edelsbrunner & Mücke 1994), which only joins neighbouring points. All by Open3D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.meshes import Mesh, clean, even
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.settings import Settings, setting

Way = Literal["auto", "tsdf", "poisson", "alpha"]
_MANY = 8  # views from which on "auto" takes the distance field
_LEAST = 200  # points of an object
_MOST_CELLS = 192  # along an edge of the distance field: 0.3 GB


@dataclass(frozen=True)
class ObjectMeshConfig(Settings):
    """How a surface is made."""

    way: Way = setting("auto", "tsdf, poisson or alpha; auto: tsdf from 8 views on, else alpha")
    voxel: float | None = setting(None, "edge of a cell; none: a 100th of the object's diagonal", unit="m", range=(1e-4, 1.0))
    erode: int = setting(1, "pixels at the border of a mask whose depth is not used", unit="pixels", range=(0, 100))
    trim: float = setting(0.08, "share of the vertices of Poisson's surface with the thinnest support that are cut off", range=(0.0, 0.9))
    vertices: int = setting(1500, "of the result, about", range=(50, 1_000_000))


@dataclass(frozen=True)
class MeshQuality:
    """What a surface is worth.

    Attributes:
        views: depth images that show the object. points: depth pixels in all.
        closed: 1 - length of open borders over the length of all edges; 1 = no hole.
        error: median distance of the surface's vertices to the nearest measured point, as a share of the diagonal.
        covered: share of the measured points within 2 % of the diagonal of the surface's vertices or 1.5 times their spacing.
        parts: connected parts.
    """

    views: int
    points: int
    closed: float
    error: float
    covered: float
    parts: int


def object_mesh(
    frames: Sequence[PosedFrame], masks: Sequence[NDArray[np.bool_]], config: ObjectMeshConfig | None = None
) -> tuple[Mesh, MeshQuality]:
    """Fuse what posed depth images show of one object.

    Args:
        frames: that may show it. masks: bool [H, W] of each, where it is; empty ones are left out.
        config: settings.

    Returns:
        The surface in the frame of the poses, coloured, and its quality.

    Raises:
        InputError: too few points of the object, or no usable surface.
    """
    config = config or ObjectMeshConfig()
    if len(frames) != len(masks):
        raise InputError(f"mesh of an object: {len(frames)} frames and {len(masks)} masks")
    inner = [_eroded(frame, mask, config.erode) for frame, mask in zip(frames, masks, strict=True)]
    used = [(frame, mask) for frame, mask in zip(frames, inner, strict=True) if mask.any()]
    xyz, rgb, normal = _measured(used)
    if len(xyz) < _LEAST:
        raise InputError(f"mesh of an object: {len(xyz)} depth pixels show it, expected at least {_LEAST}")
    diagonal = float(np.linalg.norm(np.ptp(np.quantile(xyz, [0.005, 0.995], axis=0), axis=0)))
    voxel = config.voxel or diagonal / 100
    way = config.way if config.way != "auto" else "tsdf" if len(used) >= _MANY else "alpha"
    mesh = _fused(used, xyz, voxel) if way == "tsdf" else _from_points(xyz, rgb, normal, voxel, way, config.trim)
    mesh = clean(even(mesh, config.vertices), name="mesh of an object")
    return mesh, quality_of(mesh, xyz, len(used))


def quality_of(mesh: Mesh, xyz: NDArray[np.floating], views: int) -> MeshQuality:
    """The figures of a surface made from points [N, 3]."""
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    edges, uses = np.unique(edges, axis=0, return_counts=True)
    length = np.linalg.norm(mesh.vertices[edges[:, 0]] - mesh.vertices[edges[:, 1]], axis=1)
    spacing = float(np.median(length))
    apart = cKDTree(xyz).query(mesh.vertices)[0]
    reach = max(0.02 * mesh.diagonal, 1.5 * spacing)
    covered = cKDTree(mesh.vertices).query(xyz[:: max(1, len(xyz) // 20_000)])[0] <= reach
    return MeshQuality(
        views=views,
        points=len(xyz),
        closed=float(1 - length[uses == 1].sum() / length.sum()),
        error=float(np.median(apart) / mesh.diagonal),
        covered=float(covered.mean()),
        parts=int(mesh.components().max()) + 1,
    )


def _eroded(frame: PosedFrame, mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask where there is depth, without its border, whose depth mixes object and background."""
    if mask.shape != frame.depth.shape:
        raise InputError(f"{frame.name}: mask of {mask.shape[1]} x {mask.shape[0]} pixels, depth of {frame.depth.shape[::-1]}")
    import cv2

    inner = cv2.erode(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8), borderValue=0).astype(bool) if pixels else mask
    return inner & np.isfinite(frame.depth) & (frame.depth > 0)


def _measured(
    used: Sequence[tuple[PosedFrame, NDArray[np.bool_]]],
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.float64]]:
    """Points [N, 3], colours [N, 3], and unit directions [N, 3] to the cameras that saw them."""
    points, colours, towards = [np.zeros((0, 3))], [np.zeros((0, 3), np.uint8)], [np.zeros((0, 3))]
    for frame, mask in used:
        v, u = np.nonzero(mask)
        rays = np.stack([u, v, np.ones(len(u))], axis=1) @ np.linalg.inv(frame.intrinsics).T
        xyz = rays * frame.depth[v, u, None] @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        way = frame.pose[:3, 3] - xyz
        points.append(xyz)
        colours.append(frame.rgb[v, u])
        towards.append(way / np.linalg.norm(way, axis=1, keepdims=True))
    return np.concatenate(points), np.concatenate(colours), np.concatenate(towards)


def _fused(used: Sequence[tuple[PosedFrame, NDArray[np.bool_]]], xyz: NDArray[np.float64], voxel: float) -> Mesh:
    """By a volume of fixed size: Open3D's growing one takes depth in metres for millimetres."""
    import open3d as o3d

    low, high = np.quantile(xyz, [0.001, 0.999], axis=0)
    length = float((high - low).max()) + 10 * voxel
    cells = min(math.ceil(length / voxel), _MOST_CELLS)
    voxel = length / cells
    colour = o3d.pipelines.integration.TSDFVolumeColorType.RGB8
    volume = o3d.pipelines.integration.UniformTSDFVolume(length, cells, 4 * voxel, colour, origin=(low + high - length) / 2)
    for frame, mask in used:
        height, width = frame.depth.shape
        depth: Any = np.where(mask, frame.depth, 0).astype(np.float32)
        rgb: Any = np.ascontiguousarray(frame.rgb)
        picture = o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(rgb),
            o3d.geometry.Image(depth),
            depth_scale=1.0,
            depth_trunc=float(depth.max()) + 1.0,
            convert_rgb_to_intensity=False,
        )
        k = frame.intrinsics
        lens = o3d.camera.PinholeCameraIntrinsic(width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        volume.integrate(picture, lens, np.linalg.inv(frame.pose))
    return _of_open3d(volume.extract_triangle_mesh())


def _from_points(
    xyz: NDArray[np.float64], rgb: NDArray[np.uint8], towards: NDArray[np.float64], voxel: float, way: str, trim: float
) -> Mesh:
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz))
    cloud.colors = o3d.utility.Vector3dVector(rgb / 255.0)
    cloud.normals = o3d.utility.Vector3dVector(towards)
    cloud = cloud.voxel_down_sample(voxel)
    cameras = np.asarray(cloud.normals).copy()
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(16))
    normal = np.asarray(cloud.normals)
    normal[(normal * cameras).sum(axis=1) < 0] *= -1
    cloud.normals = o3d.utility.Vector3dVector(normal)
    if way == "alpha":
        return _of_open3d(o3d.geometry.TriangleMesh.create_from_point_cloud_alpha_shape(cloud, 3 * voxel))
    mesh, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=7, n_threads=1)
    mesh.remove_vertices_by_mask(np.asarray(density) < np.quantile(np.asarray(density), trim))
    found = _of_open3d(mesh)
    near = cKDTree(xyz).query(found.vertices)[0] < 4 * voxel  # no surface where nothing was measured
    return found.select(near[found.faces].all(axis=1))


def _of_open3d(mesh: Any) -> Mesh:
    colour = np.asarray(mesh.vertex_colors)
    found = Mesh(
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.triangles, np.int64).reshape(-1, 3),
        np.round(colour * 255).clip(0, 255).astype(np.uint8) if len(colour) else None,
    )
    if not len(found.faces):
        raise InputError("mesh of an object: the depth images give no surface")
    return found
