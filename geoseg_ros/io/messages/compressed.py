"""sensor_msgs/CompressedImage to pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages.buffers import MAX_PIXELS, shown


def image_from_compressed(message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG or PNG) to uint8 RGB [H, W, 3]. The declared size is checked before anything is decoded.

    Raises:
        InputError: neither JPEG nor PNG; truncated; too large; cannot be decoded.
    """
    data = bytes(message.data)
    width, height = _declared_size(data, topic, shown(message.format))
    if not 0 < width * height <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    try:
        # a mask must fit the image as it was sent, so an EXIF orientation is not applied
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{topic}: {len(data)} bytes of {shown(message.format)} cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _declared_size(data: bytes, topic: str, name: str) -> tuple[int, int]:
    """(width, height) from the header of a JPEG (ITU T.81 B.1) or PNG file, which must also have its end."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        at, chunk = 8, b""
        while at + 12 <= len(data) and chunk != b"IEND":  # OpenCV takes as much memory for a chunk, up to 4 GiB, as its length says
            chunk = data[at + 4 : at + 8]
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        if chunk != b"IEND" or at > len(data) or data[12:16] != b"IHDR":
            raise InputError(f"{topic}: truncated PNG of {len(data)} bytes, expected whole chunks from IHDR to IEND")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(b"\xff\xd8"):
        raise InputError(f"{topic}: {len(data)} bytes of {name}, expected JPEG or PNG")
    # OpenCV fills the missing part of a cut file with grey and says nothing. The scan data holds no end marker of its own.
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise InputError(f"{topic}: truncated JPEG of {len(data)} bytes, expected an end marker")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xDA:
            break  # has no length, or starts the scan. libjpeg reads on behind it, and may find another frame there than a jump would
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # 0xFF: fill byte
    raise InputError(f"{topic}: JPEG of {len(data)} bytes without a frame header")
