"""What commands read: folders of files, recordings, and the image backbone with the backend that runs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import CLOUD_SUFFIXES
from geoseg_ros.io.folders import IMAGE_SUFFIXES, Folder, load_clouds, load_images
from geoseg_ros.io.message_definitions import CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.io.recordings import Recording
from geoseg_ros.runtime.engines.options import BACKENDS, EngineOptions

if TYPE_CHECKING:
    from geoseg_ros.runtime.engines.backbone import EngineBackbone

LIMIT = 60  # messages taken of one topic
_RECORDING_SUFFIXES = (".mcap", ".db3", ".bag")

Item = TypeVar("Item")


class Frames(Generic[Item]):
    """Messages of one topic of a recording, at most ``limit``, evenly spread over it.

    Iterating yields (name, item); a message that cannot be decoded is skipped and its error line kept. ``InputError`` is raised for damage
    of the recording, and at the end where nothing could be decoded.

    Attributes:
        skipped: error line of each message that could not be decoded.
    """

    def __init__(self, path: Path, topic: str, count: int, decode: Callable[[Any, str, str], Item], limit: int) -> None:
        self.path, self.topic = path, topic
        self.skipped: dict[str, str] = {}
        self._every = max(1, -(-count // limit))
        self._count = -(-count // self._every)
        self._decode = decode

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Item]]:
        readable = 0
        with Recording(self.path) as recording:
            for k, message in enumerate(recording.messages([self.topic])):
                if k % self._every:
                    continue
                name = f"{self.path}: {self.topic} message {k}"
                try:
                    item = self._decode(recording.decode(message), message.type, name)
                except InputError as error:
                    self.skipped[name] = str(error)
                    continue
                readable += 1
                yield name, item
        if not readable:
            first = next(iter(self.skipped.values()), "no message")
            raise InputError(f"{self.path}: nothing on {self.topic} can be used; first: {first}")

    @property
    def warnings(self) -> list[str]:
        """One line for each message skipped so far."""
        return list(self.skipped.values())


class Items(Generic[Item]):
    """The items of several sources in a row, without their names. Nothing is held in memory; every iteration reads again."""

    def __init__(self, sources: Sequence[Folder[Item] | Frames[Item]]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __iter__(self) -> Iterator[Item]:
        for source in self.sources:
            for _, item in source:
                yield item

    @property
    def warnings(self) -> list[str]:
        """One line for each item skipped so far."""
        return [line for source in self.sources for line in source.warnings]


def add_backend(parser: argparse._ActionsContainer) -> None:
    """Declare ``--backend``."""
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="what runs the image backbone (default %(default)s)")


def engine_options(options: argparse.Namespace, device: str = "auto") -> EngineOptions:
    """From ``--backend``. What was asked for must work; lines for the user go to standard error."""
    begun = set[str]()

    def tell(line: str) -> None:
        print(f"geoseg {options.command}: {line}", file=sys.stderr)

    def progress(phase: str, share: float) -> None:
        if phase not in begun:
            begun.add(phase)
            tell(f"engine: {phase}; this takes a while, once")

    return EngineOptions(options.backend, options.backend != "auto", device, progress=progress, tell=tell)


def open_image_backbone(options: argparse.Namespace) -> EngineBackbone:
    """The backbone ``--backbone`` on the backend ``--backend``.

    Raises:
        InputError: one of them cannot be used here.
    """
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.backbone import with_engine

    return with_engine(open_backbone(options.backbone), engine_options(options))


def open_images(paths: Iterable[str | os.PathLike[str]], topic: str | None = None, limit: int = LIMIT) -> Items[NDArray[np.uint8]]:
    """The images of folders and recordings, uint8 RGB [H, W, 3].

    Args:
        topic: of the recordings; None takes the only one.
        limit: largest number of messages taken of one recording.

    Raises:
        InputError: a path that is neither, or has no image.
    """
    return Items([_frames(Path(p), "image", topic, limit) if _is_recording(Path(p)) else load_images(p) for p in paths])


def open_clouds(paths: Iterable[str | os.PathLike[str]], topic: str | None = None, limit: int = LIMIT) -> Items[Cloud]:
    """The clouds of folders and recordings; the arguments are those of :func:`open_images`."""
    return Items([_frames(Path(p), "cloud", topic, limit) if _is_recording(Path(p)) else load_clouds(p) for p in paths])


def open_without(
    folders: Sequence[str | os.PathLike[str]], cloud_folders: Sequence[str | os.PathLike[str]]
) -> tuple[Items[NDArray[np.uint8]], Items[Cloud]]:
    """Images and clouds that do not show the thing. Each of ``folders`` holds images, clouds or both, each of ``cloud_folders`` clouds."""
    images: list[Folder[NDArray[np.uint8]]] = []
    clouds: list[Folder[Cloud]] = []
    for folder in folders:
        suffixes = {p.suffix.lower() for p in Path(folder).iterdir()} if Path(folder).is_dir() else set()
        has_clouds = not suffixes.isdisjoint(CLOUD_SUFFIXES)
        if has_clouds:
            clouds.append(load_clouds(folder))
        if not has_clouds or not suffixes.isdisjoint(IMAGE_SUFFIXES):
            images.append(load_images(folder))  # raises InputError where there is nothing at all
    return Items(images), Items([*clouds, *map(load_clouds, cloud_folders)])


def _is_recording(path: Path) -> bool:
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(p.suffix in _RECORDING_SUFFIXES for p in path.iterdir())
    return path.suffix in _RECORDING_SUFFIXES


def _frames(path: Path, kind: str, topic: str | None, limit: int) -> Frames[Any]:
    with Recording(path) as recording:
        chosen = recording.choose_topic([CLOUD_TYPE] if kind == "cloud" else [IMAGE_TYPE, COMPRESSED_TYPE], topic, kind)
        topics = recording.topics()
        if chosen is None:
            raise InputError(f"{path}: no {kind} in this recording, it has {', '.join(topics) or 'no topics'}")
        return Frames(path, chosen, topics[chosen].messages, _decode_cloud if kind == "cloud" else _decode_image, limit)


def _decode_cloud(message: Any, _: str, name: str) -> Cloud:
    from geoseg_ros.io.messages import cloud_from_message

    return cloud_from_message(message, name)


def _decode_image(message: Any, kind: str, name: str) -> NDArray[np.uint8]:
    from geoseg_ros.io.messages import image_from_compressed, image_from_message

    return image_from_compressed(message, name) if kind == COMPRESSED_TYPE else image_from_message(message, name)
