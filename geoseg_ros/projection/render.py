"""The renderer: points and triangles to a depth buffer that knows what each pixel shows.

It serves the views of proposals, meshes and the pictures for people alike. The nearest thing wins a pixel, and among equals the one with
the lower index, whatever the number of threads. Colours and light come afterwards (:mod:`geoseg_ros.projection.shading`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.projection.cameras import Camera

_ON_EDGE = -1e-9  # barycentric coordinate down to which a pixel's centre is on a triangle: no cracks between neighbours


@dataclass(frozen=True)
class Rendering:
    """What a camera sees.

    Attributes:
        index: int32 [H, W], the point or triangle shown at each pixel, -1 for none.
        depth: float32 [H, W], metres along the optical axis, infinite where there is none.
        weights: float32 [H, W, 3], barycentric coordinates on the triangle, None for points.
    """

    index: NDArray[np.int32]
    depth: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    @property
    def shown(self) -> NDArray[np.bool_]:
        """bool [H, W]: the pixels that show something."""
        return self.index >= 0


def render_points(camera: Camera, xyz: NDArray[np.floating], radius: int = 0, near: float = 0.0) -> Rendering:
    """Draw points as squares of pixels.

    Args:
        camera: where from.
        xyz: [N, 3], metres, world. Points that are not finite are left out.
        radius: pixels on each side of the middle one.
        near: points nearer than this many metres along the optical axis, or behind the camera, are left out.
    """
    xyz = _checked_points(xyz, "points")
    if radius < 0:
        raise ValueError(f"radius: expected pixels >= 0, got {radius}")
    index, depth = _empty(camera)
    _draw_points(xyz, _world_to_camera(camera), camera.intrinsics, camera.perspective, max(near, 0.0), radius, index, depth)
    return Rendering(index, depth)


def render_triangles(camera: Camera, vertices: NDArray[np.floating], triangles: NDArray[np.integer], near: float = 1e-3) -> Rendering:
    """Draw the triangles of a mesh; both sides are visible. Triangles that cross the near plane are cut there.

    Args:
        camera: where from.
        vertices: [N, 3], metres, world. Triangles with a vertex that is not finite are left out.
        triangles: int [F, 3], rows of ``vertices``.
        near: what is nearer than this many metres > 0 along the optical axis, or behind the camera, is left out.
    """
    vertices, triangles = _checked_points(vertices, "vertices"), _checked_triangles(triangles, len(vertices))
    if not near > 0:
        raise ValueError(f"near: expected metres > 0, got {near}")
    index, depth = _empty(camera)
    weights = np.zeros((*index.shape, 3), np.float32)
    corners = camera.to_camera(vertices)
    _draw_triangles(corners, triangles, camera.intrinsics, camera.perspective, near, index, depth, weights)
    return Rendering(index, depth, weights)


def interpolate(rendering: Rendering, triangles: NDArray[np.integer], values: NDArray, fill: float = 0.0) -> NDArray[np.float32]:
    """Values of vertices at the pixels of a rendered mesh, by barycentric coordinates.

    Args:
        rendering: of the mesh.
        triangles: int [F, 3], as they were rendered.
        values: [N, C], one row per vertex.
        fill: value of pixels that show nothing.

    Returns:
        float32 [H, W, C].
    """
    if rendering.weights is None:
        raise ValueError("rendering: expected one of triangles, got one of points")
    out = np.full((*rendering.index.shape, values.shape[1]), fill, np.float32)
    shown = rendering.shown
    corners = np.asarray(triangles)[rendering.index[shown]]
    out[shown] = sum(rendering.weights[shown, k, None] * values[corners[:, k]] for k in range(3))
    return out


def close_gaps(rendering: Rendering, camera: Camera, radius: int, hole: float = 0.0) -> Rendering:
    """Make the surfaces of drawn points solid without widening their silhouette, as a disc per point would do.

    First, points of a farther surface that show through the gaps of a nearer one go; then gaps of up to twice ``radius`` are closed
    (morphology), and enclosed holes filled. Every new pixel takes over what the nearest drawn pixel shows.

    Args:
        rendering: of points, each drawn to a single pixel.
        camera: that it was drawn with.
        radius: pixels, at least 1; half the distance of neighbouring points and more.
        hole: enclosed holes below this share of the drawn area are filled.
    """
    if radius < 1 or rendering.weights is not None:
        raise ValueError(f"expected a rendering of points and a radius of at least 1 pixel, got {radius}")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    nearest = cv2.erode(rendering.depth, disc, borderType=cv2.BORDER_CONSTANT, borderValue=float("inf"))
    slope = np.float32(3 * radius) * camera.pixel_size(np.where(rendering.shown, rendering.depth, np.float32(0)))
    front = rendering.shown & (rendering.depth <= nearest + slope)
    solid = cv2.morphologyEx(front.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - solid, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < hole * solid.sum()
    small[0] = False  # label 0 is the solid part itself
    inside = (solid > 0) | small[parts]
    _, label = cv2.distanceTransformWithLabels((~front).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    source = np.zeros(int(label.max()) + 1, np.int64)  # the drawn pixel of each label
    source[label[front]] = np.flatnonzero(front)
    source = source[label]
    index = np.where(inside, rendering.index.ravel()[source], np.int32(-1))
    depth = np.where(inside, rendering.depth.ravel()[source], np.float32(np.inf))
    return Rendering(index, depth)


def _empty(camera: Camera) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    shape = camera.size[::-1]
    return np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32)


def _world_to_camera(camera: Camera) -> NDArray[np.float64]:
    """float64 [3, 4]."""
    return np.asarray(np.column_stack([camera.rotation, -camera.rotation @ camera.position]), np.float64)


def _checked_points(xyz: NDArray[np.floating], name: str) -> NDArray[np.float64]:
    points: NDArray[np.float64] = np.ascontiguousarray(xyz, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) > np.iinfo(np.int32).max:
        raise ValueError(f"{name}: expected [N, 3], got {points.shape}")
    return points


def _checked_triangles(triangles: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    triangles = np.asarray(triangles)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles: expected integers [F, 3], got {triangles.dtype} {triangles.shape}")
    if len(triangles) and not 0 <= triangles.min() <= triangles.max() < count:
        raise ValueError(f"triangles: expected rows of the {count} vertices, got {triangles.min()} to {triangles.max()}")
    return np.ascontiguousarray(triangles, np.int64)


@compiled
def _draw_points(xyz, to_camera, intrinsics, perspective, near, radius, index, depth):  # type: ignore[no-untyped-def]
    """Fill index and depth, [H, W], of a camera ``to_camera`` [3, 4]; see :func:`render_points`."""
    height, width = index.shape
    margin = radius + 1.0
    for i in range(len(xyz)):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        far = to_camera[2, 0] * x + to_camera[2, 1] * y + to_camera[2, 2] * z + to_camera[2, 3]
        if not (near < far < np.inf):
            continue
        right = to_camera[0, 0] * x + to_camera[0, 1] * y + to_camera[0, 2] * z + to_camera[0, 3]
        down = to_camera[1, 0] * x + to_camera[1, 1] * y + to_camera[1, 2] * z + to_camera[1, 3]
        if perspective:
            right, down = right / far, down / far
        u = intrinsics[0, 0] * right + intrinsics[0, 1] * down + intrinsics[0, 2]
        v = intrinsics[1, 1] * down + intrinsics[1, 2]
        if not (-margin < u < width + margin and -margin < v < height + margin):
            continue
        column, row = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
        at = np.float32(far)
        for r in range(max(row - radius, 0), min(row + radius + 1, height)):
            for c in range(max(column - radius, 0), min(column + radius + 1, width)):
                if at < depth[r, c]:
                    depth[r, c], index[r, c] = at, i


@compiled
def _cross(a, b):  # type: ignore[no-untyped-def]
    """Cross product of two vectors [3], a tuple: no array is made."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled
def _pixel_bounds(corners, intrinsics, perspective, near, width, height):  # type: ignore[no-untyped-def]
    """Columns and rows (first, last, first, last) that the part of a triangle [3, 3] beyond the near plane may cover."""
    low_u, high_u, low_v, high_v = np.inf, -np.inf, np.inf, -np.inf
    for k in range(3):
        for step in range(2):  # the corner itself; the point where the edge to the next corner meets the near plane
            x, y, z = corners[k, 0], corners[k, 1], corners[k, 2]
            if step == 1:
                following = corners[(k + 1) % 3]
                if (z < near) == (following[2] < near):
                    continue
                share = (near - z) / (following[2] - z)
                x, y, z = x + share * (following[0] - x), y + share * (following[1] - y), near
            elif z < near:
                continue
            if perspective:
                x, y = x / z, y / z
            u, v = intrinsics[0, 0] * x + intrinsics[0, 1] * y + intrinsics[0, 2], intrinsics[1, 1] * y + intrinsics[1, 2]
            low_u, high_u, low_v, high_v = min(low_u, u), max(high_u, u), min(low_v, v), max(high_v, v)
    if not (low_u < width and high_u > -1 and low_v < height and high_v > -1):
        return 0, -1, 0, -1
    # a pixel more on each side: what lies on an edge belongs to the triangle
    first_u, last_u = int(max(np.ceil(low_u) - 1, 0)), int(min(np.floor(high_u) + 1, width - 1))
    return first_u, last_u, int(max(np.ceil(low_v) - 1, 0)), int(min(np.floor(high_v) + 1, height - 1))


@compiled
def _draw_triangles(vertices, triangles, intrinsics, perspective, near, index, depth, weights):  # type: ignore[no-untyped-def]
    """Fill index, depth and weights, [H, W, ...], of vertices in the camera's axes; see :func:`render_triangles`.

    Pixels are tested in homogeneous coordinates (Olano & Greer 1997), so triangles that reach behind the camera need no cutting.
    """
    height, width = index.shape
    corners, image = np.empty((3, 3)), np.empty((3, 3))
    for i in range(len(triangles)):
        for k in range(3):
            corners[k] = vertices[triangles[i, k]]
            w = corners[k, 2] if perspective else 1.0
            image[k, 0] = intrinsics[0, 0] * corners[k, 0] + intrinsics[0, 1] * corners[k, 1] + intrinsics[0, 2] * w
            image[k, 1] = intrinsics[1, 1] * corners[k, 1] + intrinsics[1, 2] * w
            image[k, 2] = w
        # pixel (u, v, 1) * w' = sum of barycentric_k * image_k, so barycentric_k / w' = edge_k . (u, v, 1) / determinant
        edge0, edge1, edge2 = _cross(image[1], image[2]), _cross(image[2], image[0]), _cross(image[0], image[1])
        determinant = image[0, 0] * edge0[0] + image[0, 1] * edge0[1] + image[0, 2] * edge0[2]
        if not 0 < abs(determinant) < np.inf:  # seen from its edge, or not finite
            continue
        first_u, last_u, first_v, last_v = _pixel_bounds(corners, intrinsics, perspective, near, width, height)
        for v in range(first_v, last_v + 1):
            for u in range(first_u, last_u + 1):
                a = (edge0[0] * u + edge0[1] * v + edge0[2]) / determinant
                b = (edge1[0] * u + edge1[1] * v + edge1[2]) / determinant
                c = (edge2[0] * u + edge2[1] * v + edge2[2]) / determinant
                total = a + b + c
                if not total > 0:
                    continue
                a, b, c = a / total, b / total, c / total
                if not (a >= _ON_EDGE and b >= _ON_EDGE and c >= _ON_EDGE):
                    continue
                far = a * corners[0, 2] + b * corners[1, 2] + c * corners[2, 2]
                at = np.float32(far)
                if far >= near and at < depth[v, u]:
                    depth[v, u], index[v, u] = at, i
                    weights[v, u, 0], weights[v, u, 1], weights[v, u, 2] = a, b, c
