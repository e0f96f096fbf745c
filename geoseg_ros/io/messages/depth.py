"""sensor_msgs/Image of depth with its sensor_msgs/CameraInfo to clouds."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages.buffers import MAX_PIXELS, MAX_POINTS, shown
from geoseg_ros.io.messages.images import image_from_message, pixel_plane

_ENCODINGS: dict[str, tuple[str, float]] = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}  # REP 118


def cloud_from_depth(
    depth: Any, info: Any, color: Any = None, topic: str = "depth", max_points: int = MAX_POINTS, max_pixels: int = MAX_PIXELS
) -> Cloud:
    """Back-project a rectified depth image: x = (u - cx) z / fx, y = (v - cy) z / fy, in the optical frame (REP 103).

    Args:
        depth: sensor_msgs/Image, 16UC1 (millimetres, 0 = nothing measured) or 32FC1 (metres) (REP 118).
        info: its sensor_msgs/CameraInfo. The pinhole is that of P (the rectified camera), or of K where P is zero.
        color: sensor_msgs/Image registered to the depth image, or None.

    Returns:
        An organised cloud of the size of the depth image; pixels without depth are NaN.

    Raises:
        InputError: another encoding, sizes that differ, no focal length, too many points.
    """
    if depth.encoding not in _ENCODINGS:
        raise InputError(f"{topic}: encoding {shown(depth.encoding)}, expected {', '.join(_ENCODINGS)}")
    kind, scale = _ENCODINGS[depth.encoding]
    with np.errstate(invalid="ignore"):  # signalling NaN
        z = pixel_plane(depth, kind, 1, topic, min(max_points, max_pixels)).astype(np.float32) * np.float32(scale)
    height, width = z.shape
    if (info.height, info.width) != (height, width):
        raise InputError(f"{topic}: {width} x {height}, expected the {info.width} x {info.height} of its camera_info")
    fx, _, cx, _, _, fy, cy, *_ = info.p
    if fx == 0:
        fx, _, cx, _, fy, cy, *_ = info.k
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise InputError(f"{topic}: camera_info has fx {fx}, fy {fy}, cx {cx}, cy {cy}, expected positive focal lengths")
    z[~(np.isfinite(z) & (z > 0))] = np.nan
    xyz = np.empty((height, width, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 becomes infinite or NaN, that is invalid
        xyz[..., 0] = z * ((np.arange(width) - cx) / fx).astype(np.float32)
        xyz[..., 1] = z * ((np.arange(height) - cy) / fy).astype(np.float32)[:, None]
    xyz[..., 2] = z
    rgb = None
    if color is not None:
        rgb = image_from_message(color, topic, max_pixels)
        if rgb.shape[:2] != (height, width):
            raise InputError(f"{topic}: colour image is {rgb.shape[1]} x {rgb.shape[0]}, expected {width} x {height} as the depth image")
        rgb = rgb.reshape(-1, 3)
    return Cloud(xyz.reshape(-1, 3), rgb, (height, width))
