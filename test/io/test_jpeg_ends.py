"""Where a JPEG ends: what follows its end marker does not count, a missing marker costs nothing, missing data are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.io import encoded_images, folders
from geoseg_ros.io.folders import read_image

RNG = np.random.default_rng(0)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 255, (96, 128, 3), np.uint8), (0, 0), 3)
KINDS = {
    "photo": (SMOOTH, []),
    "noise": (RNG.integers(0, 255, (60, 60, 3), np.uint8), []),
    "flat": (np.full((64, 64, 3), 90, np.uint8), []),
    "progressive": (SMOOTH, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "restarts": (SMOOTH, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]),
}
TRAILERS = {
    "nothing": b"",
    "zeros": bytes(500),
    "video": b"MotionPhoto_Data" + bytes(RNG.integers(0, 256, 4000, np.uint8)),
    "stray end": b"ftypmp42" + b"\xff\xd9" + b"more",
    "second picture": cv2.imencode(".jpg", SMOOTH[::2])[1].tobytes(),
}


def encoded(kind: str) -> bytes:
    picture, options = KINDS[kind]
    return bytes(cv2.imencode(".jpg", picture, options)[1].tobytes())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trailer", TRAILERS)
def test_what_follows_the_picture_does_not_count(tmp_path: Path, kind: str, trailer: str) -> None:
    data = encoded(kind)
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(data + TRAILERS[trailer])
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_without_its_end_marker_is_read(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(data[:-2])
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("kind", ["photo", "noise", "progressive", "restarts"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("trailer", ["", "end", "stray end", "zeros and end"])
def test_a_cut_picture_is_refused(tmp_path: Path, kind: str, share: float, trailer: str) -> None:
    data = encoded(kind)
    scan = data.rindex(b"\xff\xda") if kind == "progressive" else data.index(b"\xff\xda")
    if kind == "noise" and share > 0.9:
        pytest.skip("only the colour of the last block is cut off")
    cut = data[: scan + 16 + int(share * (len(data) - scan - 16 - 2))]
    rest = {"": b"", "end": b"\xff\xd9", "stray end": b"ftypmp42\xff\xd9more", "zeros and end": bytes(40) + b"\xff\xd9"}[trailer]
    (tmp_path / "cut.jpg").write_bytes(cut + rest)
    with pytest.raises(InputError, match="truncated JPEG"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_a_picture_that_is_too_large_is_not_decoded(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), SMOOTH)
    monkeypatch.setattr(folders, "MAX_PIXELS", 128 * 96)
    assert read_image(tmp_path / f"a{suffix}").shape == (96, 128, 3)
    monkeypatch.setattr(folders, "MAX_PIXELS", 128 * 96 - 1)
    monkeypatch.setattr(encoded_images.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="128 x 96 pixels"):
        read_image(tmp_path / f"a{suffix}")
