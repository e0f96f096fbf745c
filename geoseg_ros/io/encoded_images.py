"""Decoding of image files and compressed messages. The header is checked first, and truncated images are refused.

OpenCV alone would fill the missing part of a truncated image with grey, without an error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.io.fields import to_bytes

_BACKDROP = 128.0  # grey level behind transparent pixels
_PNG = b"\x89PNG\r\n\x1a\n"
# OpenCV names a Bayer pattern by its second row and column, ROS by the first
BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
# within a scan, 0xFF is escaped by 0x00, and restarts are D0 to D7
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# what a scan that was cut would take for its own: coded data, and more of them after each kind of restart
_CODED = b"\x5a\xa5\x3c\xc3" * 8
_FILLER = _CODED + b"".join(b"\xff" + bytes([0xD0 + i]) + _CODED for i in range(8))


def decode_pixels(
    data: bytes,
    name: str,
    max_pixels: int,
    upright: bool = True,
    pattern: str = "",
    limit: str = "",
    warn: Callable[[str], None] = warn,
) -> NDArray[np.uint8]:
    """Decode an image file as uint8 RGB [H, W, 3].

    Grey images are repeated over the channels, more than 8 bits are scaled from the range that is used (with a warning where that is less
    than the type's), transparent pixels are laid over mid grey.

    Args:
        data: JPEG, PNG, or another format that OpenCV reads.
        name: for errors.
        max_pixels: larger pictures are refused before they are decoded.
        upright: apply the EXIF orientation.
        pattern: of a Bayer mosaic, which the single channel of the file is, such as ``rggb``; empty: it is none.
        limit: name of the parameter behind ``max_pixels``, for errors.
        warn: gets a line about pixels that do not use the range of their type.

    Raises:
        InputError: cut off, damaged, too large, or no image.
    """
    if data.startswith(b"\xff\xd8"):
        width, height, end, progressive = _jpeg_frame(data, name)
    elif data.startswith(_PNG):
        (width, height), end, progressive = _png_size(data, name), len(data), False
    else:
        (width, height), end, progressive = _declared_size(data), len(data), False
    if (width, height) != (0, 0):
        check_pixels(width, height, name, max_pixels, limit)
    content = data[:end] if end else data + b"\xff\xd9"
    image = _decode(content, cv2.IMREAD_UNCHANGED if pattern or not data.startswith(b"\xff\xd8") else cv2.IMREAD_COLOR, upright, name)
    check_pixels(image.shape[1], image.shape[0], name, max_pixels, limit)
    if data.startswith(b"\xff\xd8") and (not end or progressive or _ends_flat(image)):
        _check_whole(content, name)
    return _as_rgb(image, name, pattern, warn)


def decode_depth(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint16]:
    """Decode a depth image, uint16 [H, W] as stored.

    Args:
        data: PNG of one channel of 16 bits.
        name: for errors.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        InputError: cut off, damaged, too large, or something else.
    """
    if not data.startswith(_PNG):
        raise InputError(f"{name}: expected depth as PNG of 16 bits")
    width, height = _png_size(data, name)
    check_pixels(width, height, name, max_pixels)
    image = _decode(data, cv2.IMREAD_UNCHANGED, False, name)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(
            f"{name}: {image.dtype} with {1 if image.ndim == 2 else image.shape[2]} channels, expected depth of one channel of 16 bits"
        )
    return np.asarray(image, np.uint16)


def check_pixels(width: int, height: int, name: str, max_pixels: int, limit: str = "") -> None:
    """InputError unless the number of pixels is allowed."""
    if not 0 < width * height <= max_pixels:
        raise InputError(f"{name}: {width} x {height} pixels, expected 1 to {max_pixels} in all{limit and f' ({limit})'}")


def _decode(data: bytes, flags: int, upright: bool, name: str) -> NDArray:
    # UNCHANGED ignores the orientation, and the transparency of palettes; both are rare in the formats that need it
    flags |= 0 if upright else cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is not None and upright and flags & cv2.IMREAD_UNCHANGED == cv2.IMREAD_UNCHANGED and image.dtype == np.uint8:
            turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if b"eXIf" in data or b"Exif" in data[:65536] else None
            image = image if turned is None else turned
    except cv2.error as error:
        raise InputError(f"{name}: cannot decode the image: {error.err}") from None
    if image is None:
        raise InputError(f"{name}: {len(data)} bytes that cannot be decoded, expected an image")
    return image


def _as_rgb(image: NDArray, name: str, pattern: str, warn: Callable[[str], None]) -> NDArray[np.uint8]:
    if image.dtype.kind == "f" and image.ndim == 3:
        image = image[..., :3]  # transparency of floats is not used by anybody
    if image.dtype != np.uint8:
        image = to_bytes(image, name, warn)
    if image.ndim == 2 or image.shape[2] == 1:
        grey = image.reshape(image.shape[:2])
        if pattern and min(grey.shape) >= 3:
            return np.asarray(cv2.cvtColor(grey, BAYER[pattern]), np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    if image.shape[2] == 2:  # grey and transparency
        image = image[..., [0, 0, 0, 1]]
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255.0
        image = np.rint(image[..., :3] * alpha + _BACKDROP * (1 - alpha)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


# ---- JPEG


class _Frame(NamedTuple):
    width: int
    height: int
    end: int  # byte after the end marker; 0: there is none
    progressive: bool


def _jpeg_frame(data: bytes, name: str) -> _Frame:
    """Walk the markers of a JPEG file (ITU T.81 B.1); what follows the end marker does not count.

    Raises:
        InputError: a marker or its segment is cut off, something else than a marker is where one must be, or there is no frame.
    """
    size: tuple[int, int] | None = None
    at, scanned, progressive = 2, False, False
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        marker = data[at + 1] if at + 1 < len(data) and data[at] == 0xFF else -1
        if marker == 0xD9:
            if size is None or not scanned:
                raise InputError(f"{name}: JPEG of {len(data)} bytes without a {'frame header' if size is None else 'scan'}")
            return _Frame(*size, at + 2, progressive)
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == -1 and at >= len(data) and size is not None and scanned:
            return _Frame(*size, 0, progressive)
        if marker == 0xDA and size is None:
            raise InputError(f"{name}: JPEG of {len(data)} bytes without a frame header")
        if marker < 0xC0 or marker == 0xD8 or length < 2 or at + 2 + length > len(data):
            raise InputError(f"{name}: truncated JPEG of {len(data)} bytes, expected a whole segment at byte {at}")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and size is None:  # libjpeg takes the first
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            size = int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + length
        if marker == 0xDA:
            scanned = True
            found = _MARKER.search(data, at)
            at = found.start() if found else len(data)


def _ends_flat(image: NDArray) -> bool:
    """Whether a picture ends in one flat colour, as libjpeg leaves it where data are missing."""
    corner = image[-8:, -8:]
    return bool((corner == corner[:1, :1]).all())


def _check_whole(data: bytes, name: str) -> None:
    """InputError if the last scan of a JPEG is cut: then further data before the end marker change the picture."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    short, long = (cv2.imdecode(np.frombuffer(data[:-2] + more + b"\xff\xd9", np.uint8), flags) for more in (b"", _FILLER))
    if short is None or long is None or not np.array_equal(short, long):
        raise InputError(f"{name}: truncated JPEG of {len(data)} bytes, its picture is not complete")


# ---- other formats


def _png_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a PNG file, all of whose chunks must be there."""
    at, chunk = 8, b""
    while at + 12 <= len(data) and chunk != b"IEND":  # OpenCV takes as much memory for a chunk, up to 4 GiB, as its length says
        chunk = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    if chunk != b"IEND" or at > len(data) or data[12:16] != b"IHDR":
        raise InputError(f"{name}: truncated PNG of {len(data)} bytes, expected whole chunks from IHDR to IEND")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _declared_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of BMP, WebP, TIFF or PNM, or (0, 0)."""
    try:
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(width), abs(height)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff_size(data)
        if re.match(rb"P[1-6]\s", data):
            words = re.sub(rb"#[^\n]*", b"", data[2:1024]).split()
            return int(words[0]), int(words[1])
    except (struct.error, ValueError, IndexError):
        pass
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    size = {256: 0, 257: 0}
    for k in range(count):
        tag, kind = struct.unpack_from(f"{order}HH", data, start + 2 + 12 * k)
        if tag in size:
            (size[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, start + 10 + 12 * k)
    return size[256], size[257]
