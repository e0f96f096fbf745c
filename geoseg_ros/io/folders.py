"""Folders of images and clouds: listing, reading, and writing masks and overlays."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import CLOUD_SUFFIXES, read_cloud
from geoseg_ros.io.overlay import draw_overlay

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 100_000_000
_BACKDROP = 128.0  # what shows through transparent pixels

Item = TypeVar("Item")


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sort key that puts ``frame2`` before ``frame10``; the name itself breaks ties, so that the order is total."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files directly in ``folder`` (by suffix, hidden files skipped), in natural order.

    Raises:
        InputError: ``folder`` is not a folder, or holds no image.
    """
    return _list(folder, IMAGE_SUFFIXES, "image")


def list_clouds(folder: str | os.PathLike[str]) -> list[Path]:
    """The cloud files directly in ``folder`` (by suffix, hidden files skipped), in natural order.

    Raises:
        InputError: ``folder`` is not a folder, or holds no cloud.
    """
    return _list(folder, CLOUD_SUFFIXES, "cloud")


def _list(folder: str | os.PathLike[str], suffixes: tuple[str, ...], kind: str) -> list[Path]:
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of {kind}s, {'this is a file' if root.exists() else 'it does not exist'}")
    paths = [p for p in root.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()]
    if not paths:
        raise InputError(f"{root}: no {kind} found, expected files named *{', *'.join(suffixes)}")
    return sorted(paths, key=natural_key)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3].

    Grey images are repeated over the channels, 16-bit ones scaled to 8, transparent ones laid over mid grey, and the EXIF
    orientation of photographs is applied.

    Raises:
        InputError: missing, empty, damaged or truncated file, or more than ``MAX_PIXELS`` pixels.
    """
    source = Path(path)
    try:
        size = source.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise InputError(f"{source}: expected an image of 1 to {MAX_FILE_BYTES} bytes, got {size}")
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot read the image: {error.strerror}") from None
    return decode_image(data, str(source))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file as ``read_image`` does; ``name`` is used in errors."""
    # OpenCV fills the missing part of a cut file with grey and says nothing, so the end markers are checked here.
    # 0xFF is always escaped within JPEG scan data, hence the last end marker must follow the last start of scan.
    if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise InputError(f"{name}: truncated JPEG, no end marker")
    if data.startswith(b"\x89PNG"):
        if b"IEND" not in data:
            raise InputError(f"{name}: truncated PNG, no end chunk")
        _check_pixels(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"), name)  # before inflating it
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if image is not None and not data.startswith(b"\xff\xd8") else None
    except cv2.error as error:
        raise InputError(f"{name}: cannot decode the image: {error.err}") from None
    if image is None:
        raise InputError(f"{name}: not an image that can be decoded")
    _check_pixels(image.shape[1], image.shape[0], name)
    if raw is not None and raw.ndim == 3 and raw.shape[2] == 4 and raw.shape[:2] == image.shape[:2]:
        alpha = raw[..., 3:].astype(np.float32) / {1: 255.0, 2: 65535.0}.get(raw.itemsize, 1.0)  # larger: floats
        image = np.rint(image * alpha + _BACKDROP * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1])


def _check_pixels(width: int, height: int, name: str) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"{name}: expected 1 to {MAX_PIXELS} pixels, got {width} x {height}")


class Folder(Generic[Item]):
    """The readable files of a folder, one at a time.

    Iterating yields (path, item); a file that cannot be read is skipped and its error line kept. When the end is
    reached and nothing could be read, ``InputError`` is raised.

    Attributes:
        paths: every file, in natural order.
        skipped: error line of each file that could not be read so far.
    """

    def __init__(self, paths: list[Path], read: Callable[[Path], Item]) -> None:
        self.paths = paths
        self.skipped: dict[Path, str] = {}
        self._read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[Path, Item]]:
        readable = 0
        for path in self.paths:
            try:
                item = self._read(path)
            except InputError as error:
                self.skipped[path] = str(error)
                continue
            readable += 1
            yield path, item
        if not readable:
            first = next(iter(self.skipped.values()))
            raise InputError(f"{self.paths[0].parent}: none of its {len(self.paths)} files can be read; first: {first}")

    @property
    def warnings(self) -> list[str]:
        """One line for each file skipped so far."""
        return list(self.skipped.values())


def load_images(folder: str | os.PathLike[str]) -> Folder[NDArray[np.uint8]]:
    """The images of ``folder`` as uint8 RGB [H, W, 3]; see ``Folder`` for what happens to unreadable ones."""
    return Folder(list_images(folder), read_image)


def load_clouds(folder: str | os.PathLike[str]) -> Folder[Cloud]:
    """The clouds of ``folder``; see ``Folder`` for what happens to unreadable ones."""
    return Folder(list_clouds(folder), read_cloud)


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write uint8 RGB [H, W, 3] or grey [H, W] in the format that the suffix of ``path`` names.

    Raises:
        InputError: no image format has this suffix. OSError: the disk is full, for instance.
    """
    pixels = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)
    suffix = Path(path).suffix.lower()
    try:
        # encoded before it is written: OpenCV does not tell a full disk from a suffix that it does not know
        data = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix in (".jpg", ".jpeg") else [])[1]
    except cv2.error:
        raise InputError(f"{path}: cannot write an image with this suffix") from None
    write_bytes(path, data.tobytes())


def write_mask(path: str | os.PathLike[str], mask: NDArray[np.uint8]) -> None:
    """Write a mask, uint8 [H, W], as a lossless PNG with exactly these values."""
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"mask: expected uint8 [H, W], got {mask.dtype} {mask.shape}")
    write_image(path, mask)


def write_overlay(path: str | os.PathLike[str], image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write ``draw_overlay`` of the arguments in the format that the suffix of ``path`` names."""
    write_image(path, draw_overlay(image, mask, palette))
