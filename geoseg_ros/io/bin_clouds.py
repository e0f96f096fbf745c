"""Headerless clouds, ``.bin``: the number of floats per point is derived from the name and the data, else the file is refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.fields import Fields, to_float32

_FARTHEST = 1e5  # metres; a file with most points beyond is something else
_RINGS = 256  # lasers that a LiDAR has at most
_FEW = 200  # floats below which the data are too few to decide
_LOOKED_AT = 100_000  # floats


def parse_bin(content: bytes, source: str) -> tuple[Cloud, Fields]:
    """Points of a headerless file: float32 x y z intensity (KITTI), or x y z intensity and a fifth value (nuScenes: the ring).

    Five values per point are assumed where the name ends in ``.pcd.bin`` or the fifth is a ring number everywhere. The data must agree:
    values of one column are similar, so that values ``n`` floats apart differ least for the right ``n``.

    Raises:
        InputError: neither fits, or both do.
    """
    if len(content) % 16 and len(content) % 20:
        raise InputError(f"{source}: {len(content)} bytes; expected points of 16 bytes (KITTI) or 20 bytes (nuScenes)")
    values = np.frombuffer(content, "<f4")
    width = _floats_per_point(values, source)
    table = values.reshape(-1, width)
    with np.errstate(invalid="ignore"):
        plausible = (np.abs(table[:, :3]) < _FARTHEST).all(axis=1) | np.isnan(table[:, :3]).any(axis=1)
    if plausible.mean() < 0.5:
        raise InputError(f"{source}: most points lie beyond {_FARTHEST:.0f} m; expected float32 x y z intensity")
    rest: Fields = {"intensity": table[:, 3].copy()}
    if width == 5:
        rest["ring" if _is_ring(table[:, 4]) else "extra"] = table[:, 4].copy()
    return Cloud(to_float32(table[:, :3])), rest


def _floats_per_point(values: NDArray[np.float32], source: str) -> int:
    with np.errstate(invalid="ignore"):  # of signalling NaN
        sample = np.nan_to_num(values[:_LOOKED_AT].astype(np.float64), posinf=0.0, neginf=0.0)
    # 6 and 8 are multiples of others, but files of so many floats exist
    apart = {width: _difference(sample, width) for width in range(3, 9) if len(values) % width == 0}
    fits4, fits5 = 4 in apart, 5 in apart
    rings = fits5 and _is_ring(values.reshape(-1, 5)[:, 4])
    named = source.lower().endswith(".pcd.bin")
    slack = 1.1 if len(values) >= _FEW else np.inf
    good = [width for width in (4, 5) if width in apart and apart[width] <= slack * min(apart.values())]
    if fits5 and (named or rings) and 5 in good and (named or 4 not in good or apart[5] < apart[4]):
        return 5
    if fits4 and 4 in good and not named and not rings:
        return 4
    if good == [5]:
        return 5
    if good == [4]:
        return 4
    likely = min(apart, key=lambda width: (apart[width], width))
    raise InputError(
        f"{source}: not clear how many floats a point has ({likely} fit best); expected 4 (KITTI), or 5 (nuScenes, named *.pcd.bin)"
    )


def _difference(values: NDArray[np.float64], width: int) -> float:
    """How much values ``width`` apart differ, on a scale on which metres and intensities up to 255 are alike."""
    scaled = np.arcsinh(values)
    return float(np.abs(scaled[width:] - scaled[:-width]).mean()) if len(values) > width else 0.0


def _is_ring(column: NDArray) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(((column >= 0) & (column < _RINGS) & (column == np.floor(column))).all())
