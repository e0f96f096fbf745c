"""Images and clouds from arrays, files, folders and recordings, read one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import CLOUD_SUFFIXES, read_cloud
from geoseg_ros.io.folders import IMAGE_SUFFIXES, Folder, load_clouds, load_images, read_image
from geoseg_ros.io.messages import CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.io.recordings import Recording

LIMIT = 60  # messages taken of one topic
_RECORDING_SUFFIXES = (".mcap", ".db3", ".bag")

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


def _every(number: int) -> bool:
    return True


class Source(Protocol[Given]):
    """Named items, read anew by every iteration."""

    @property
    def warnings(self) -> list[str]:
        """A line for each that could not be read so far."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Any, Given]]: ...

    def pick(self, choose: Callable[[int], bool] = ...) -> Iterator[tuple[int, Any, Given]]:
        """(number, name, item) of the items whose numbers are chosen; the others are not decoded."""
        ...


class Arrays(Generic[Item]):
    """Items in memory, named by their numbers."""

    def __init__(self, items: Sequence[Item], first: int = 0) -> None:
        self._items, self._first = items, first
        self.warnings: list[str] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[str, Item]]:
        return ((name, item) for _, name, item in self.pick())

    def pick(self, choose: Callable[[int], bool] = _every) -> Iterator[tuple[int, str, Item]]:
        """As of :class:`Source`."""
        return ((number, str(number + self._first), item) for number, item in enumerate(self._items) if choose(number))


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
        return ((name, item) for _, name, item in self.pick())

    def pick(self, choose: Callable[[int], bool] = _every) -> Iterator[tuple[int, str, Item]]:
        """As of :class:`Source`."""
        readable = tried = 0
        with Recording(self.path) as recording:
            for k, message in enumerate(recording.messages([self.topic])):
                if k % self._every or not choose(k // self._every):
                    continue
                tried += 1
                name = f"{self.path}: {self.topic} message {k}"
                try:
                    item = self._decode(recording.decode(message), message.type, name)
                except InputError as error:
                    self.skipped[name] = str(error)
                    continue
                readable += 1
                yield k // self._every, name, item
        if tried and not readable:
            first = next(iter(self.skipped.values()), "no message")
            raise InputError(f"{self.path}: nothing on {self.topic} can be used; first: {first}")

    @property
    def warnings(self) -> list[str]:
        """One line for each message skipped so far."""
        return list(self.skipped.values())


class Items(Generic[Item]):
    """The items of several sources in a row. Nothing is held in memory; every iteration reads again."""

    def __init__(self, sources: Sequence[Source[Item]]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __iter__(self) -> Iterator[Item]:
        return (item for _, _, item in self.pick())

    def pick(self, choose: Callable[[int], bool] = _every) -> Iterator[tuple[int, str, Item]]:
        """As of :class:`Source`; the numbers go on from source to source, and count what cannot be read."""
        first = 0
        for source in self.sources:
            for number, name, item in source.pick(lambda number, first=first: choose(first + number)):  # type: ignore[misc]
                yield first + number, str(name), item
            first += len(source)

    def __contains__(self, item: object) -> bool:
        return any(item is own for own in self)

    @property
    def warnings(self) -> list[str]:
        """One line for each item skipped so far."""
        return [line for source in self.sources for line in source.warnings]


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


def gather_images(given: Any) -> Items[NDArray[np.uint8]]:
    """Images as a caller of the Python API gives them.

    Args:
        given: a path, or an array uint8 RGB [H, W, 3], or any number of them; a path is a file, a folder or a recording.

    Raises:
        InputError: something else, or nothing there.
    """
    return _gather(given, "image", load_images, read_image, IMAGE_SUFFIXES, _check_image)


def gather_clouds(given: Any) -> Items[Cloud]:
    """Clouds as a caller of the Python API gives them: paths and :class:`Cloud`, as for :func:`gather_images`."""
    return _gather(given, "cloud", load_clouds, read_cloud, CLOUD_SUFFIXES, _check_cloud)


def _gather(
    given: Any,
    kind: str,
    load: Callable[[Path], Folder[Any]],
    read: Callable[[Path], Any],
    suffixes: Sequence[str],
    check: Callable[[Any, int], Any],
) -> Items[Any]:
    if isinstance(given, Items):
        return given
    entries = [given] if isinstance(given, (str, os.PathLike, Cloud)) or getattr(given, "ndim", 0) == 3 else list(given)
    sources: list[Any] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, (str, os.PathLike)):
            sources.append(Arrays([check(entry, number)], number))
            continue
        path = Path(entry)
        if _is_recording(path):
            sources.append(_frames(path, kind, None, LIMIT))
        elif path.is_file() and path.suffix.lower() in suffixes:
            sources.append(Folder([path], read))
        else:
            sources.append(load(path))
    return Items(sources)


def _check_image(image: Any, number: int) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image {number}: expected uint8 RGB [H, W, 3] or a path, got {found}")
    return image


def _check_cloud(cloud: Any, number: int) -> Cloud:
    if not isinstance(cloud, Cloud):
        raise InputError(f"cloud {number}: expected a Cloud or a path, got {type(cloud).__name__}")
    return cloud


def open_without(
    folders: Sequence[str | os.PathLike[str]], cloud_folders: Sequence[str | os.PathLike[str]]
) -> tuple[Items[NDArray[np.uint8]], Items[Cloud]]:
    """Images and clouds that do not show the target. Each of ``folders`` holds images, clouds or both, each of ``cloud_folders`` clouds."""
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
    """Whether a path is a recording; InputError for a folder with a recording and other inputs, of which one would be left out."""
    if not path.is_dir():
        return path.suffix in _RECORDING_SUFFIXES
    names = [p.name for p in path.iterdir() if not p.name.startswith(".")]
    recorded = sorted(name for name in names if Path(name).suffix in _RECORDING_SUFFIXES)
    files = [name for name in names if Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *CLOUD_SUFFIXES)]
    if recorded and files:
        rest = f" and {len(recorded) - 1} more" if len(recorded) > 1 else ""
        raise InputError(
            f"{path}: holds {len(files)} images or clouds and the recording {recorded[0]}{rest}; "
            f"give {path / recorded[0]} for the recording, or a folder of the others alone"
        )
    return bool(recorded) or "metadata.yaml" in names


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
