"""Posed frames: colour, depth, intrinsics and pose of a camera that moved through a room, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.poses import rigid

PLAUSIBLE_DEPTH = (0.1, 30.0)  # metres; the median depth of frames of a room lies between
LIKELY_DEPTH = (0.5, 8.0)  # and mostly between
LARGEST_STEP, LARGEST_TURN = 1.0, 60.0  # metres and degrees between neighbouring frames that are never a jump
STEPS = 10  # times the median step, or turn, that is a jump where it is more than that
_TRIED = 3  # frames whose depth is looked at when a source is opened


@dataclass(frozen=True, eq=False)
class PosedFrame:
    """A colour image and a depth image of one pinhole camera, pixel by pixel the same, and where the camera was.

    Attributes:
        rgb: uint8 [H, W, 3].
        depth: float32 [H, W], metres along the optical axis; NaN where there is none.
        intrinsics: float64 [3, 3], K in pixels: (u, v, 1) z = K (x, y, z); whole numbers are the centres of pixels.
        pose: float64 [4, 4], camera (optical frame: x right, y down, z forward) to world, metres.
        name: for messages.
        stamp: nanoseconds, or None where the source has no time.

    Raises:
        InputError: shapes that do not fit, no pose, or intrinsics that no camera of this size has.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    pose: NDArray[np.float64]
    name: str = ""
    stamp: int | None = None

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise InputError(f"{self.name}: expected colour uint8 [H, W, 3], got {self.rgb.dtype} {list(self.rgb.shape)}")
        if self.depth.shape != self.rgb.shape[:2]:
            raise InputError(f"{self.name}: depth is {_size(self.depth)}, expected the {_size(self.rgb)} of the colour image")
        check_intrinsics(self.intrinsics, self.depth.shape, self.name)
        object.__setattr__(self, "pose", rigid(self.pose))


class PosedFrames(Protocol):
    """The frames of one room, read anew by every iteration."""

    @property
    def name(self) -> str:
        """Of the room or recording."""
        ...

    @property
    def warnings(self) -> list[str]:
        """A line for each frame, or run of frames, left out so far."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[PosedFrame]: ...


class FrameList:
    """Frames in memory. Attributes as those of :class:`PosedFrames`."""

    def __init__(self, frames: Sequence[PosedFrame], name: str = "") -> None:
        self._frames, self.name = list(frames), name
        self.warnings: list[str] = []

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[PosedFrame]:
        return iter(self._frames)


@dataclass(frozen=True)
class FrameSource:
    """One frame that can be read. Attributes: name; pose: float64 [4, 4], not checked; read: makes the frame from its checked pose."""

    name: str
    pose: NDArray[np.float64]
    read: Callable[[NDArray[np.float64]], PosedFrame]


class ReadFrames:
    """Frames that are read when they are needed: those with a usable pose, at most ``limit``, evenly spread over them.

    Frames whose pose is no rigid motion, or jumps (see :func:`steady`), are left out; so are files that cannot be read. Each reason gives
    a line in ``warnings``.

    Args:
        name: for messages.
        sources: in the order of time.
        limit: largest number of frames; None: all.

    Raises:
        InputError: no frame with a usable pose; depth in other units than metres.
    """

    def __init__(self, name: str, sources: Sequence[FrameSource], limit: int | None = None) -> None:
        self.name = name
        self._skipped: dict[str, str] = {}
        if limit is not None and limit < 1:
            raise InputError(f"frames: expected at least 1, got {limit}")
        usable, poses = self._usable(sources)
        steadily = steady(np.stack(poses))
        lost = len(usable) - int(steadily.sum())
        self._notes = [f"{name}: {lost} of {len(usable)} poses jump away from the others, these frames are left out"] if lost else []
        kept = np.flatnonzero(steadily)
        chosen = [int(kept[k]) for k in evenly(len(kept), limit)]
        self._sources = [(usable[k], poses[k]) for k in chosen]
        self._check_units()

    def _usable(self, sources: Sequence[FrameSource]) -> tuple[list[FrameSource], list[NDArray[np.float64]]]:
        usable, poses = [], []
        for source in sources:
            try:
                poses.append(rigid(source.pose))
                usable.append(source)
            except InputError as error:
                self._skipped[source.name] = f"{source.name}: {error}"
        if not usable:
            first = next(iter(self._skipped.values()), "there is none")
            raise InputError(f"{self.name}: no frame with a pose; first: {first}")
        return usable, poses

    def _check_units(self) -> None:
        """InputError where the median depth of some frames is not that of a room."""
        medians = []
        for k in evenly(len(self._sources), _TRIED):
            frame = self._read(k)
            if frame is not None and np.isfinite(frame.depth).any():
                medians.append(float(np.nanmedian(frame.depth)))
        low, high = PLAUSIBLE_DEPTH
        if medians and not low <= np.median(medians) <= high:
            raise InputError(
                f"{self.name}: the median depth is {np.median(medians):.4g} m in the units of this layout, expected {low} to {high:.0f} m"
            )
        if medians and not LIKELY_DEPTH[0] <= np.median(medians) <= LIKELY_DEPTH[1]:
            self._notes.append(
                f"{self.name}: the median depth is {np.median(medians):.2g} m, rare for a room: is the depth in other units?"
            )

    def _read(self, k: int) -> PosedFrame | None:
        source, pose = self._sources[k]
        try:
            return source.read(pose)
        except InputError as error:
            self._skipped[source.name] = str(error)
            return None

    @property
    def warnings(self) -> list[str]:
        """A line for each frame, or run of frames, left out so far."""
        return [*self._notes, *self._skipped.values()]

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[PosedFrame]:
        readable = 0
        for k in range(len(self._sources)):
            frame = self._read(k)
            if frame is not None:
                readable += 1
                yield frame
        if not readable:
            raise InputError(f"{self.name}: none of {len(self._sources)} frames can be read; first: {next(iter(self._skipped.values()))}")


def steady(poses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which poses of a walk belong to its longest part without jumps.

    A jump is a step of more than 1 m and more than 10 times the median step, or a turn of more than 60 degrees and more than 10 times the
    median turn. Poses are added in their order to the part whose last pose is within such a step, else they begin a part of their own; so
    one wrong pose does not part the frames before it from those behind it.

    Args:
        poses: float64 [F, 4, 4], rigid.

    Returns:
        bool [F].
    """
    if len(poses) < 2:
        return np.ones(len(poses), bool)
    step = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turn = _turn(poses[1:], poses[:-1])
    longest, widest = max(LARGEST_STEP, STEPS * float(np.median(step))), max(LARGEST_TURN, STEPS * float(np.median(turn)))
    part, last = np.empty(len(poses), np.int64), np.empty(0, np.int64)  # the part of each pose, the last pose of each part
    for k, pose in enumerate(poses):
        gone = np.linalg.norm(poses[last, :3, 3] - pose[:3, 3], axis=1)
        near = (gone <= longest) & (_turn(poses[last], pose[None]) <= widest)
        if near.any():
            part[k] = int(np.argmin(np.where(near, gone, np.inf)))
            last[part[k]] = k
        else:
            part[k] = len(last)
            last = np.append(last, k)
    return np.asarray(part == np.bincount(part).argmax())


def evenly(count: int, limit: int | None) -> list[int]:
    """Numbers 0 .. count - 1, at most ``limit`` of them, evenly spread, first and last included."""
    if limit is None or count <= limit:
        return list(range(count))
    return [int(k) for k in np.rint(np.linspace(0, count - 1, limit))] if limit > 1 else [count // 2]


def check_intrinsics(intrinsics: NDArray[np.float64], size: tuple[int, ...], name: str) -> None:
    """InputError unless a camera of ``size`` (height, width) has them: positive focal lengths, the principal point inside."""
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise InputError(f"{name}: intrinsics: expected a finite 3x3 matrix")
    height, width = size[:2]
    (fx, _, cx), (_, fy, cy) = intrinsics[:2]
    if not (fx > 0 and fy > 0):
        raise InputError(f"{name}: intrinsics: focal lengths {fx:g} and {fy:g}, expected positive ones")
    if not (0 <= cx < width and 0 <= cy < height):
        raise InputError(f"{name}: intrinsics: principal point {cx:g}, {cy:g} is outside the image of {width} x {height} pixels")


def _turn(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees [F] between the axes of poses [F, 4, 4]."""
    trace = np.einsum("nij,nij->n", a[:, :3, :3], np.broadcast_to(b[:, :3, :3], a[:, :3, :3].shape))
    return np.asarray(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def _size(image: NDArray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
