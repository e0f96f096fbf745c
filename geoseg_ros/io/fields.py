"""Named per-point columns, as PCD and PLY files hold them, to a :class:`Cloud`."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud

Fields = dict[str, NDArray]

_CHANNELS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


def cloud_from_fields(fields: Fields, shape: tuple[int, int] | None, source: str) -> tuple[Cloud, Fields]:
    """Split columns into a cloud and the rest.

    Args:
        fields: name -> array [N] (or [N, count]) of any real type. Colour is ``rgb`` / ``rgba`` packed in 32 bits, or three
            channels (red green blue | r g b), uint8, uint16, or float in 0..1.
        shape: (height, width) or None.
        source: file name for errors.

    Returns:
        The cloud, and the columns that are neither position nor colour.

    Raises:
        InputError: x, y or z is missing or not one number per point.
    """
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise InputError(f"{source}: no field {', '.join(missing)}; expected x, y, z, found {', '.join(fields) or 'none'}")
    if any(fields[name].ndim != 1 for name in "xyz"):
        raise InputError(f"{source}: fields x, y, z: expected one value per point")
    rest = dict(fields)
    xyz = np.empty((len(rest["x"]), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite, which marks an invalid point
        for axis, name in enumerate("xyz"):
            xyz[:, axis] = rest.pop(name)
    rgb = None
    packed = next((name for name in ("rgb", "rgba") if name in rest and rest[name].ndim == 1 and rest[name].itemsize == 4), None)
    channels = next((names for names in _CHANNELS if all(name in rest and rest[name].ndim == 1 for name in names)), None)
    if packed:
        rgb = unpack_rgb(rest.pop(packed).view(np.uint32))
    elif channels:
        rgb = colour_bytes(np.stack([rest.pop(name) for name in channels], axis=1))
    return Cloud(xyz, rgb, shape), rest


def to_float32(values: NDArray) -> NDArray[np.float32]:
    """A C-contiguous float32 copy; what does not fit becomes infinite, which marks an invalid point."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values, np.float32, order="C")


def unpack_rgb(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """uint32 [N] 0xAARRGGBB (PCL, sensor_msgs) to uint8 [N, 3]."""
    little = np.ascontiguousarray(packed, "<u4").view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(little[:, 2::-1])


def pack_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """uint8 [N, 3] to uint32 [N] 0x00RRGGBB."""
    little = np.zeros((len(rgb), 4), np.uint8)
    little[:, 2::-1] = rgb
    return little.view("<u4").reshape(-1).astype(np.uint32)


def colour_bytes(values: NDArray) -> NDArray[np.uint8]:
    """Colour of any type to uint8: 16-bit integers are scaled by 1/257; floats by 255 where none exceeds 1; others are clipped."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    scaled = np.nan_to_num(values.astype(np.float64), posinf=255.0, neginf=0.0)
    if values.dtype == np.uint16:
        scaled /= 257.0
    elif values.dtype.kind == "f" and scaled.max(initial=0.0) <= 1.0:
        scaled *= 255.0
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def parse_table(text: bytes, rows: int, columns: int, source: str, skip: int = 0) -> NDArray[np.float64]:
    """The numbers of an ASCII body, float64 [rows, columns], after ``skip`` lines.

    Raises:
        InputError: fewer rows than declared, a row of another length, or something that is no number.
    """
    # a number takes a character and a separator: refuse before anything is allocated
    if 2 * rows * columns > len(text) + 1:
        raise InputError(f"{source}: truncated: {rows} points declared, but the file has only {len(text)} bytes of data")
    if rows == 0:
        return np.zeros((0, columns))
    if text.isspace():
        raise InputError(f"{source}: truncated: no numbers, {rows} points declared")
    try:
        table = np.loadtxt(BytesIO(text), dtype=np.float64, ndmin=2, skiprows=skip, max_rows=rows, comments=None)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: expected {columns} numbers a line: {_one_line(error)}") from None
    if table.shape[1] != columns:
        raise InputError(f"{source}: {table.shape[1]} numbers a line, expected {columns}")
    if len(table) != rows:
        raise InputError(f"{source}: truncated: {len(table)} points, {rows} declared")
    return table


def typed_column(values: NDArray[np.float64], dtype: DTypeLike) -> NDArray:
    """Parsed numbers to the declared type; what does not fit wraps or becomes infinite instead of failing."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.dtype(dtype).kind in "iu":
            return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.int64).astype(dtype)
        return values.astype(dtype)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
