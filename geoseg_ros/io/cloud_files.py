"""Cloud files: PCD, PLY, NPY, NPZ, KITTI BIN. One reader that chooses by the suffix, and a writer of PLY.

The files are parsed here rather than by a library (Open3D, PCL): every declared count is compared with the size of the file before anything
is allocated, indices are checked, and columns other than position and colour are kept.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.bin_clouds import parse_bin
from geoseg_ros.io.fields import Fields, cloud_from_fields, colour_bytes, make_cloud
from geoseg_ros.io.pcd import parse_pcd
from geoseg_ros.io.ply import format_ply, parse_ply

CLOUD_SUFFIXES = (".pcd", ".ply", ".npy", ".npz", ".bin")

# numpy reads a damaged header as Python text
_ARRAY_ERRORS = (ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)
# RuntimeError: an encrypted member, or a compression that zipfile does not know
_ARCHIVE_ERRORS = (*_ARRAY_ERRORS, zipfile.BadZipFile, zlib.error, struct.error, KeyError, RuntimeError)


def read_cloud(path: str | os.PathLike[str]) -> Cloud:
    """Read a cloud, points in file order, metres as stored.

    Raises:
        InputError: see :func:`read_cloud_fields`.
    """
    return read_cloud_fields(path)[0]


def read_cloud_fields(path: str | os.PathLike[str]) -> tuple[Cloud, Fields]:
    """Read a cloud and its other per-point columns (label, intensity, normals ...).

    - ``.pcd``: ascii, binary, binary_compressed; fields in any order and type; HEIGHT > 1 gives an organised cloud.
    - ``.ply``: the vertices; ascii, binary little or big endian.
    - ``.npy``: [N, 3] xyz, [N, 4] xyz + intensity, [N, 6] xyz + rgb, or normals where there are negative values; a leading
      [H, W, ...] gives an organised cloud.
    - ``.npz``: key ``xyz`` [N, 3] (or [H, W, 3]), ``rgb`` likewise if present; other keys with N entries are columns.
    - ``.bin``: float32 x y z intensity (KITTI), or x y z intensity ring (nuScenes); see :func:`parse_bin`.

    Colour of any range becomes 0..255, see :func:`colour_bytes`. Where the file has the sensor's pose (VIEWPOINT of PCD), the cloud is in
    the sensor's frame; where the points lie far from the origin, that is moved. ``Cloud.origin`` and ``rotation`` lead back.

    Raises:
        InputError: missing, empty, truncated or damaged file, wrong header, no x/y/z, unknown suffix. Declared counts are
            compared with the file's size before anything is allocated.
    """
    source = os.fspath(path)
    suffix = Path(source).suffix.lower()
    if suffix not in CLOUD_SUFFIXES:
        raise InputError(f"{source}: unknown cloud format {suffix or '(no suffix)'}; expected one of {', '.join(CLOUD_SUFFIXES)}")
    try:
        if os.path.getsize(source) == 0:
            raise InputError(f"{source}: empty file")
        if suffix == ".npy":
            return _read_npy(source)
        if suffix == ".npz":
            return _read_npz(source)
        content = Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{source}: does not fit in memory") from None
    if suffix == ".pcd":
        fields, shape, pose = parse_pcd(content, source)
        return cloud_from_fields(fields, shape, source, pose)
    if suffix == ".ply":
        return cloud_from_fields(parse_ply(content, source), None, source)
    return parse_bin(content, source)


def write_ply(path: str | os.PathLike[str], cloud: Cloud) -> None:
    """Write a binary little-endian PLY with the cloud's colour; every point in order, also the invalid ones."""
    write_bytes(path, format_ply(cloud))


def _read_npy(source: str) -> tuple[Cloud, Fields]:
    try:
        # a memory map compares the declared shape with the file's size and allocates nothing
        table = np.load(source, mmap_mode="r", allow_pickle=False)
    except _ARRAY_ERRORS as error:
        raise InputError(f"{source}: not a readable NPY array: {' '.join(str(error).split())[:100]}") from None
    if not isinstance(table, np.ndarray) or table.ndim not in (2, 3) or table.shape[-1] not in (3, 4, 6) or table.dtype.kind not in "fiu":
        found = f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else "an archive"
        raise InputError(f"{source}: expected numbers [N, 3], [N, 4] (intensity) or [N, 6] (rgb), got {found}")
    shape = _organised(table)
    flat = table.reshape(-1, table.shape[-1])
    rest: Fields = {"intensity": np.array(flat[:, 3])} if flat.shape[1] == 4 else {}
    rgb = None
    if flat.shape[1] == 6:
        more = np.asarray(flat[:, 3:])
        if np.nanmin(more, initial=0.0) < 0:  # colour is not negative; normals are
            warn(f"{source}: columns 4 to 6 have negative values, taken as normals and not as colour")
            rest = {f"normal_{axis}": more[:, i].copy() for i, axis in enumerate("xyz")}
        else:
            rgb = colour_bytes(more, f"{source}: colour")
    return make_cloud(np.asarray(flat[:, :3]), rgb, shape), rest


def _read_npz(source: str) -> tuple[Cloud, Fields]:
    try:
        arrays = _load_archive(source)
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{source}: not a readable NPZ archive: {' '.join(str(error).split())[:100]}") from None
    xyz = arrays.pop("xyz", None)
    if xyz is None:
        raise InputError(f"{source}: no key xyz; found {', '.join(arrays) or 'none'}")
    if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or xyz.dtype.kind not in "fiu":
        raise InputError(f"{source}: key xyz: expected numbers [N, 3], got {xyz.dtype} {xyz.shape}")
    rgb = arrays.pop("rgb", None)
    if rgb is not None and (rgb.shape != xyz.shape or rgb.dtype.kind not in "fiu"):
        raise InputError(f"{source}: key rgb: expected numbers {xyz.shape}, got {rgb.dtype} {rgb.shape}")
    count = xyz.size // 3
    rest = {name: a.reshape(count, *a.shape[xyz.ndim - 1 :]) for name, a in arrays.items() if a.shape[: xyz.ndim - 1] == xyz.shape[:-1]}
    colour = None if rgb is None else colour_bytes(rgb.reshape(-1, 3), f"{source}: key rgb")
    return make_cloud(xyz.reshape(-1, 3), colour, _organised(xyz)), rest


def _load_archive(source: str) -> dict[str, NDArray]:
    arrays = {}
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            if member.file_size > 1100 * member.compress_size + 1100:  # deflate cannot expand by more than 1032
                raise ValueError(f"{member.filename}: impossible size {member.file_size}")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(stream)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename}: shape {shape} is larger than the data")
            with archive.open(member) as stream:
                arrays[member.filename[:-4]] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _organised(table: NDArray) -> tuple[int, int] | None:
    return (table.shape[0], table.shape[1]) if table.ndim == 3 and table.shape[0] > 1 else None
