"""sensor_msgs/Image to pixels and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.folders import draw_overlay
from geoseg_ros.io.messages.buffers import MAX_PIXELS, set_data, shown

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
        raise InputError(f"{topic}: encoding {shown(message.encoding)}, expected one of {', '.join(_ENCODINGS)}")
    depth, channels, code = _ENCODINGS[message.encoding]
    plane = pixel_plane(message, f"u{depth}", channels, topic, max_pixels)
    if depth == 2:
        plane = (plane >> 8).astype(np.uint8)
    if code is None:
        return plane
    refusal = InputError(f"{topic}: {message.width} x {message.height} is no size for encoding {message.encoding}")
    if message.encoding.startswith("bayer") and min(plane.shape) < 3:  # OpenCV would answer black
        raise refusal
    try:
        return cv2.cvtColor(plane, code)
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


def mask_message(header: Any, mask: NDArray[np.uint8], message: Any = None) -> Any:
    """sensor_msgs/Image mono8 of label ids, uint8 [H, W]."""
    return _image_message(header, mask, "mono8", message)


def overlay_message(header: Any, image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8], message: Any = None) -> Any:
    """sensor_msgs/Image rgb8: the image, uint8 RGB [H, W, 3], under the half transparent colours of its labels."""
    return _image_message(header, draw_overlay(image, mask, palette), "rgb8", message)


def _image_message(header: Any, pixels: NDArray[np.uint8], encoding: str, message: Any) -> Any:
    if message is None:
        from sensor_msgs.msg import Image

        message = Image(encoding=encoding, is_bigendian=0)
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // len(pixels)
    set_data(message, pixels)
    return message
