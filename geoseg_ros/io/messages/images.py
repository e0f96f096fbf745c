"""sensor_msgs/Image and sensor_msgs/CompressedImage to pixels, and labels of pixels to sensor_msgs/Image."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages.buffers import MAX_PIXELS, MessageTypes, quoted, set_data
from geoseg_ros.io.overlay import draw_overlay

# encoding -> (bytes per channel, channels, conversion to RGB). 8UC3 and 8UC4 are blue first, as OpenCV writes them. OpenCV names a
# Bayer pattern by its second row and column, ROS by the first.
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (1, 3, None),
    "rgba8": (1, 4, cv2.COLOR_RGBA2RGB),
    "rgb16": (2, 3, None),
    "bgr8": (1, 3, cv2.COLOR_BGR2RGB),
    "bgra8": (1, 4, cv2.COLOR_BGRA2RGB),
    "bgr16": (2, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (1, 3, cv2.COLOR_BGR2RGB),
    "8UC4": (1, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (2, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (2, 1, cv2.COLOR_GRAY2RGB),
    "yuv422": (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (1, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (1, 2, cv2.COLOR_YUV2RGB_YUY2),
}
for _pattern, _code in (
    ("rggb", cv2.COLOR_BayerBG2RGB), ("bggr", cv2.COLOR_BayerRG2RGB), ("gbrg", cv2.COLOR_BayerGR2RGB), ("grbg", cv2.COLOR_BayerGB2RGB),
):  # fmt: skip
    _ENCODINGS[f"bayer_{_pattern}8"] = (1, 1, _code)
    _ENCODINGS[f"bayer_{_pattern}16"] = (2, 1, _code)


def image_from_message(message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a sensor_msgs/Image as uint8 RGB [H, W, 3]; a view for rgb8. Of 16-bit values the upper eight bits are kept.

    Raises:
        InputError: unknown encoding; zero or excessive size; sizes that contradict each other.
    """
    if message.encoding not in _ENCODINGS:
        raise InputError(f"{topic}: encoding {quoted(message.encoding)}, expected one of {', '.join(_ENCODINGS)}")
    depth, channels, code = _ENCODINGS[message.encoding]
    plane = pixel_plane(message, f"u{depth}", channels, topic, max_pixels)
    if depth == 2:
        plane = (plane >> 8).astype(np.uint8)
    if code is None:
        return plane
    refusal = InputError(f"{topic}: {message.width} x {message.height} is no size for encoding {message.encoding}")
    if message.encoding.startswith("bayer") and min(plane.shape) < 3:  # OpenCV would make it black
        raise refusal
    try:
        return np.asarray(cv2.cvtColor(plane, code), np.uint8)
    except cv2.error:
        raise refusal from None


def pixel_plane(message: Any, kind: str, channels: int, topic: str, max_pixels: int) -> NDArray:
    """The pixels of a sensor_msgs/Image as a view [height, width] or [height, width, channels]."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if not 0 < height * width <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    if step < width * channels * dtype.itemsize:
        raise InputError(f"{topic}: step {step}, expected at least {width * channels * dtype.itemsize} for {width} x {message.encoding}")
    data = np.frombuffer(message.data, np.uint8)
    if len(data) != step * height:
        raise InputError(f"{topic}: {len(data)} bytes of data, expected step {step} x height {height} = {step * height}")
    if channels == 1:
        return np.ndarray((height, width), dtype, data, 0, (step, dtype.itemsize))
    return np.ndarray((height, width, channels), dtype, data, 0, (step, channels * dtype.itemsize, dtype.itemsize))


def image_from_compressed(message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG or PNG) to uint8 RGB [H, W, 3]. The declared size is checked before anything is decoded.

    Raises:
        InputError: neither JPEG nor PNG; truncated; too large; cannot be decoded.
    """
    data = bytes(message.data)
    width, height = _declared_size(data, topic, quoted(message.format))
    if not 0 < width * height <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    try:
        # a mask must fit the image as it was sent, so an EXIF orientation is not applied
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{topic}: {len(data)} bytes of {quoted(message.format)} cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


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


def mask_message(types: MessageTypes, header: Any, mask: NDArray[np.uint8], message: Any = None) -> Any:
    """Make a sensor_msgs/Image mono8 of label ids.

    Args:
        types: message classes.
        header: std_msgs/Header of the message.
        mask: uint8 [H, W].
        message: a message from an earlier call, to be filled again in the same memory.
    """
    return _image_message(types, header, mask, "mono8", message)


def overlay_message(
    types: MessageTypes, header: Any, image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8], message: Any = None
) -> Any:
    """Make a sensor_msgs/Image rgb8: the image under the half transparent colours of its labels.

    Args:
        image: uint8 RGB [H, W, 3].
        palette: uint8 [labels + 1, 3] RGB.
        types, header, mask, message: as for :func:`mask_message`.
    """
    return _image_message(types, header, draw_overlay(image, mask, palette), "rgb8", message)


def _image_message(types: MessageTypes, header: Any, pixels: NDArray[np.uint8], encoding: str, message: Any) -> Any:
    if message is None:
        empty = array.array("B")
        message = types["sensor_msgs/msg/Image"](header=header, height=0, width=0, encoding=encoding, is_bigendian=0, step=0, data=empty)
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // len(pixels)
    set_data(message, pixels)
    return message
