"""The point cloud type of the package."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cloud:
    """Points in the order in which they came.

    Attributes:
        xyz: float32 [N, 3], metres, in the frame of the sensor. Invalid points (REP 117: NaN or infinite) stay in place.
        rgb: uint8 [N, 3] or None where the sensor has no colour.
        shape: (height, width) of an organised cloud, row-major, or None. height * width == N.
        origin: float64 [3], metres: position of the origin of ``xyz`` in the frame of the input, for points far from the origin of that
            frame; None: both origins are the same. Results are written in the frame of the input.
        rotation: float64 [3, 3], from the axes of ``xyz`` to those of the frame of the input, or None where they are the same.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None = None
    shape: tuple[int, int] | None = None
    origin: NDArray[np.float64] | None = None
    rotation: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise ValueError(f"xyz: expected [N, 3], got {self.xyz.shape}")
        if self.rgb is not None and self.rgb.shape != self.xyz.shape:
            raise ValueError(f"rgb: expected {self.xyz.shape}, got {self.rgb.shape}")
        if self.shape is not None and self.shape[0] * self.shape[1] != len(self.xyz):
            raise ValueError(f"shape: {self.shape} does not hold {len(self.xyz)} points")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Cloud:
        """Read a cloud file: PCD, PLY, NPY, NPZ or KITTI BIN, points in the order of the file, metres as stored.

        Args:
            path: file; its suffix gives the format.

        Raises:
            InputError: missing, empty, truncated or damaged file, no x/y/z, unknown suffix.
        """
        from geoseg_ros.io.cloud_files import read_cloud  # geometry may not import io when it is loaded

        return read_cloud(path)

    def __len__(self) -> int:
        return len(self.xyz)

    def pose(self) -> NDArray[np.float64] | None:
        """float64 [4, 4] from the frame of ``xyz`` to the frame of the input; None where they are the same."""
        if self.origin is None and self.rotation is None:
            return None
        matrix = np.eye(4)
        matrix[:3, :3] = matrix[:3, :3] if self.rotation is None else self.rotation
        matrix[:3, 3] = 0.0 if self.origin is None else self.origin
        return matrix

    def original(self) -> NDArray:
        """The points [N, 3] in the frame of the input: float64 where it differs from that of ``xyz``, else ``xyz`` itself."""
        matrix = self.pose()
        if matrix is None:
            return self.xyz
        with np.errstate(invalid="ignore"):
            return self.xyz.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]

    def valid(self) -> NDArray[np.bool_]:
        """bool [N]: the points whose three coordinates are finite."""
        return np.asarray(np.isfinite(self.xyz).all(axis=1))
