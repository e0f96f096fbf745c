"""Posed frames as the recording of a depth camera."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from geoseg_ros.io.messages import CAMERA_INFO_TYPE, IMAGE_TYPE, TRANSFORMS_TYPE
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.io.recordings import RecordingWriter

SECOND = 10**9


def record_frames(
    path: Path,
    frames: Iterable[PosedFrame],
    tf: bool = True,
    color: bool = True,
    info: bool = True,
    late: int = 10_000_000,
    units: int = 1000,
) -> Path:
    """Write depth (16UC1, ``units`` per metre), camera_info, colour ``late`` nanoseconds after it, and /tf odom -> camera; one frame a
    second. Without ``tf`` the transforms are left out."""
    with RecordingWriter(path) as writer:
        types = writer.types.types
        for number, frame in enumerate(frames):
            stamp = (100 + number) * SECOND
            height, width = frame.depth.shape
            header = writer.header(stamp, "camera")
            if tf:
                x, y, z = frame.pose[:3, 3]
                turn = Rotation.from_matrix(frame.pose[:3, :3]).as_quat()
                place = types["geometry_msgs/msg/Transform"](
                    translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
                    rotation=types["geometry_msgs/msg/Quaternion"](**dict(zip("xyzw", map(float, turn), strict=True))),
                )
                entry = types["geometry_msgs/msg/TransformStamped"](writer.header(stamp, "odom"), "camera", place)
                writer.write_message("/tf", stamp, types[TRANSFORMS_TYPE]([entry]))
            if info:
                k = frame.intrinsics
                region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
                p = np.column_stack([k, np.zeros(3)]).ravel()
                about = types[CAMERA_INFO_TYPE](
                    header, height, width, "plumb_bob", np.zeros(5), k.ravel(), np.eye(3).ravel(), p, 0, 0, region
                )
                writer.write_message("/camera/depth/camera_info", stamp, about)
            pixels = np.nan_to_num(units * frame.depth).round().astype(np.uint16)
            depth = types[IMAGE_TYPE](header, height, width, "16UC1", 0, 2 * width, pixels.view(np.uint8).ravel())
            writer.write_message("/camera/depth/image", stamp, depth)
            if color:
                writer.write_image("/camera/color/image", stamp + late, "camera", frame.rgb)
    return path
