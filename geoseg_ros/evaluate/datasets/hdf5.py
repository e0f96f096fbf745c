"""Arrays from HDF5 files, with a bound on what a file may ask for. Needs h5py, which only these data sets do: it is imported here alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError

MAX_BYTES = 512 * 2**20  # of one array, uncompressed: a file of a few kB can declare any size

Shape = tuple["int | None", ...]


def read_arrays(path: Path, wanted: Mapping[str, Shape]) -> dict[str, NDArray[Any]]:
    """The wanted arrays of a file.

    Args:
        wanted: by name, the shape; None stands for any length.

    Raises:
        InputError: h5py is not installed; no such file, or not HDF5; an array is absent, is not of plain numbers, has another shape or
            more than ``MAX_BYTES``, or cannot be decoded.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: needs the Python package h5py, which is not installed") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            for name, shape in wanted.items():
                _check(file.get(name), h5py.Dataset, shape, f"{path}: {name}")
            return {name: np.asarray(file[name][()]) for name in wanted}
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as HDF5: {' '.join(str(error).split())[:160]}") from None


def _check(array: Any, kind: Any, shape: Shape, name: str) -> None:
    """Everything that can be known before a value is read."""
    form = " x ".join("N" if n is None else str(n) for n in shape)
    if not isinstance(array, kind):
        raise InputError(f"{name}: expected an array {form}, found {'a group' if array is not None else 'nothing'}")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: expected numbers, got {array.dtype}")
    found = array.shape or ()
    if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
        raise InputError(f"{name}: expected {form}, got {' x '.join(map(str, found)) or 'a single value'}")
    # a chunk is inflated as a whole, whatever part of it is read
    largest = max(math.prod(found), math.prod(array.chunks or ())) * array.dtype.itemsize
    if largest > MAX_BYTES:
        raise InputError(f"{name}: {largest} bytes declared, expected at most {MAX_BYTES}")
