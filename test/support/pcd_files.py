"""A writer of PCD files for the tests of their reader."""

from __future__ import annotations

import os

import numpy as np
from scipy.spatial.transform import Rotation

from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.fields import Fields, pack_rgb


def write_pcd(path: str | os.PathLike[str], cloud: Cloud, extra_fields: Fields | None = None) -> None:
    """Write a binary PCD: x y z, rgb where the cloud has colour, and ``extra_fields`` (name -> number array [N])."""
    write_bytes(path, format_pcd(cloud, extra_fields))


def format_pcd(cloud: Cloud, extra_fields: Fields | None = None) -> bytes:
    """A binary PCD: x y z, rgb packed in a float32 where the cloud has colour, then the extra columns in their own types.

    x y z are float32, or float64 where the cloud came in another frame.

    Raises:
        ValueError: an extra column does not have one plain number per point, or takes the name of x, y, z, rgb.
    """
    count = len(cloud)
    xyz = cloud.original()
    columns: Fields = {name: xyz[:, axis] for axis, name in enumerate("xyz")}
    if cloud.rgb is not None:
        columns["rgb"] = pack_rgb(cloud.rgb).view(np.float32)
    for name, column in (extra_fields or {}).items():
        if name in columns or name.split() != [name]:
            raise ValueError(f"extra field {name!r}: taken or not one word")
        if column.shape != (count,) or column.dtype.kind not in "fiu" or column.itemsize not in (1, 2, 4, 8):
            raise ValueError(f"extra field {name}: expected [{count}] of a plain number type, got {column.dtype} {column.shape}")
        columns[name] = column
    table = np.empty(count, [(name, column.dtype.newbyteorder("<")) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    height, width = cloud.shape or (1, count)
    lines = (
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(columns),
        "SIZE " + " ".join(str(c.itemsize) for c in columns.values()),
        "TYPE " + " ".join(c.dtype.kind.upper() for c in columns.values()),
        "COUNT " + " ".join("1" for _ in columns),
        f"WIDTH {width}",
        f"HEIGHT {height}",
        "VIEWPOINT " + " ".join(f"{value:.17g}" for value in _viewpoint(cloud)),
        f"POINTS {count}",
        "DATA binary",
    )
    return ("\n".join(lines) + "\n").encode() + table.tobytes()


def _viewpoint(cloud: Cloud) -> list[float]:
    """tx ty tz qw qx qy qz of the sensor, as far as the cloud knows it: where only the origin was moved, it does not."""
    if cloud.rotation is None or cloud.origin is None:
        return [0, 0, 0, 1, 0, 0, 0]
    x, y, z, w = Rotation.from_matrix(cloud.rotation).as_quat()
    return [*cloud.origin.tolist(), *(float(value) for value in (w, x, y, z))]
