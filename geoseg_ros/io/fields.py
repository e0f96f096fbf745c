"""Named per-point columns, as PCD and PLY files hold them, to a :class:`Cloud`."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.geometry.cloud import Cloud

Fields = dict[str, NDArray]

_FAR, _FARTHEST = 4096.0, 1e9  # metres; float32 has half a millimetre at the first, and no place has coordinates beyond the second
_UNIT = 2.0  # floats up to it are colour from 0 to 1 with some values above, larger ones from 0 to 255
_NUMBERS = re.compile(rb"[-+]?(?:nan\([^)\s]*\)|1\.#\w+)", re.IGNORECASE)  # as C libraries of Windows write what is no number
CHANNELS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


def cloud_from_fields(
    fields: Fields, shape: tuple[int, int] | None, source: str, pose: NDArray[np.float64] | None = None
) -> tuple[Cloud, Fields]:
    """Split columns into a cloud and the rest.

    Args:
        fields: name -> array [N] (or [N, count]) of any real type. Colour is ``rgb`` / ``rgba`` packed in 32 bits, or three
            channels (red green blue | r g b), uint8, uint16, or float in 0..1.
        shape: (height, width) or None.
        source: file name for errors.
        pose: of the sensor, see :func:`make_cloud`.

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
    xyz = np.stack([rest.pop(name) for name in "xyz"], axis=1)
    rgb = None
    packed = next((name for name in ("rgb", "rgba") if name in rest and rest[name].ndim == 1 and rest[name].itemsize == 4), None)
    channels = next((names for names in CHANNELS if all(name in rest and rest[name].ndim == 1 for name in names)), None)
    if packed:
        rgb = unpack_rgb(rest.pop(packed).view(np.uint32))
    elif channels:
        rgb = colour_bytes(np.stack([rest.pop(name) for name in channels], axis=1), f"{source}: colour")
    return make_cloud(xyz, rgb, shape, pose), rest


def to_float32(values: NDArray) -> NDArray[np.float32]:
    """A C-contiguous float32 copy; what does not fit becomes infinite, which marks an invalid point."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values, np.float32, order="C")


def far_origin(xyz: NDArray) -> NDArray[np.float64] | None:
    """Where to move the origin of points that lie far from it (UTM, map frames), so that float32 holds their millimetres.

    Args:
        xyz: [..., 3] of any number type.

    Returns:
        float64 [3], whole metres near the middle of the points; None where they are near the origin as it is.
    """
    flat = xyz.reshape(-1, 3)
    with np.errstate(invalid="ignore"):  # signalling NaN
        sample = np.asarray(flat[:: max(1, len(flat) // 10_000)], np.float64)
    sample = sample[np.isfinite(sample).all(axis=1)]
    if not len(sample):
        return None
    middle = np.round(np.median(sample, axis=0))
    largest = float(np.abs(middle).max())
    return middle if _FAR < largest < _FARTHEST else None


def make_cloud(
    xyz: NDArray, rgb: NDArray[np.uint8] | None, shape: tuple[int, int] | None, pose: NDArray[np.float64] | None = None
) -> Cloud:
    """A cloud of points [N, 3] of any number type.

    Args:
        pose: float64 [4, 4] of the sensor in the frame of ``xyz``: the cloud will be in the sensor's frame. None: it is in the frame of
            ``xyz``, whose origin is moved where the points lie far from it, see :attr:`Cloud.origin`.
    """
    turn = shift = None
    if pose is not None:
        turn, shift = pose[:3, :3], pose[:3, 3]
        with np.errstate(over="ignore", invalid="ignore"):
            xyz = (np.asarray(xyz, np.float64) - shift) @ turn
    origin = far_origin(xyz)
    if origin is not None:
        xyz = np.asarray(xyz, np.float64) - origin
        shift = origin if turn is None or shift is None else shift + turn @ origin
    return Cloud(to_float32(xyz), rgb, shape, shift, turn)


def unpack_rgb(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """uint32 [N] 0xAARRGGBB (PCL, sensor_msgs) to uint8 [N, 3]."""
    little = np.ascontiguousarray(packed, "<u4").view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(little[:, 2::-1])


def pack_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """uint8 [N, 3] to uint32 [N] 0x00RRGGBB."""
    little = np.zeros((len(rgb), 4), np.uint8)
    little[:, 2::-1] = rgb
    return little.view("<u4").reshape(-1).astype(np.uint32)


def used_bits(top: float) -> int:
    """Bits of the range that values up to ``top`` use: 8, 10, 12, 14 or 16; cameras write fewer than 16 bits into 16."""
    return next((bits for bits in (8, 10, 12, 14) if top < 2**bits), 16)


def to_bytes(values: NDArray, name: str, warn: Callable[[str], None] = warn) -> NDArray[np.uint8]:
    """Pixels of any type to uint8, from the range that is used; 16-bit integers lose their lower bits."""
    if _is_16_bit(values):
        bits = used_bits(float(values.max(initial=0)))
        if bits < 16:
            warn(f"{name}: 16-bit values use {bits} bits only, taken as {bits}-bit ones")
        return (values >> (bits - 8)).astype(np.uint8)
    return colour_bytes(values, name, warn)


def _is_16_bit(values: NDArray) -> bool:
    return values.dtype.kind == "u" and values.dtype.itemsize == 2  # of either byte order


def colour_bytes(values: NDArray, name: str = "colour", warn: Callable[[str], None] = warn) -> NDArray[np.uint8]:
    """Colour of any number type to uint8, from the range that is used.

    Floats up to 1 (or a little more) are scaled by 255. Values up to 255 stay; larger ones are scaled from 10, 12, 14 or 16 bits.

    Args:
        values: any shape.
        name: for warnings.
        warn: gets a line where the range is not that of the type.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    scaled = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    top = float(scaled.max(initial=0.0))
    if values.dtype.kind == "f" and top <= _UNIT:
        if top > 1.001:
            warn(f"{name}: floats up to {top:.4g}, taken as 0 .. 1 and cut there")
        scaled *= 255.0
    elif top >= 256.0:  # 255.3 is 255 and rounding
        bits = used_bits(top)
        if bits < 16 or not _is_16_bit(values):
            warn(f"{name}: values up to {top:.5g}, taken as {bits}-bit ones")
        scaled *= 255.0 / (2**bits - 1)
    elif _is_16_bit(values) and top > 0:
        warn(f"{name}: 16-bit values up to {top:.0f}, taken as 0 .. 255")
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
    text = _NUMBERS.sub(_plain_number, text)
    try:
        table = np.loadtxt(BytesIO(text), dtype=np.float64, ndmin=2, skiprows=skip, max_rows=rows, comments=None)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: expected {columns} numbers a line: {_one_line(error)}") from None
    if table.shape[1] != columns:
        raise InputError(f"{source}: {table.shape[1]} numbers a line, expected {columns}")
    if len(table) != rows:
        raise InputError(f"{source}: truncated: {len(table)} points, {rows} declared")
    return table


def _plain_number(found: re.Match[bytes]) -> bytes:
    word = found[0].upper()
    if b"#INF" not in word:
        return b"nan"
    return b"-inf" if word.startswith(b"-") else b"inf"


def typed_column(values: NDArray[np.float64], dtype: DTypeLike) -> NDArray:
    """Parsed numbers to the declared type; what does not fit wraps or becomes infinite instead of failing."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.dtype(dtype).kind in "iu":
            return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.int64).astype(dtype)
        return values.astype(dtype)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
