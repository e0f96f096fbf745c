"""LZF decompression (the format of liblzf), which PCD's ``binary_compressed`` uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled

MAX_EXPANSION = 88  # a back reference of 3 bytes yields at most 264 bytes
_DAMAGE = {
    -1: "a literal runs past the end",
    -2: "the last token is cut off",
    -3: "a back reference points outside the data",
}


def decompress(data: bytes | memoryview, size: int) -> NDArray[np.uint8]:
    """Decompress ``data`` to exactly ``size`` bytes, uint8 [size].

    A token byte below 32 starts that many literals plus one; any other is a back reference of 3 bits length and 13 bits distance.

    Raises:
        ValueError: the data are damaged or do not yield ``size`` bytes.
    """
    if size > MAX_EXPANSION * len(data):  # before anything is allocated
        raise ValueError(f"{len(data)} bytes cannot hold {size}")
    packed = np.frombuffer(data, np.uint8)
    packed.flags.writeable = False  # one type for the compiler
    out = np.empty(size, np.uint8)
    written = _decompress(packed, out)
    if written != size:
        raise ValueError(_DAMAGE.get(written, f"{written} bytes instead of {size}"))
    return out


@compiled
def _decompress(data, out):  # noqa: ANN001, ANN202
    """Bytes written to ``out``, or a key of ``_DAMAGE``. Every index is checked before it is used."""
    end, size = len(data), len(out)
    i = o = 0
    while i < end:
        token = np.int64(data[i])
        i += 1
        if token < 32:
            length = token + 1
            if i + length > end or o + length > size:
                return -1
            for s in range(length):
                out[o + s] = data[i + s]
            i += length
        else:
            length = (token >> 5) + 2
            if length == 9:
                if i >= end:
                    return -2
                length += np.int64(data[i])
                i += 1
            if i >= end:
                return -2
            start = o - ((token & 31) << 8) - np.int64(data[i]) - 1
            i += 1
            if start < 0 or o + length > size:
                return -3
            for s in range(length):  # one by one: the reference may reach into what it writes
                out[o + s] = out[start + s]
        o += length
    return o
