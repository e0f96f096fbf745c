"""A recording from files of clouds and images, as of two sensors that are not synchronised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.folders import Folder, load_clouds, load_images
from geoseg_ros.io.recordings import RecordingWriter
from geoseg_ros.settings import Settings, setting

_KEPT_BYTES = 512 * 2**20
START_NS = 1_700_000_000 * 10**9  # the first stamp; fixed, so that equal files give equal recordings


@dataclass(frozen=True)
class FrameTiming(Settings):
    """How files become messages."""

    cloud_rate: float = setting(5.0, "clouds per second", unit="Hz", range=(1e-6, 1e6))
    image_rate: float = setting(15.0, "images per second", unit="Hz", range=(1e-6, 1e6))
    seconds: float | None = setting(
        None,
        "repeat or cut the files to this length; without it each file comes once",
        unit="s",
        range=(1e-6, 1e6),
    )
    cloud_frame: str = setting("lidar", "frame_id of the clouds")
    image_frame: str = setting("camera", "frame_id of the images")
    cloud_topic: str = setting("/lidar/points", "topic of the clouds")
    image_topic: str = setting("/camera/image_raw", "topic of the images")


def pack_frames(
    clouds: str | os.PathLike[str] | None,
    images: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    timing: FrameTiming | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the files of two folders into a rosbag2 recording, in natural order and with fixed stamps.

    Args:
        clouds, images: folders; either may be None.
        out: as ``RecordingWriter``.
        progress: called with (messages written, messages in all).

    Returns:
        ``clouds``, ``images`` (message counts), ``seconds`` and ``skipped`` (one line per unreadable file).

    Raises:
        InputError: no folder given, an empty folder, or nothing readable in a folder.
    """
    timing = timing or FrameTiming()
    if clouds is None and images is None:
        raise InputError("expected a folder of clouds, a folder of images, or both")
    with RecordingWriter(out) as writer:
        streams = []
        if clouds is not None:
            streams.append(
                _Stream(load_clouds(clouds), writer.write_cloud, timing.cloud_topic, timing.cloud_frame, timing.cloud_rate, timing.seconds)
            )
        if images is not None:
            streams.append(
                _Stream(load_images(images), writer.write_image, timing.image_topic, timing.image_frame, timing.image_rate, timing.seconds)
            )
        total = sum(stream.expected for stream in streams)
        done = 0
        # the stream whose next message is the earliest goes on; ties are broken by the order above
        while waiting := [stream for stream in streams if stream.has_next()]:
            min(waiting, key=lambda stream: stream.stamp_ns).write_next()
            done += 1
            progress(done, total)
    counts = [writer.counts.get(topic, 0) for topic in (timing.cloud_topic, timing.image_topic)]
    skipped = [line for stream in streams for line in stream.folder.warnings]
    last = max(stream.stamp_ns - stream.period_ns for stream in streams)
    return {"clouds": counts[0], "images": counts[1], "seconds": (last - START_NS) * 1e-9, "skipped": skipped}


class _Stream:
    """The messages of one folder, made when they are due. Files that are shown again are kept in memory while they fit."""

    def __init__(
        self, folder: Folder[Any], write: Callable[[str, int, str, Any], None], topic: str, frame: str, rate: float, seconds: float | None
    ) -> None:
        self.folder = folder
        self.stamp_ns = START_NS
        self.period_ns = round(1e9 / rate)
        self.expected = len(folder) if seconds is None else max(1, round(seconds * rate))
        self._write = write
        self._topic, self._frame = topic, frame
        self._items = self._repeated() if seconds is not None else (item for _, item in folder)
        self._next: Any = None
        self._written = 0

    def _repeated(self) -> Iterator[Any]:
        kept: list[Any] = []
        room = _KEPT_BYTES
        for _, item in self.folder:
            room -= _size(item)
            if room >= 0:
                kept.append(item)
            yield item
        while True:
            yield from kept if room >= 0 else (item for _, item in self.folder)

    def has_next(self) -> bool:
        if self._written == self.expected:
            return False
        if self._next is None:
            self._next = next(self._items, None)
        return self._next is not None

    def write_next(self) -> None:
        self._write(self._topic, self.stamp_ns, self._frame, self._next)
        self._next = None
        self._written += 1
        self.stamp_ns += self.period_ns


def _size(item: Any) -> int:
    if isinstance(item, Cloud):
        return item.xyz.nbytes + (0 if item.rgb is None else item.rgb.nbytes)
    return item.nbytes
