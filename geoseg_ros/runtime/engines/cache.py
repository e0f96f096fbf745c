"""Built engines on disk: found by what they were made from, never half-written, built by one process at a time.

One entry is one folder, ``image-<flavour>-<key>[-<capabilities>]``, with the built file and ``entry.json``: what the entry is for, size and
digest of the file, and notes. It is written beside its place and renamed, so that it is complete or absent. Who builds or removes
holds the lock of the whole cache; the kernel takes it from a process that dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import expanded
from geoseg_ros.files import home as user_home
from geoseg_ros.processes import Cancelled
from geoseg_ros.progress import Progress

FORMAT = 2
ENTRY = "entry.json"
LOCK = ".lock"
LIMIT = 4 << 30  # bytes
_POLL = 0.1  # seconds between two looks at a lock that another process holds
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # not writable, or without locks

Build = Callable[[Path], Mapping[str, Any]]
"""Writes the files of an entry into a folder and returns notes about the build."""


@dataclass(frozen=True)
class EngineKey:
    """What decides whether an engine can be used. Two keys with equal fields name the same engine.

    Attributes:
        flavour: ``tensorrt``, ``tensorrt_rtx``, or ``onnx`` for an exported network.
        fields: Everything else, as JSON can hold it.
        capabilities: CUDA compute capabilities, such as 86, of an engine that runs on several kinds of GPU. An engine for more of them
            can be used as well.
    """

    flavour: str
    fields: Mapping[str, Any]
    capabilities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", json.loads(json.dumps(self.fields)))  # as it is read again
        object.__setattr__(self, "capabilities", tuple(sorted(set(self.capabilities))))

    @property
    def stem(self) -> str:
        """Name of the entry without the capabilities; 20 hex digits are over everything else."""
        content = json.dumps([FORMAT, self.flavour, self.fields], sort_keys=True)
        return f"image-{self.flavour}-{hashlib.sha256(content.encode()).hexdigest()[:20]}"

    @property
    def folder(self) -> str:
        """Name of the entry."""
        return "-".join([self.stem, *([".".join(map(str, self.capabilities))] if self.capabilities else [])])

    def serves(self, wanted: EngineKey) -> bool:
        """Whether an engine of this key can be used where ``wanted`` is."""
        return (self.flavour, self.fields) == (wanted.flavour, wanted.fields) and set(wanted.capabilities) <= set(self.capabilities)


@dataclass(frozen=True)
class CacheEntry:
    """An entry that is complete.

    Attributes:
        folder: Where it is.
        id: Of this very build.
        key: What it was made for.
        notes: About the build, as JSON holds them.
        bytes: Size of all its files.
    """

    folder: Path
    id: str
    key: EngineKey
    notes: Mapping[str, Any]
    bytes: int


def check_entry(path: str | Path) -> CacheEntry:
    """Read an entry and compare every byte of it with the digests.

    Args:
        path: Folder of the entry, or any file in it.

    Raises:
        InputError: Absent, incomplete, damaged, or not such a folder.
    """
    folder = Path(path)
    if folder.is_file():
        folder = folder.parent
    try:
        content = json.loads((folder / ENTRY).read_bytes())
        if content["format"] != FORMAT:
            raise InputError(f"{folder / ENTRY}: format: expected {FORMAT}, got {content['format']}")
        for name, facts in content["files"].items():
            if Path(name).name != name:
                raise InputError(f"{folder / ENTRY}: files: expected names of files in this folder, got '{name}'")
            if (size := (folder / name).stat().st_size) != facts["bytes"]:
                raise InputError(f"{folder / name}: damaged: expected {facts['bytes']} bytes, got {size}")
            if digest(folder / name) != facts["sha256"]:
                raise InputError(f"{folder / name}: damaged: its bytes are not those that were written")
        total = sum(facts["bytes"] for facts in content["files"].values())
        return CacheEntry(folder, str(content["id"]), EngineKey(**content["key"]), content["notes"], total)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: not a whole entry of the engine cache ({error})") from None


class EngineCache:
    """A folder of entries, shared by all processes of a user.

    Args:
        folder: Default: ``$XDG_CACHE_HOME/geoseg_ros/engines``, or below ``~/.cache``. A folder that cannot be written is only read; what
            is missing there is built for this run.
        limit: Bytes; above it the entries that were not used for longest are removed.
        log: Called with a line when an entry has to be rebuilt, or cannot be kept.

    Raises:
        InputError: ``folder`` is a file.
    """

    def __init__(self, folder: str | Path | None = None, limit: int = LIMIT, log: Callable[[str], None] = lambda line: None) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or user_home() / ".cache")
        self.folder = Path(expanded(str(folder))) if folder else home / "geoseg_ros" / "engines"
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"engine cache {self.folder}: expected a folder")
        self.limit = limit
        self._log = log
        self._this_run: tempfile.TemporaryDirectory[str] | None = None
        self._rejected: set[str] = set()

    def reject(self, entry: CacheEntry) -> None:
        """Never give this very build again: it is whole, but does not work."""
        self._rejected.add(entry.id)

    def find(self, key: EngineKey) -> CacheEntry | None:
        """The complete entry for ``key`` (or for more capabilities than its), if there is one; it counts as used now."""
        for folder in (self.folder, *([Path(self._this_run.name)] if self._this_run else [])):
            for path in sorted(folder.glob(f"{key.stem}*")):
                with contextlib.suppress(InputError):
                    entry = self._accept(path, key)
                    with contextlib.suppress(OSError):  # read-only
                        os.utime(path / ENTRY)
                    return entry
        return None

    def get_or_build(
        self, key: EngineKey, build: Build, progress: Progress | None = None, cancel: threading.Event | None = None
    ) -> CacheEntry:
        """The entry for ``key``, built if it is not there. Where several processes ask for it, one builds and the others wait.

        Args:
            key: What the engine is for.
            build: Called at most once.
            progress: Called while this process waits for another.
            cancel: When set, waiting is given up; ``build`` watches it by itself.

        Raises:
            Cancelled: ``cancel`` was set.
            GeosegError: The folder cannot hold the entry.
            Exception: Whatever ``build`` raises.
        """
        if (entry := self.find(key)) is not None:
            return entry
        folder, lock = self._lock(progress, cancel)
        with lock:
            if (entry := self.find(key)) is not None:
                return entry  # built while this process waited
            try:
                return self._build(folder, key, build)
            except OSError as error:
                raise GeosegError(f"engine cache {folder}: {error.strerror or error}") from None

    def _lock(self, progress: Progress | None, cancel: threading.Event | None) -> tuple[Path, contextlib.AbstractContextManager[Any]]:
        """A folder that can be written, and what holds its lock until it is closed."""
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.folder / LOCK, "a"))
                while not _take(lock):
                    if progress is not None:
                        progress("waiting for another process that builds", 0, 0)
                    if cancel is not None and cancel.is_set():
                        raise Cancelled("engine: cancelled while waiting for another process")
                    time.sleep(_POLL)
                return self.folder, stack.pop_all()
            except OSError as error:
                if error.errno not in _UNUSABLE:
                    raise GeosegError(f"engine cache {self.folder}: {error.strerror or error}") from None
        if self._this_run is None:
            self._this_run = tempfile.TemporaryDirectory(prefix="geoseg_engines_")
            self._log(f"engine cache {self.folder}: not writable; what is built is kept for this run only")
        return Path(self._this_run.name), contextlib.nullcontext()

    def _build(self, folder: Path, key: EngineKey, build: Build) -> CacheEntry:
        """Build in ``folder``; its lock is held."""
        for left in folder.glob(".*~*"):  # of a process that was killed: whoever lives would hold the lock
            shutil.rmtree(left, ignore_errors=True)
        target = folder / key.folder
        if target.exists():
            try:
                self._accept(target, key)
            except InputError as error:
                self._log(f"{error}; it is rebuilt")
            _remove(target)
        temporary = folder / f".{key.folder}~"
        temporary.mkdir()
        try:
            _seal(temporary, key, build(temporary))
            os.rename(temporary, target)
            _sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._make_room(folder, target)
        return check_entry(target)

    def _accept(self, path: Path, key: EngineKey) -> CacheEntry:
        """The entry at ``path``. Raises InputError with the reason where it cannot be used for ``key``."""
        entry = check_entry(path)
        if not entry.key.serves(key):
            raise InputError(f"{path}: foreign: it was made for something else than its name says")
        if entry.id in self._rejected:
            raise InputError(f"{path}: it could not be loaded")
        return entry

    def _make_room(self, folder: Path, keep: Path) -> None:
        """Remove the entries that were not used for longest until the rest fits the limit; the lock is held."""
        entries = sorted((path.stat().st_mtime, path.parent) for path in folder.glob(f"*/{ENTRY}"))
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in entries}
        for path in sizes:
            if sum(sizes.values()) > self.limit and path != keep:
                _remove(path)
                sizes = sizes | {path: 0}


def _take(lock: TextIO) -> bool:
    """Lock a file if nobody holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _seal(folder: Path, key: EngineKey, notes: Mapping[str, Any]) -> None:
    """Write ``entry.json`` for the files in ``folder`` and flush everything to disk."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in sorted(folder.iterdir())}
    notes = {"built": datetime.now(timezone.utc).isoformat(timespec="seconds"), **notes}
    content = {"format": FORMAT, "id": secrets.token_hex(8), "key": asdict(key), "files": files, "notes": notes}
    (folder / ENTRY).write_text(json.dumps(content, indent=1) + "\n")
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _remove(path: Path) -> None:
    """Remove an entry as a whole; a reader finds it complete or not at all."""
    aside = path.with_name(f".{path.name}~{secrets.token_hex(4)}")
    os.rename(path, aside)
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
