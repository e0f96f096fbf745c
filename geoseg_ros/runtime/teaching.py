"""Learning of a target on the robot: the newest inputs, the examples, and the build of the pack in a child process."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output, write_bytes
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import stamp_ns
from geoseg_ros.packs.pack import check_name, is_pack
from geoseg_ros.processes import Cancelled, run_job
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.rgbd import DepthFrame, RecentImages

JOB = "geoseg_ros.cli.learn_job"  # run by the child: training code stays out of this process
KINDS = ("images", "clouds", "without_images", "without_clouds")
MOST = 100  # examples of one target
_MESSAGES, _BYTES = 64, 256 << 20  # of one stream: about two seconds of a camera; the newest is kept whatever its size


class Ring:
    """The newest messages of each stream, so that a click finds the message that was looked at. Bounded in number and bytes."""

    def __init__(self, most: int = _MESSAGES, size: int = _BYTES) -> None:
        self._most, self._size = most, size
        self._kept: dict[str, deque[Any]] = {}

    def add(self, stream: str, message: Any) -> None:
        """Keep a message; the oldest ones go."""
        kept = self._kept.setdefault(stream, deque())
        if kept and isinstance(kept[-1], DepthFrame):
            kept[-1] = _with_its_colour(kept[-1])
        kept.append(message)
        while len(kept) > 1 and (len(kept) > self._most or sum(map(_bytes, kept)) > self._size):
            kept.popleft()

    def streams(self) -> list[str]:
        """Those that have a message."""
        return [stream for stream, kept in self._kept.items() if kept]

    def find(self, stream: str, stamp: int = 0) -> Any:
        """The message with this stamp in nanoseconds; 0: the newest. Raises InputError where it is not kept."""
        kept = self._kept.get(stream)
        if not kept:
            raise InputError(f"{stream}: no message has come since the learning began")
        found = kept[-1] if stamp == 0 else next((m for m in reversed(kept) if stamp_ns(m.header) == stamp), None)
        if found is None:
            raise InputError(f"stamp: no {stream} of that time is kept, the last {len(kept)} are; click on a newer one")
        return found

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def _with_its_colour(frame: DepthFrame) -> DepthFrame:
    """A depth image with the one colour image nearest to it, for the others go on."""
    colors = RecentImages()
    if (color := frame.color(10.0)) is not None:
        colors.add(color)
    return frame._replace(colors=colors)


def _bytes(message: Any) -> int:
    return 2 * len(message.image.data) if isinstance(message, DepthFrame) else len(message.data)


class Lesson:
    """The examples of one target, in a private temporary folder, and where its pack goes.

    Attributes:
        name: of the target.
        out: the pack.
        counts: examples of each kind.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Raises InputError: a name that cannot be one of a label and a file, a folder that cannot be written, a file that is no pack."""
        check_name(name)
        if name.startswith(".") or not {"/", "\\"}.isdisjoint(name):
            raise InputError(f"name: it names a file, expected no / or \\ and no dot at its beginning, got {name!r}")
        self.name, self.out, self.counts = name, folder.absolute() / f"{name}.pack", Counter[str]()
        self.check()
        self._folder = Path(tempfile.mkdtemp(prefix="geoseg_learn_"))
        self._building = threading.Lock()

    def check(self) -> None:
        """Raise InputError unless the pack can be written and replaces at most a pack."""
        if self.out.is_dir():
            raise InputError(f"learn_folder: {self.out} is a folder, will not replace it")
        check_output(self.out, "learn_folder", ours=is_pack, kind="a pack")

    def add(self, item: Cloud | NDArray[np.uint8], positive: bool) -> None:
        """Keep an example.

        Raises:
            InputError: there are too many.
            OSError: it cannot be written; there is no trace of it.
        """
        number = sum(self.counts.values())
        if number >= MOST:
            raise InputError(f"at most {MOST} examples of one target; finish")
        kind = ("" if positive else "without_") + ("clouds" if isinstance(item, Cloud) else "images")
        arrays: dict[str, Any] = {"image": item}
        if isinstance(item, Cloud):
            use = item.valid()
            arrays = {"xyz": item.xyz[use]} | ({} if item.rgb is None else {"rgb": item.rgb[use]})
        file = self._folder / f"{number:03d}_{kind}.npz"
        try:
            np.savez(file, **arrays)
        except OSError:
            file.unlink(missing_ok=True)
            raise
        self.counts[kind] += 1

    def described(self) -> str:
        """The examples in words."""
        words = {"images": "images", "clouds": "clouds", "without_images": "images without it", "without_clouds": "clouds without it"}
        return ", ".join(f"{self.counts[kind]} {words[kind]}" for kind in KINDS if self.counts[kind]) or "no example"

    def check_examples(self) -> None:
        """Raise InputError unless an example shows the target."""
        if not self.counts["images"] + self.counts["clouds"]:
            raise InputError(f"{self.described()} of {self.name!r}: nothing to learn from, add a positive example first")

    def build(self, settings: Mapping[str, Any], progress: Progress, cancel: threading.Event) -> None:
        """Make the pack in a child process, and put it in its place as a whole.

        Args:
            settings: of the child: backbone, backend, device, precision, cache, config.
            progress: called with (stage, done, total) in this thread, which must live as long as the child.
            cancel: when set, the child is killed.

        Raises:
            Cancelled: ``cancel`` was set.
            InputError, GeosegError: it failed, or the child died.
            OSError: the pack cannot be written.
        """
        with self._building:
            made = self._folder / "made.pack"
            run_job("build of the pack", JOB, {**settings, "name": self.name, "folder": str(self._folder)}, progress, cancel)
            if cancel.is_set():
                raise Cancelled("cancelled")
            self.check()  # others may have written there meanwhile
            write_bytes(self.out, made.read_bytes())

    def close(self) -> None:
        """Remove the examples, once no child needs them."""
        with self._building:
            shutil.rmtree(self._folder, ignore_errors=True)
