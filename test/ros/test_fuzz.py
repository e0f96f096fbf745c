"""A slice of the fuzz, that it notices what is wrong, and the messages that it once found to be read wrongly."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from support import fuzz_messages
from support.ros_cases import XYZ, byte_array, cloud_message, compressed_message, image_message, picture, points

SCRIPT = Path(fuzz_messages.__file__)


def test_every_message_is_decoded_or_refused():
    """In a process of its own: peak memory counts from its start, and a crash would not take the tests along."""
    run = subprocess.run([sys.executable, SCRIPT, "--count", "20000", "--seed", "0"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    for name in fuzz_messages.KINDS:
        counts = report[name]
        assert counts["failed"] == 0 and counts["decoded"] + counts["refused"] == 5000
        assert counts["decoded"] > 500 and counts["refused"] > 500, f"{name}: {counts}, too few to say something"


def test_same_seed_same_messages():
    first, _ = fuzz_messages.run(400, 7)
    again, _ = fuzz_messages.run(400, 7)
    assert all(first[name] == again[name] for name in fuzz_messages.KINDS)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("cannot reshape"), "ValueError: cannot reshape"),
        (InputError("two\nlines"), "refused by 2 lines"),
        (InputError("x" * 2000), "refused by 1 lines of 2000 characters"),
        (InputError(""), "refused by 0 lines"),
    ],
)
def test_failures_are_told_with_their_seed(error, line):
    def read(message):
        raise error

    report, failures = fuzz_messages.run(3, 40, {"image": (fuzz_messages.make_image, read)})
    assert report["image"] == {"decoded": 0, "refused": 0, "failed": 3}
    assert [failure.startswith(f"seed {40 + i}, image: {line}") for i, failure in enumerate(failures)] == [True] * 3
    assert all("Image: height" in failure and len(failure.splitlines()) == 1 for failure in failures)


def test_warnings_and_memory_are_failures():
    """In a process of its own, whose peak memory is still low. The exit code is 1."""
    code = (
        "import sys, numpy as np, fuzz_messages as fuzz\n"
        "fuzz.KINDS['cloud'] = (fuzz.make_cloud, lambda _: np.ones(12 << 20))\n"
        "fuzz.KINDS['image'] = (fuzz.make_image, lambda _: np.float32(3e38) * np.float32(9))\n"
        "sys.argv[1:] = ['--count', '2']\n"
        "sys.exit(fuzz.main())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("seed 0, cloud: decoded, and took 9") and lines[1].startswith("seed 1, image: RuntimeWarning: overflow")


# ---- found by the fuzz


def _within(marker: int) -> CompressedImage:
    """A JPEG of 32 x 24 with another one, of 400 x 300, inside a segment in front."""
    outer, inner = (bytes(compressed_message(picture(*size)).data) for size in ((24, 32), (300, 400)))
    segment = struct.pack(">BBH", 0xFF, marker, len(inner)) + inner[2:]
    return CompressedImage(format="jpeg", data=byte_array(outer[:2] + segment + outer[2:]))


def test_thumbnail_is_skipped():
    assert codec.image_from_compressed(_within(0xE1), max_pixels=1000).shape == (24, 32, 3)


@pytest.mark.parametrize("marker", [0x00, 0x01, 0xD0, 0xD7])
def test_size_of_the_decoded_jpeg_is_the_checked_one(marker):
    with pytest.raises(InputError, match="expected a whole segment"):
        codec.image_from_compressed(_within(marker), max_pixels=1000)


@pytest.mark.parametrize("length", [2**32 - 200, 4000])
def test_png_chunk_longer_than_the_file(length):
    data = bytearray(compressed_message(picture(), ".png", "png").data)
    at = data.index(b"IDAT")
    data[at - 4 : at] = struct.pack(">I", length)
    with pytest.raises(InputError, match="truncated PNG of .* expected whole chunks from IHDR to IEND"):
        codec.image_from_compressed(CompressedImage(format="png", data=byte_array(data)))


@pytest.mark.parametrize("text", ["x\ny", "a\u2028b", "w" * 5000, "v\n" * 3000], ids=("newline", "line separator", "long", "long lines"))
def test_strings_of_messages_stay_on_one_short_line(text):
    other = [(text, "f4", 0), *XYZ[1:]]
    for read, message in (
        (codec.cloud_from_message, cloud_message(points(), other)),
        (codec.image_from_message, image_message(picture(), text)),
        (codec.image_from_compressed, CompressedImage(format=text, data=byte_array(b"neither"))),
        (lambda depth: codec.cloud_from_depth(depth, CameraInfo()), Image(encoding=text)),
    ):
        with pytest.raises(InputError) as caught:
            read(message)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500


@pytest.mark.filterwarnings("error")
def test_depth_beyond_float32_is_invalid_without_a_warning():
    pixels = np.ones((1, 3), np.float32)
    pixels.view(np.uint32)[0, 0] = 0x7FA00000  # a signalling NaN
    info = CameraInfo(height=1, width=3)
    info.k = np.array([5e-324, 0, 1, 0, 1, 0, 0, 0, 1])
    cloud = codec.cloud_from_depth(image_message(pixels, "32FC1"), info)
    assert cloud.valid().tolist() == [False, True, False]
