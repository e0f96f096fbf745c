"""PCD files (Point Cloud Library, versions 0.5 to 0.7): ascii, binary, binary_compressed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.io.fields import Fields, parse_table, typed_column

_HEADER_BYTES = 1 << 16
_LARGEST_POINT = 1 << 20  # bytes
_TYPES = {"F": "f", "U": "u", "I": "i"}


@dataclass(frozen=True)
class _Header:
    names: list[str]
    dtypes: list[np.dtype]
    counts: list[int]
    width: int
    height: int
    points: int
    data: str
    body: int  # byte at which the points start
    pose: NDArray[np.float64] | None  # [4, 4] of the sensor, None for the identity


def parse_pcd(content: bytes, source: str) -> tuple[Fields, tuple[int, int] | None, NDArray[np.float64] | None]:
    """Columns, (height, width) of an organised cloud (height > 1), and the sensor's pose (VIEWPOINT) of a PCD file's bytes.

    The pose is float64 [4, 4], or None where it is the identity.

    Raises:
        InputError: the header is wrong, or the data are fewer than declared or damaged.
    """
    header = _parse_header(content, source)
    body = memoryview(content)[header.body :]
    point_size = sum(d.itemsize * c for d, c in zip(header.dtypes, header.counts, strict=True))
    if min(header.counts) < 1 or point_size > _LARGEST_POINT:
        raise InputError(f"{source}: PCD header: COUNT: expected at least 1 each and at most {_LARGEST_POINT} bytes per point")
    if header.data == "ascii":
        columns = _ascii_columns(header, body, source)
    elif header.data == "binary":
        if len(body) < header.points * point_size:
            raise InputError(f"{source}: truncated: {header.points} points of {point_size} bytes declared, {len(body)} bytes follow")
        columns = _interleaved_columns(header, body)
    else:
        columns = _compressed_columns(header, body, header.points * point_size, source)
    fields = {name: column for name, column in zip(header.names, columns, strict=True) if name != "_"}  # "_" is PCL's padding
    return fields, (header.height, header.width) if header.height > 1 else None, header.pose


def _parse_header(content: bytes, source: str) -> _Header:
    entries: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in entries:
        end = content.find(b"\n", position, _HEADER_BYTES)
        if end < 0:
            raise InputError(f"{source}: no PCD header that ends with a DATA line")
        words = content[position:end].decode("ascii", "replace").split()
        position = end + 1
        if words and not words[0].startswith("#"):
            entries["FIELDS" if words[0] == "COLUMNS" else words[0]] = words[1:]

    def integers(key: str, default: list[int] | None = None) -> list[int]:
        try:
            values = [int(word) for word in entries[key]]
        except KeyError:
            if default is not None:
                return default
            raise InputError(f"{source}: PCD header has no {key} line") from None
        except ValueError:
            raise InputError(f"{source}: PCD header, {key}: expected whole numbers, got {' '.join(entries[key])[:60]}") from None
        if not values or min(values) < 0:
            raise InputError(f"{source}: PCD header, {key}: expected whole numbers >= 0")
        return values

    names = entries.get("FIELDS", [])
    sizes = integers("SIZE")
    kinds = entries.get("TYPE", [])
    counts = integers("COUNT", [1] * len(names))
    if not names or not len(names) == len(sizes) == len(kinds) == len(counts):
        raise InputError(f"{source}: PCD header: FIELDS, SIZE, TYPE, COUNT differ in length")
    dtypes = []
    for name, kind, size in zip(names, kinds, sizes, strict=True):
        if kind not in _TYPES or size not in ((4, 8) if kind == "F" else (1, 2, 4, 8)):
            raise InputError(f"{source}: PCD header: field {name} has TYPE {kind} SIZE {size}; expected F 4|8, or I or U 1|2|4|8")
        dtypes.append(np.dtype(f"<{_TYPES[kind]}{size}"))
    width = integers("WIDTH" if "WIDTH" in entries else "POINTS")[0]
    height = integers("HEIGHT", [1])[0]
    points = integers("POINTS", [width * height])[0]
    if points != width * height:
        raise InputError(f"{source}: PCD header: POINTS {points} is not WIDTH {width} x HEIGHT {height}")
    data = " ".join(entries["DATA"])
    if data not in ("ascii", "binary", "binary_compressed"):
        raise InputError(f"{source}: PCD header: DATA {data[:40]!r}; expected ascii, binary or binary_compressed")
    return _Header(names, dtypes, counts, width, height, points, data, position, _pose(entries.get("VIEWPOINT", []), source))


def _pose(words: list[str], source: str) -> NDArray[np.float64] | None:
    """[4, 4] of VIEWPOINT tx ty tz qw qx qy qz; None for the identity, and with a warning for what is no pose."""
    if not words:
        return None
    try:
        shift, turn = np.array([float(word) for word in words[:3]]), np.array([float(word) for word in words[3:]])
        length = float(np.linalg.norm(turn))
        if len(shift) != 3 or len(turn) != 4 or not (np.isfinite(shift).all() and 0.5 < length < 2.0):
            raise ValueError
    except ValueError:
        warn(f"{source}: VIEWPOINT {' '.join(words)[:80]} is no pose (tx ty tz qw qx qy qz), taken as none")
        return None
    matrix = np.eye(4)
    w, x, y, z = turn / length
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = shift
    return None if np.array_equal(matrix, np.eye(4)) else matrix


def _ascii_columns(header: _Header, body: memoryview, source: str) -> list[NDArray]:
    table = parse_table(bytes(body), header.points, sum(header.counts), source)
    columns = []
    first = 0
    for name, dtype, count in zip(header.names, header.dtypes, header.counts, strict=True):
        values = table[:, first : first + count].reshape((-1, count) if count != 1 else -1)
        first += count
        if name in ("rgb", "rgba") and dtype.kind == "f" and np.any(values >= 1):
            # PCL writes packed colour as a whole number even where TYPE says F; a packed float without alpha is below 1e-37
            dtype = np.dtype("<u4")
        columns.append(typed_column(values, dtype))
    return columns


def _interleaved_columns(header: _Header, body: memoryview) -> list[NDArray]:
    layout = [(f"f{i}", d, (c,)) if c != 1 else (f"f{i}", d) for i, (d, c) in enumerate(zip(header.dtypes, header.counts, strict=True))]
    table = np.frombuffer(body, np.dtype(layout), header.points)
    return [np.ascontiguousarray(table[name]) for name in table.dtype.names or ()]


def _compressed_columns(header: _Header, body: memoryview, size: int, source: str) -> list[NDArray]:
    if len(body) < 8:
        raise InputError(f"{source}: truncated: no sizes after DATA binary_compressed")
    packed_size, unpacked_size = struct.unpack("<II", body[:8])
    if packed_size > len(body) - 8:
        raise InputError(f"{source}: truncated: {packed_size} compressed bytes declared, {len(body) - 8} follow")
    if unpacked_size != size:
        raise InputError(f"{source}: {unpacked_size} bytes of points, but the header's fields need {size}")
    from geoseg_ros.io import lzf  # compiled: imported only where it is used

    try:
        data = lzf.decompress(body[8 : 8 + packed_size], size)
    except ValueError as error:
        raise InputError(f"{source}: compressed data damaged: {error}") from None
    columns = []
    offset = 0
    for dtype, count in zip(header.dtypes, header.counts, strict=True):  # one field after the other, unlike DATA binary
        column = np.frombuffer(data, dtype, header.points * count, offset)
        offset += column.nbytes
        columns.append(column.reshape(-1, count) if count != 1 else column)
    return columns
