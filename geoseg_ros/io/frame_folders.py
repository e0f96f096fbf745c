"""Folders of posed frames in the layouts of 7-Scenes, TUM RGB-D and ScanNet."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.io.encoded_images import decode_depth
from geoseg_ros.io.folders import MAX_FILE_BYTES, MAX_PIXELS, natural_key, read_image
from geoseg_ros.io.posed_frames import FrameSource, PosedFrame, ReadFrames

_INVALID = 65535  # 7-Scenes writes it where nothing was measured
_TUM_UNITS, _UNITS = 5000.0, 1000.0  # per metre
_TUM_GAP = 0.02  # seconds between the stamps of a depth image and its colour image or pose
# published with the TUM RGB-D data: fx, fy, cx, cy of its three cameras
_TUM_CAMERAS = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
_LONGEST_TABLE = 64 << 20  # bytes


def is_frame_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder has one of the layouts of :func:`open_frame_folder`."""
    return Path(path).is_dir() and _layout(Path(path)) is not None


def open_frame_folder(path: str | os.PathLike[str], limit: int | None = None) -> ReadFrames:
    """The posed frames of a folder.

    Layouts:

    * 7-Scenes: ``frame-000000.color.jpg`` (or ``.png``), ``.depth.png`` in millimetres (0 and 65535: none), ``.pose.txt`` (4x4, camera to
      world), and ``camera-intrinsics.txt`` (3x3).
    * TUM RGB-D: ``rgb.txt``, ``depth.txt`` (5000 per metre) and ``groundtruth.txt``, joined by stamps within 0.02 s; intrinsics from
      ``camera-intrinsics.txt``, else those published for the freiburg1, 2 or 3 in the folder's name.
    * ScanNet: ``color/0.jpg``, ``depth/0.png`` in millimetres, ``pose/0.txt`` and ``intrinsic/intrinsic_depth.txt``
      (``intrinsics_depth.txt`` in the 25k frames), with ``intrinsic_color.txt`` where the images differ in size.

    Args:
        limit: largest number of frames, evenly spread; None: all.

    Raises:
        InputError: another layout, no usable pose or intrinsics, depth in other units.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of posed frames, {'this is a file' if root.exists() else 'it does not exist'}")
    sources = _layout(root)
    if sources is None:
        raise InputError(
            f"{root}: no posed frames, expected *.pose.txt (7-Scenes), groundtruth.txt with rgb.txt and depth.txt (TUM), or color/, depth/"
            " and pose/ (ScanNet)"
        )
    return ReadFrames(str(root), sources(root), limit)


def _layout(root: Path) -> Callable[[Path], list[FrameSource]] | None:
    if all((root / name).is_file() for name in ("rgb.txt", "depth.txt", "groundtruth.txt")):
        return _tum
    if all((root / name).is_dir() for name in ("color", "depth", "pose")):
        return _scannet
    return _seven_scenes if next(root.glob("*.pose.txt"), None) is not None else None


def _seven_scenes(root: Path) -> list[FrameSource]:
    intrinsics = read_matrix(root / "camera-intrinsics.txt")[:3, :3]
    sources = []
    for path in sorted(root.glob("*.pose.txt"), key=natural_key):
        stem = root / path.name.removesuffix(".pose.txt")
        sources.append(_source(_either(stem, ".color"), Path(f"{stem}.depth.png"), _matrix_or_nan(path), intrinsics, None, _UNITS, None))
    return sources


def _scannet(root: Path) -> list[FrameSource]:
    stem = root / "intrinsics" if (root / "intrinsics_depth.txt").is_file() else root / "intrinsic" / "intrinsic"
    intrinsics = read_matrix(Path(f"{stem}_depth.txt"))[:3, :3]
    own = Path(f"{stem}_color.txt")
    colour = read_matrix(own)[:3, :3] if own.is_file() else None
    sources = []
    for path in sorted((root / "pose").glob("*.txt"), key=natural_key):
        depth = root / "depth" / f"{path.stem}.png"
        sources.append(_source(_either(root / "color" / path.stem), depth, _matrix_or_nan(path), intrinsics, colour, _UNITS, None))
    return sources


def _tum(root: Path) -> list[FrameSource]:
    own = root / "camera-intrinsics.txt"
    camera = next((numbers for name, numbers in _TUM_CAMERAS.items() if name in root.resolve().name.lower()), None)
    if own.is_file():
        intrinsics = read_matrix(own)[:3, :3]
    elif camera is not None:
        intrinsics = np.array([[camera[0], 0, camera[2]], [0, camera[1], camera[3]], [0, 0, 1]])
    else:
        raise InputError(f"{own}: no such file, and the name of the folder has none of {', '.join(_TUM_CAMERAS)}; expected intrinsics")
    colours, depths, poses = (_table(root / name) for name in ("rgb.txt", "depth.txt", "groundtruth.txt"))
    sources = []
    for stamp, words in depths:
        colour, pose = _nearest(colours, stamp), _nearest(poses, stamp)
        if colour is None or pose is None or not words:
            continue
        sources.append(
            _source(root / colour[0], root / words[0], _tum_pose(pose), intrinsics, None, _TUM_UNITS, round(stamp * 1e9), bounds=root)
        )
    if not sources:
        raise InputError(f"{root}: no depth image has a colour image and a pose within {_TUM_GAP} s")
    return sources


def _source(
    colour: Path,
    depth: Path,
    pose: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    colour_intrinsics: NDArray[np.float64] | None,
    units: float,
    stamp: int | None,
    bounds: Path | None = None,
) -> FrameSource:
    """A frame of two files; ``units`` of the depth per metre."""

    def read(checked: NDArray[np.float64]) -> PosedFrame:
        if bounds is not None and any(bounds.resolve() not in path.resolve().parents for path in (colour, depth)):
            raise InputError(f"{depth}: lies outside {bounds}")
        metres = read_depth(depth, units)
        rgb = _registered(read_image(colour), metres.shape, intrinsics, colour_intrinsics, str(colour))
        return PosedFrame(rgb, metres, intrinsics, checked, str(depth), stamp)

    return FrameSource(str(depth), pose, read)


def read_depth(path: Path, units: float = _UNITS) -> NDArray[np.float32]:
    """A depth image, float32 [H, W] in metres, NaN where nothing was measured.

    Args:
        path: PNG of 16 bits; 0 and 65535 mean nothing measured.
        units: per metre.

    Raises:
        InputError: missing, damaged or truncated file, or not one channel of 16 bits.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise InputError(f"{path}: expected an image of 1 to {MAX_FILE_BYTES} bytes, got {size}")
        raw = decode_depth(path.read_bytes(), str(path), MAX_PIXELS)
    except OSError as error:
        raise InputError(f"{path}: cannot read the depth image: {error.strerror}") from None
    return np.where((raw == 0) | (raw == _INVALID), np.float32(np.nan), raw / np.float32(units)).astype(np.float32)


def _registered(
    rgb: NDArray[np.uint8],
    shape: tuple[int, ...],
    intrinsics: NDArray[np.float64],
    own: NDArray[np.float64] | None,
    name: str,
) -> NDArray[np.uint8]:
    """The colour image on the pixels of the depth image of ``shape``, whose camera has the same centre and axes."""
    if rgb.shape[:2] == shape and (own is None or np.allclose(own, intrinsics)):
        return rgb
    if own is None:
        raise InputError(f"{name}: {rgb.shape[1]} x {rgb.shape[0]}, expected the {shape[1]} x {shape[0]} of the depth image")
    to_colour = own @ np.linalg.inv(intrinsics)  # pixels of the depth image to those of the colour image
    blur = max(rgb.shape[1] / shape[1], rgb.shape[0] / shape[0])
    if blur > 1.5:  # without it fine texture would alias
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.4 * blur), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(rgb, to_colour, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _either(stem: Path, middle: str = "") -> Path:
    """The colour image of a frame: PNG where there is one, else JPEG."""
    png = Path(f"{stem}{middle}.png")
    return png if png.is_file() else Path(f"{stem}{middle}.jpg")


def read_matrix(path: Path) -> NDArray[np.float64]:
    """A 3x3 or 4x4 matrix of numbers in a text file.

    Raises:
        InputError: missing file, or something else in it.
    """
    try:
        numbers = [float(word) for word in path.read_bytes()[:4096].split()]
    except OSError as error:
        raise InputError(f"{path}: cannot read the matrix: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: expected a matrix of numbers") from None
    side = {9: 3, 16: 4}.get(len(numbers))
    if side is None:
        raise InputError(f"{path}: {len(numbers)} numbers, expected a 3x3 or 4x4 matrix")
    return np.array(numbers, np.float64).reshape(side, side)


def _matrix_or_nan(path: Path) -> NDArray[np.float64]:
    """A pose that is refused later, and counted, where the file is damaged."""
    try:
        return read_matrix(path)
    except InputError:
        return np.full((4, 4), np.nan)


def _table(path: Path) -> list[tuple[float, list[str]]]:
    """Lines of a TUM table: stamp in seconds and the rest, by stamp; lines that are not so are left out."""
    if path.stat().st_size > _LONGEST_TABLE:
        raise InputError(f"{path}: more than {_LONGEST_TABLE >> 20} MB")
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            rows.append((float(words[0]), words[1:]))
        except ValueError:
            continue
    if not rows:
        raise InputError(f"{path}: expected lines of a stamp and more, found none")
    return sorted(rows, key=lambda row: row[0])


def _nearest(rows: list[tuple[float, list[str]]], stamp: float) -> list[str] | None:
    """The row nearest in time, or None where none is within ``_TUM_GAP``."""
    stamps = np.array([row[0] for row in rows])
    at = int(np.searchsorted(stamps, stamp))
    near = min((k for k in (at - 1, at) if 0 <= k < len(rows)), key=lambda k: abs(stamps[k] - stamp))
    return rows[near][1] if abs(stamps[near] - stamp) <= _TUM_GAP and rows[near][1] else None


def _tum_pose(words: list[str]) -> NDArray[np.float64]:
    """tx ty tz qx qy qz qw, or NaN where they are not."""
    pose = np.eye(4)
    try:
        numbers = np.array([float(word) for word in words[:7]])
        pose[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
        pose[:3, 3] = numbers[:3]
    except ValueError:
        return np.full((4, 4), np.nan)
    return pose
