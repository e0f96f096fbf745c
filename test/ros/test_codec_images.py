"""Image and CompressedImage to pixels, without a node."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import CameraInfo

from geoseg_ros.io import messages as codec
from support.ros_cases import (
    bad_compressed,
    bad_images,
    byte_array,
    check_refused,
    compressed_message,
    image_message,
    picture,
)

# ---- images in


def test_image_encodings():
    image = picture()
    grey = image[..., 1]
    grey_rgb = np.repeat(grey[..., None], 3, axis=2)
    alpha = np.full((*grey.shape, 1), 9, np.uint8)
    cases = {
        "rgb8": (image, image),
        "bgr8": (image[..., ::-1], image),
        "8UC3": (image[..., ::-1], image),
        "rgba8": (np.concatenate([image, alpha], -1), image),
        "bgra8": (np.concatenate([image[..., ::-1], alpha], -1), image),
        "8UC4": (np.concatenate([image[..., ::-1], alpha], -1), image),
        "mono8": (grey, grey_rgb),
        "8UC1": (grey, grey_rgb),
        "mono16": (grey.astype(np.uint16) * 256 + 77, grey_rgb),
        "16UC1": (grey.astype(np.uint16) * 256 + 77, grey_rgb),
        "rgb16": (image.astype(np.uint16) * 256 + 77, image),
        "bgr16": (image[..., ::-1].astype(np.uint16) * 256 + 77, image),
    }
    for encoding, (pixels, truth) in cases.items():
        for options in ({}, {"padding": 5}, {"padding": 2, "big": True}):
            read = codec.image_from_message(image_message(pixels, encoding, **options))
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, truth, err_msg=f"{encoding} {options}")


@pytest.mark.parametrize("encoding", ["RGB8", "Bgr8", "8uc3", "MONO8", "16uc1", "BAYER_RGGB8", "YUYV"])
def test_capitals_do_not_matter(encoding):
    usual = {"8uc3": "8UC3", "16uc1": "16UC1"}.get(encoding, encoding.lower())
    channels = {"RGB8": 3, "Bgr8": 3, "8uc3": 3, "YUYV": 2}.get(encoding)
    pixels = (
        np.random.default_rng(0).integers(0, 256, (8, 8, channels) if channels else (8, 8)).astype(np.uint16 if "16" in usual else np.uint8)
    )
    read = [codec.image_from_message(image_message(pixels, name)) for name in (encoding, usual)]
    np.testing.assert_array_equal(*read)
    assert read[0].std() > 0


def test_rgb8_is_a_view_of_the_message():
    message = image_message(picture(), "rgb8", padding=4)
    image = codec.image_from_message(message)
    np.frombuffer(message.data, np.uint8)[1] = 17
    assert image[0, 0, 1] == 17


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv(encoding):
    image = np.empty((8, 8, 2), np.uint8)
    luma, chroma = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
    image[..., luma] = 81  # BT.601 red: Y 81, U 90, V 240
    image[:, 0::2, chroma], image[:, 1::2, chroma] = 90, 240
    np.testing.assert_allclose(codec.image_from_message(image_message(image, encoding)).reshape(-1, 3) - [255.0, 0, 0], 0, atol=3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(pattern, bits):
    color = {"r": 200, "g": 100, "b": 30}
    tile = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]], np.uint16)
    mosaic = np.tile(tile, (6, 6)) * (256 if bits == 16 else 1)
    read = codec.image_from_message(image_message(mosaic.astype(f"u{bits // 8}"), f"bayer_{pattern}{bits}"))
    np.testing.assert_array_equal(read[2:-2, 2:-2].reshape(-1, 3), np.tile([200, 100, 30], (64, 1)))


def test_one_pixel_image():
    np.testing.assert_array_equal(codec.image_from_message(image_message(np.full((1, 1, 3), 9, np.uint8), "bgr8")), [[[9, 9, 9]]])


@pytest.mark.parametrize("name", bad_images())
def test_bad_images(name):
    check_refused(codec.image_from_message, *bad_images()[name], "/camera")


def test_compressed_images():
    image = picture()
    np.testing.assert_array_equal(codec.image_from_compressed(compressed_message(image, ".png", "png")), image)
    read = codec.image_from_compressed(compressed_message(image, ".jpg", "rgb8; jpeg compressed bgr8"))
    assert read.shape == image.shape and np.abs(read[:, 4:12].astype(int) - [255, 0, 0]).max() < 30
    grey = cv2.imencode(".png", image[..., 1].astype(np.uint16) * 256)[1].tobytes()
    message = compressed_message(image)
    message.data = byte_array(grey)
    np.testing.assert_array_equal(codec.image_from_compressed(message)[..., 2], image[..., 1])


def test_exif_orientation_is_not_applied():
    message = compressed_message(picture(24, 32))
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    data = bytes(message.data)
    message.data = byte_array(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert codec.image_from_compressed(message).shape == (24, 32, 3)


@pytest.mark.parametrize("name", bad_compressed())
def test_bad_compressed(name):
    check_refused(codec.image_from_compressed, *bad_compressed()[name], "/camera")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "rgb16", "bgr16"])
def test_cameras_write_fewer_bits_into_16(encoding, bits):
    grey = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (4, 1))
    lines = []
    pixels = np.dstack([grey] * 3) if encoding.endswith("b16") or encoding.endswith("r16") else grey
    read = codec.image_from_message(image_message(pixels, encoding), "/camera", warn=lines.append)
    assert np.abs(read[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1
    assert len(lines) == (bits < 16)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("form", ["bayer_{}8; jpeg compressed ", "bayer_{}8; png compressed", "bayer_{}16; png compressed "])
def test_compressed_bayer(pattern, suffix, form):
    color = {"r": 200, "g": 100, "b": 30}
    tile = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]], np.uint8)
    data = cv2.imencode(suffix, np.tile(tile, (16, 16)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    message = compressed_message(picture())
    message.format, message.data = form.format(pattern), byte_array(data)
    read = codec.image_from_compressed(message)
    assert np.abs(read[4:-4, 4:-4].astype(int) - [200, 100, 30]).max() <= (0 if suffix == ".png" else 12)
    message.data = byte_array(cv2.imencode(suffix, np.full((8, 8, 3), (30, 100, 200), np.uint8))[1].tobytes())
    assert np.abs(codec.image_from_compressed(message)[4, 4].astype(int) - [200, 100, 30]).max() <= 3  # demosaiced by the camera


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_compressed_16_bits(bits):
    grey = np.tile(np.linspace(0, 2**bits - 1, 64).astype(np.uint16), (4, 1))
    message = compressed_message(picture())
    message.format, message.data = "mono16; png compressed ", byte_array(cv2.imencode(".png", grey)[1].tobytes())
    read = codec.image_from_compressed(message, warn=lambda line: None)
    assert np.abs(read[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("step", [0, 1, 32, 97, 96 * 24])
def test_rows_without_padding_whatever_step_says(step):
    """Some drivers leave it at 0, or write the width, or the size of all data."""
    np.testing.assert_array_equal(codec.image_from_message(image_message(picture(), "rgb8", step=step)), picture())
    depth = np.arange(1, 7, dtype=np.uint16).reshape(2, 3) * 1000
    info = CameraInfo(width=3, height=2)
    info.k = np.array([2.0, 0, 0.5, 0, 2.0, 0.5, 0, 0, 1.0])
    cloud = codec.cloud_from_depth(image_message(depth, "16UC1", step=step), info)
    np.testing.assert_allclose(cloud.xyz[:, 2], [1, 2, 3, 4, 5, 6], rtol=1e-6)
