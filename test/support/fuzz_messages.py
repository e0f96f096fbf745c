"""Malformed and valid PointCloud2, Image, CompressedImage and depth + CameraInfo, made from seeds and read by the codec.

Each message must be decoded to arrays of the promised shapes within the limits, or be refused by an InputError of one line, without a
warning and without memory beyond the limits. Anything else is a failure, which prints the message and the seed that makes it again
(``--seed N --count 1``). Message number n of a run is made from seed + n alone. Exit code 0 if there was no failure.

  PYTHONPATH=test python -m support.fuzz_messages --count 100000 --seed 0
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from support.ros_cases import byte_array, cloud_message, compressed_message, image_message, picture

# Small, so that messages beyond the limits stay cheap. A message within them takes a few MB at most.
MAX_POINTS, MAX_PIXELS = 1 << 14, 1 << 16
MAX_GROWTH = 32 * 2**20  # bytes of peak memory that a single message may add
MAX_LINE = 1000  # characters of a refusal, whatever strings the message holds
SHOWN_FAILURES = 10

ODD_STRINGS = ("", " ", "x\ny", "a\r\nb\u2028c", "\0", "x\0", "RGB8", "rgb8 ", "µ𝒙\ufffd", "%s {0}", "w" * 5000, "v\n" * 3000)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e-300, 5e-324, 3e38, 1e-40)
# std image_encodings, read by the codec or not, with bytes per pixel
ENCODINGS = {
    "rgb8": 3, "rgba8": 4, "rgb16": 6, "rgba16": 8, "bgr8": 3, "bgra8": 4, "bgr16": 6, "bgra16": 8, "mono8": 1, "mono16": 2,
    "8UC1": 1, "8UC2": 2, "8UC3": 3, "8UC4": 4, "8SC1": 1, "16UC1": 2, "16UC3": 6, "16SC1": 2, "32SC1": 4, "32FC1": 4, "32FC3": 12,
    "64FC1": 8, "bayer_rggb8": 1, "bayer_bggr8": 1, "bayer_gbrg8": 1, "bayer_grbg8": 1, "bayer_rggb16": 2, "bayer_bggr16": 2,
    "bayer_gbrg16": 2, "bayer_grbg16": 2, "yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2, "nv21": 1, "nv24": 1,
}  # fmt: skip
_SIZES = {"i1": 1, "u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4, "f4": 4, "f8": 8}

Rng = random.Random


# ---- mutations


def odd_number(rng: Rng, value: int, bits: int = 32) -> int:
    """An unsigned number: near ``value``, at the ends of its type, or any."""
    top = 2**bits - 1
    choices = (0, 1, value - 1, value + 1, value * 2, value // 2, 1 << (bits - 1), top, rng.randrange(top + 1), rng.randrange(64))
    return min(top, max(0, rng.choice(choices)))


def resized(rng: Rng, data: bytes, size: int) -> bytes:
    return data[:size] + rng.randbytes(max(0, size - len(data)))


def spoiled(rng: Rng, data: bytes) -> bytes:
    """Cut, lengthened, with a piece removed, doubled or inserted, or with noise in it."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 2, 4, 16, 64)))
    way = rng.randrange(7)
    if way == 0:
        return data[:at]
    if way == 1:
        return data + rng.randbytes(rng.choice((1, 3, 16, 4096)))
    if way == 2:
        return data[:at] + data[end:]
    if way == 3:
        return data[:end] + data[at:]
    if way == 4:
        return data[:at] + rng.randbytes(rng.choice((1, 2, 16))) + data[at:]
    if way == 5:
        return data[:at] + rng.choice((b"\0", b"\xff")) * (end - at) + data[end:]
    noisy = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64)) if data else 0):
        noisy[rng.randrange(len(noisy))] = rng.randrange(256)
    return bytes(noisy)


def spoil_number(rng: Rng, message: Any, *names: str) -> None:
    name = rng.choice(names)
    setattr(message, name, odd_number(rng, getattr(message, name)))


def spoil_data(rng: Rng, message: Any) -> None:
    message.data = byte_array(spoiled(rng, bytes(message.data)))


# ---- clouds


def make_cloud(rng: Rng) -> PointCloud2:
    names = [*rng.sample("xyz", 3), *rng.sample(("rgb", "rgba", "intensity", "ring", "t"), rng.randrange(3))]
    if rng.random() < 0.3:
        rng.shuffle(names)
    wide, layout, at = rng.random() < 0.2, [], 0
    for name in names:
        kind = ("f8" if wide else "f4") if name in "xyz" else rng.choice(("f4", "u4") if name.startswith("rgb") else tuple(_SIZES))
        at += rng.choice((0, 0, 0, 1, 4))
        layout.append((name, kind, at))
        at += _SIZES[kind]
    shape = (rng.randrange(1, 4), rng.randrange(1, 5)) if rng.random() < 0.4 else (1, rng.randrange(12))
    padding = rng.choice((0, 0, 3, 16)) if shape[0] > 1 else 0
    values = [rng.uniform(-50, 50) if rng.random() < 0.8 else rng.choice(ODD_FLOATS[:7]) for _ in range(shape[0] * shape[1])]
    columns = dict.fromkeys("xyz", values)
    message = cloud_message(columns, layout, at + rng.choice((0, 0, 1, 8)), shape, padding, big=rng.random() < 0.2)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        _spoil_cloud(rng, message)
    return message


def _spoil_cloud(rng: Rng, message: PointCloud2) -> None:
    way = rng.randrange(10)
    if way == 0:
        spoil_number(rng, message, "height", "width", "point_step", "row_step")
    elif way == 1:
        message.is_bigendian = not message.is_bigendian
    elif way == 2:
        spoil_data(rng, message)
    elif way == 3:
        message.data = byte_array(rng.randbytes(len(message.data)))
    elif way < 6:  # other sizes that agree with each other
        message.height, message.width = rng.choice(
            ((1, rng.randrange(40)), (rng.randrange(8), rng.randrange(8)), (1, MAX_POINTS + rng.randrange(2)))
        )
        message.point_step = odd_number(rng, message.point_step, 5)
        message.row_step = min(message.width * message.point_step + rng.choice((0, 0, 5)), 2**32 - 1)
        message.data = byte_array(resized(rng, bytes(message.data), message.row_step * message.height))
    elif not message.fields:
        message.fields = [PointField(name=name, offset=odd_number(rng, 4), datatype=7, count=1) for name in "xyz"]
    elif way == 6:
        spoil_number(rng, rng.choice(message.fields), "offset", "count")
    elif way == 7:
        rng.choice(message.fields).datatype = odd_number(rng, 7, 8)
    elif way == 8:
        rng.choice(message.fields).name = rng.choice((*ODD_STRINGS, "x", "rgb"))
    else:
        at = rng.randrange(len(message.fields))
        message.fields = message.fields[:at] + message.fields[at + 1 :] if rng.random() < 0.5 else message.fields + message.fields[at:]


def read_cloud(message: PointCloud2) -> None:
    _check_cloud(codec.cloud_from_message(message, "points", MAX_POINTS), message, MAX_POINTS)


def _check_cloud(cloud: Cloud, message: PointCloud2 | Image, limit: int) -> None:
    count = message.height * message.width
    assert cloud.xyz.shape == (count, 3) and cloud.xyz.dtype == np.float32 and count <= limit
    assert cloud.shape in (None, (message.height, message.width))
    assert cloud.rgb is None or (cloud.rgb.shape == (count, 3) and cloud.rgb.dtype == np.uint8)
    assert cloud.valid().shape == (count,)  # reads every coordinate


# ---- images


def _pixels(rng: Rng, height: int, width: int, encoding: str) -> Image:
    step = width * ENCODINGS[encoding] + rng.choice((0, 0, 0, 1, 32))
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=rng.choice((0, 0, 1, 255)), step=step)
    message.data = byte_array(rng.randbytes(step * height))
    return message


def _spoil_image(rng: Rng, message: Image) -> None:
    way = rng.randrange(5)
    if way == 0:
        message.encoding = rng.choice(ODD_STRINGS) if rng.random() < 0.3 else rng.choice(list(ENCODINGS))
    elif way < 3:
        spoil_number(rng, message, "height", "width", "step")
    elif way == 3:
        spoil_data(rng, message)
    else:  # other sizes that agree with each other
        message.height, message.width = rng.choice(((rng.randrange(9), rng.randrange(9)), (1, MAX_PIXELS + rng.randrange(2))))
        message.step = message.width * ENCODINGS.get(message.encoding, 1)
        message.data = byte_array(resized(rng, bytes(message.data), message.step * message.height))


def make_image(rng: Rng) -> Image:
    message = _pixels(rng, rng.randrange(1, 12), rng.randrange(1, 12), rng.choice(list(ENCODINGS)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        _spoil_image(rng, message)
    return message


def read_image(message: Image) -> None:
    image = codec.image_from_message(message, "image", MAX_PIXELS)
    assert image.shape == (message.height, message.width, 3) and image.dtype == np.uint8 and image.size <= 3 * MAX_PIXELS
    image.max()  # reads every pixel


# ---- compressed images


@functools.cache
def _files() -> tuple[bytes, ...]:
    """JPEG and PNG files of several kinds and sizes, the last of them beyond the limit."""
    small = picture()
    grey, alpha = small[..., 0], np.dstack([small, small[..., 0]])
    jpeg = ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1), (cv2.IMWRITE_JPEG_OPTIMIZE, 1))
    cases = [(".jpg", small, options) for options in jpeg]
    cases += [(".jpg", grey, ()), (".jpg", small[:1, :1], ()), (".png", small, ()), (".png", grey, ()), (".png", alpha, ())]
    cases += [(".png", grey.astype(np.uint16) * 257, ()), (".png", (grey > 99).astype(np.uint8), (cv2.IMWRITE_PNG_BILEVEL, 1))]
    files = [cv2.imencode(suffix, image, options)[1].tobytes() for suffix, image, options in cases]
    large = picture(MAX_PIXELS // 256 + 1, 256)
    return (*files, *(bytes(compressed_message(large, suffix).data) for suffix in (".jpg", ".png")))


def _declares(rng: Rng, data: bytes) -> bytes:
    """The file with another size in its header, its checksum right."""
    width, height = (rng.choice((0, 1, 33, 300, 4000, 65535)) for _ in range(2))
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", width * rng.choice((1, 1, 32769)), height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :] if at > 0 else data


def _nested(rng: Rng, data: bytes) -> bytes:
    """A whole file of another size as a segment of this one, like a thumbnail, under any marker; as a chunk of a PNG."""
    inner = _declares(rng, rng.choice(_files()[:6]))[2:]
    if data.startswith(b"\x89PNG"):
        name = rng.choice((b"eXIf", b"tEXt", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"IHDR", rng.randbytes(4)))
        chunk = name + rng.choice((inner, rng.randbytes(26), b"\0" * 8))
        at = rng.choice((8, 33))
        return data[:at] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]
    marker = rng.choice((0xE0, 0xE1, 0xFE, 0xD0, 0xD7, 0xD8, 0xD9, 0x00, 0x01, rng.randrange(256)))
    return data[:2] + struct.pack(">BBH", 0xFF, marker, (len(inner) + 2) % 65536) + inner + data[2:]


def make_compressed(rng: Rng) -> CompressedImage:
    data = rng.choice(_files())
    form = rng.choice(("jpeg", "png", "rgb8; jpeg compressed bgr8", *ODD_STRINGS))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        way = rng.randrange(9)
        if way < 5:
            data = spoiled(rng, data)
        elif way == 5:
            data = data[: rng.choice((0, 2, 8, 33))] + rng.randbytes(rng.randrange(200)) + data[-rng.choice((2, 12, 16)) :]
        else:
            data = (_declares if way == 6 else _nested)(rng, data)
    return CompressedImage(format=form, data=byte_array(data))


def read_compressed(message: CompressedImage) -> None:
    image = codec.image_from_compressed(message, "image", MAX_PIXELS)
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    assert 0 < image.size <= 3 * MAX_PIXELS, f"decoded to {image.shape}"


# ---- depth

Depth = tuple[Image, CameraInfo, "Image | None"]


def make_depth(rng: Rng) -> Depth:
    height, width = rng.randrange(1, 9), rng.randrange(1, 9)
    if rng.random() < 0.5:
        depth = image_message(np.array([[rng.randrange(65536) for _ in range(width)] for _ in range(height)], np.uint16), "16UC1")
    else:
        values = [[rng.uniform(0, 90) if rng.random() < 0.7 else rng.choice(ODD_FLOATS[:7]) for _ in range(width)] for _ in range(height)]
        depth = image_message(np.array(values, np.float32), "32FC1", padding=rng.choice((0, 2)), big=rng.random() < 0.2)
    info = CameraInfo(height=height, width=width)
    info.k = np.array([400.0, 0, 3.5, 0, 410.0, 3.5, 0, 0, 1])
    if rng.random() < 0.7:
        info.p = np.array([400.0, 0, 3.5, 0, 0, 410.0, 3.5, 0, 0, 0, 1, 0])
    color = _pixels(rng, height, width, rng.choice(("rgb8", "bgr8", "mono8"))) if rng.random() < 0.4 else None
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        way = rng.randrange(6)
        if way < 3:
            values = rng.choice((info.k, info.p))
            values[rng.randrange(len(values))] = rng.choice((*ODD_FLOATS, struct.unpack("<d", rng.randbytes(8))[0]))
        elif way == 3:
            spoil_number(rng, info, "height", "width")
        elif way == 4 and color is not None:
            _spoil_image(rng, color)
        else:
            _spoil_image(rng, depth)
            if rng.random() < 0.5:  # its camera_info agrees, so that more than the sizes is tried
                info.height, info.width = depth.height, depth.width
    return depth, info, color


def read_depth(message: Depth) -> None:
    depth, info, color = message
    cloud = codec.cloud_from_depth(depth, info, color, "depth", MAX_POINTS, MAX_PIXELS)
    _check_cloud(cloud, depth, MAX_POINTS)
    assert cloud.shape == (depth.height, depth.width) and (cloud.rgb is None) == (color is None)


# ---- running

Kind = tuple[Callable[[Rng], Any], Callable[[Any], None]]
KINDS: dict[str, Kind] = {  # name -> (makes a message, reads it)
    "cloud": (make_cloud, read_cloud),
    "image": (make_image, read_image),
    "compressed": (make_compressed, read_compressed),
    "depth": (make_depth, read_depth),
}


def summary(message: Any) -> str:
    """The fields of a message in one line, data by its size."""
    if isinstance(message, tuple):
        return " + ".join(summary(part) for part in message if part is not None)
    values = {name: getattr(message, name) for name in message.get_fields_and_field_types() if name != "header"}
    if "fields" in values:
        values["fields"] = [(field.name[:20], field.offset, field.datatype, field.count) for field in message.fields]
    if "data" in values:
        values["data"] = f"{len(message.data)} bytes, crc32 {zlib.crc32(bytes(message.data)):08x}"
    shown = (f"{name} {value.tolist() if isinstance(value, np.ndarray) else value!r}"[:160] for name, value in values.items())
    return f"{type(message).__name__}: {', '.join(shown)}"


def peak_memory() -> int:
    """Bytes that this process has had resident at most. That of getrusage would begin with the peak of the parent process."""
    with open("/proc/self/status", "rb") as status:
        return int(status.read().split(b"VmHWM:")[1].split()[0]) * 1024


def outcome(read: Callable[[Any], None], message: Any) -> str:
    """``decoded``, ``refused``, or what is wrong."""
    before = peak_memory()
    try:
        read(message)
        result = "decoded"
    except InputError as error:
        line, result = str(error), "refused"
        if len(line.splitlines()) != 1 or len(line) > MAX_LINE:
            return f"refused by {len(line.splitlines())} lines of {len(line)} characters: {line[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    grown = peak_memory() - before
    return result if grown <= MAX_GROWTH else f"{result}, and took {grown / 2**20:.0f} MiB"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """libjpeg and libpng write what they think of a file to the standard error of the process."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run(count: int, seed: int, kinds: dict[str, Kind] = KINDS) -> tuple[dict[str, Any], list[str]]:
    """The report, and one line for each failure."""
    counts = {name: {"decoded": 0, "refused": 0, "failed": 0} for name in kinds}
    failures: list[str] = []
    names = list(kinds)
    _files()
    start, memory = time.monotonic(), peak_memory()
    with quiet_libraries(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "points: .*; the cloud gets no colour", UserWarning)  # what is promised for unreadable colour
        warnings.filterwarnings("ignore", "image: .*-bit values use .* bits only", UserWarning)
        for number in range(seed, seed + count):
            name = names[number % len(names)]
            make, read = kinds[name]
            message = make(random.Random(number))
            result = outcome(read, message)
            if result not in counts[name]:
                failures.append(f"seed {number}, {name}: {result}; {summary(message)}")
                result = "failed"
            counts[name][result] += 1
    times = {"seconds": round(time.monotonic() - start, 1), "peak_memory_growth_mib": round((peak_memory() - memory) / 2**20, 1)}
    return {"seed": seed, "count": count, **counts, **times}, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="messages (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="that of the first message (default 0)")
    options = parser.parse_args()
    report, failures = run(options.count, options.seed)
    for line in failures[:SHOWN_FAILURES]:
        print(line, file=sys.stderr)
    print(json.dumps(report))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
