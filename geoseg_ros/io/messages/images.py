"""sensor_msgs/Image and sensor_msgs/CompressedImage to pixels, and labels of pixels to sensor_msgs/Image."""

from __future__ import annotations

import array
import re
from collections.abc import Callable, Collection
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError, warn
from geoseg_ros.io.encoded_images import BAYER, decode_pixels
from geoseg_ros.io.fields import to_bytes
from geoseg_ros.io.messages.buffers import MAX_PIXELS, MessageTypes, quoted, set_data
from geoseg_ros.io.overlay import draw_overlay

# encoding -> (bytes per channel, channels, conversion to RGB). 8UC3 and 8UC4 are blue first, as OpenCV writes them.
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
for _pattern, _code in BAYER.items():
    _ENCODINGS[f"bayer_{_pattern}8"] = (1, 1, _code)
    _ENCODINGS[f"bayer_{_pattern}16"] = (2, 1, _code)


def image_from_message(
    message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS, warn: Callable[[str], None] = warn
) -> NDArray[np.uint8]:
    """Read a sensor_msgs/Image as uint8 RGB [H, W, 3]; a view for rgb8.

    Of 16-bit values the upper eight bits that are used are kept: cameras write 10, 12 or 14 bits into 16.

    Raises:
        InputError: unknown encoding; zero or excessive size; sizes that contradict each other.
    """
    encoding = known_encoding(message.encoding, _ENCODINGS, topic)
    depth, channels, code = _ENCODINGS[encoding]
    plane = pixel_plane(message, f"u{depth}", channels, topic, max_pixels)
    if depth == 2:
        plane = to_bytes(plane, topic, warn)
    if code is None:
        return plane
    refusal = InputError(f"{topic}: {message.width} x {message.height} is no size for encoding {encoding}")
    if encoding.startswith("bayer") and min(plane.shape) < 3:  # OpenCV would make it black
        raise refusal
    try:
        return np.asarray(cv2.cvtColor(plane, code), np.uint8)
    except cv2.error:
        raise refusal from None


def known_encoding(name: str, known: Collection[str], topic: str) -> str:
    """The encoding as it is written in ``known``; drivers differ in capitals (``BGR8``, ``16uc1``).

    Raises:
        InputError: none of them.
    """
    for encoding in known:
        if encoding.lower() == str(name).lower():
            return encoding
    raise InputError(f"{topic}: encoding {quoted(name)}, expected one of {', '.join(known)}")


def pixel_plane(message: Any, kind: str, channels: int, topic: str, max_pixels: int) -> NDArray:
    """The pixels of a sensor_msgs/Image as a view [height, width] or [height, width, channels].

    Where the data are as many as pixels without padding between rows, ``step`` does not count: some drivers leave it at 0, or write the
    width.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    if not 0 < height * width <= max_pixels:
        raise InputError(f"{topic}: {width} x {height} pixels, expected 1 to {max_pixels} in all (max_image_pixels)")
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    data, packed = np.frombuffer(message.data, np.uint8), width * channels * dtype.itemsize
    if len(data) == height * packed:
        step = packed
    if step < packed:
        raise InputError(f"{topic}: step {step}, expected at least {packed} for {width} x {message.encoding}")
    if len(data) != step * height:
        raise InputError(f"{topic}: {len(data)} bytes of data, expected step {step} x height {height} = {step * height}")
    if channels == 1:
        return np.ndarray((height, width), dtype, data, 0, (step, dtype.itemsize))
    return np.ndarray((height, width, channels), dtype, data, 0, (step, channels * dtype.itemsize, dtype.itemsize))


def image_from_compressed(
    message: Any, topic: str = "image", max_pixels: int = MAX_PIXELS, warn: Callable[[str], None] = warn
) -> NDArray[np.uint8]:
    """Decode a sensor_msgs/CompressedImage (JPEG or PNG) to uint8 RGB [H, W, 3].

    The declared size is checked before anything is decoded. Where ``format`` begins with a Bayer pattern, a single channel is its mosaic.

    Raises:
        InputError: neither JPEG nor PNG; truncated; too large; cannot be decoded.
    """
    data, form = bytes(message.data), str(message.format)
    if not data.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n")):
        raise InputError(f"{topic}: {len(data)} bytes of {quoted(form)}, expected JPEG or PNG")
    mosaic = re.match(r"bayer_([rgb]{4})", form.lower())
    pattern = mosaic[1] if mosaic and mosaic[1] in BAYER else ""
    # a mask must fit the image as it was sent, so an EXIF orientation is not applied
    return decode_pixels(data, topic, max_pixels, False, pattern, "max_image_pixels", warn)


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
