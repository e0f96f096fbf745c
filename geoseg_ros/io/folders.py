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
from geoseg_ros.io.encoded_images import decode_pixels
from geoseg_ros.io.overlay import draw_overlay

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 100_000_000

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

    See :func:`decode_pixels`; the EXIF orientation of photographs is applied.

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
    return decode_pixels(data, name, MAX_PIXELS)


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
        return ((path, item) for _, path, item in self.pick())

    def pick(self, choose: Callable[[int], bool] = lambda number: True) -> Iterator[tuple[int, Path, Item]]:
        """(number, path, item) of the files whose numbers are chosen; the others are not read."""
        readable = tried = 0
        for number, path in enumerate(self.paths):
            if not choose(number):
                continue
            tried += 1
            try:
                item = self._read(path)
            except InputError as error:
                self.skipped[path] = str(error)
                continue
            readable += 1
            yield number, path, item
        if tried and not readable:
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
        # encoded before it is written: OpenCV reports a full disk and an unknown suffix alike
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
