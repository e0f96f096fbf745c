"""The renderer: points to a depth buffer that records which point each pixel shows.

The nearest point wins a pixel, and among equally near ones the one with the lower index, whatever the number of threads. Colours and light
are added by :mod:`geoseg_ros.projection.shading`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.projection.cameras import Camera


@dataclass(frozen=True)
class Rendering:
    """Points as drawn by a camera.

    Attributes:
        index: int32 [H, W], the point shown at each pixel, -1 for none.
        depth: float32 [H, W], metres along the optical axis, infinite where there is none.
    """

    index: NDArray[np.int32]
    depth: NDArray[np.float32]

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
    if radius < 1:
        raise ValueError(f"radius: expected at least 1 pixel, got {radius}")
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
