"""Built engines on disk: found by what they were made from, never half-written, built by one process at a time.

One entry is one folder, ``<name>-<flavour>-<key>[-<capabilities>]``, with the built files and ``entry.json``: what the entry is for, size
and digest of each file, and notes (seconds, driver). It is written beside its place and renamed, so that it is complete or absent.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import expanded
from geoseg_ros.files import home as user_home
from geoseg_ros.processes import Cancelled
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.engines.spec import EngineSpec

FORMAT = 1
ENTRY = "entry.json"
LIMIT = 4 << 30  # bytes
_POLL = 0.1  # seconds between two looks at a lock that another process holds
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # a file system without locks
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}

Build = Callable[[Path], Mapping[str, Any]]
"""Writes the files of an entry into a folder and returns notes about the build."""


@dataclass(frozen=True)
class EngineKey:
    """What decides whether an engine can be used. Two keys with equal fields name the same engine.

    Attributes:
        name: Kind of network, such as ``image``.
        flavour: ``tensorrt``, ``tensorrt_rtx``, or ``onnx`` for an exported network.
        fields: Everything else, as JSON can hold it.
        capabilities: CUDA compute capabilities, such as 86, of an engine that runs on several kinds of GPU. An engine for more of them
            can be used as well.
    """

    name: str
    flavour: str
    fields: Mapping[str, Any]
    capabilities: tuple[int, ...] = ()

    @property
    def stem(self) -> str:
        """Name of the entry without the capabilities; 20 hex digits are over everything else."""
        content = json.dumps([FORMAT, self.name, self.flavour, self.fields], sort_keys=True, allow_nan=False)
        return f"{self.name}-{self.flavour}-{hashlib.sha256(content.encode()).hexdigest()[:20]}"

    @property
    def folder(self) -> str:
        """Name of the entry."""
        return "-".join([self.stem, *([".".join(map(str, sorted(self.capabilities)))] if self.capabilities else [])])

    def content(self) -> dict[str, Any]:
        """As ``entry.json`` holds it."""
        return json.loads(json.dumps({**asdict(self), "capabilities": sorted(self.capabilities)}))


def engine_key(
    spec: EngineSpec, flavour: str, version: str, gpu: tuple[str, int] | None = None, capabilities: tuple[int, ...] = ()
) -> EngineKey:
    """The key of a TensorRT engine.

    Args:
        spec: The exported network; the bytes of its file count, not its path.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        version: Exact version of that library.
        gpu: Name and compute capability of the GPU that a ``tensorrt`` engine is for; such an engine runs on no other.
        capabilities: What a ``tensorrt_rtx`` engine is for.

    Raises:
        InputError: The network's file does not exist.
    """
    if not spec.onnx.is_file():
        raise InputError(f"{spec.onnx}: no such file; expected an ONNX file")
    fields: dict[str, Any] = {
        "onnx": _digest(spec.onnx),
        "version": version,
        "precision": spec.precision,
        "profile": spec.as_json()["inputs"],
        "outputs": list(spec.outputs),
    }
    if gpu is not None:
        fields["gpu"] = {"name": gpu[0], "capability": gpu[1]}
    return EngineKey(spec.name, flavour, fields, tuple(sorted(set(capabilities))))


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
    notes: Mapping[str, Any] = field(default_factory=dict)
    bytes: int = 0


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
    except FileNotFoundError:
        raise InputError(f"{folder}: no {ENTRY}; expected an entry of the engine cache") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / ENTRY}: not readable ({error})") from None
    try:
        if content["format"] != FORMAT:
            raise InputError(f"{folder / ENTRY}: format: expected {FORMAT}, got {content['format']}")
        key = EngineKey(**{**content["key"], "capabilities": tuple(content["key"]["capabilities"])})
        for name, facts in content["files"].items():
            if Path(name).name != name:
                raise InputError(f"{folder / ENTRY}: files: expected names of files in this folder, got '{name}'")
            if (size := (folder / name).stat().st_size) != facts["bytes"]:
                raise InputError(f"{folder / name}: damaged: expected {facts['bytes']} bytes, got {size}")
            if _digest(folder / name) != facts["sha256"]:
                raise InputError(f"{folder / name}: damaged: its bytes are not those that were written")
        total = sum(facts["bytes"] for facts in content["files"].values())
        return CacheEntry(folder, str(content["id"]), key, content["notes"], total)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: incomplete or damaged ({error})") from None


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
        self._private: tempfile.TemporaryDirectory[str] | None = None

    def find(self, key: EngineKey, rejected: str = "") -> CacheEntry | None:
        """The complete entry for ``key`` (or for more capabilities than its), if there is one; it counts as used now.

        Args:
            key: What the engine is for.
            rejected: Id of a build that does not work.
        """
        folders = [self.folder, *([Path(self._private.name)] if self._private else [])]
        for folder in folders:
            for path in self._candidates(folder, key):
                with contextlib.suppress(InputError):
                    entry = self._accept(path, key, rejected)
                    with contextlib.suppress(OSError):  # read-only
                        os.utime(path / ENTRY)
                    return entry
        return None

    def get_or_build(
        self, key: EngineKey, build: Build, progress: Progress | None = None, cancel: threading.Event | None = None, rejected: str = ""
    ) -> CacheEntry:
        """The entry for ``key``, built if it is not there. Where several processes ask for it, one builds and the others wait.

        Args:
            key: What the engine is for.
            build: Called at most once.
            progress: Called while this process waits for another.
            cancel: When set, waiting is given up; ``build`` watches it by itself.
            rejected: Id of a build that does not work; it is removed and rebuilt.

        Raises:
            Cancelled: ``cancel`` was set.
            GeosegError: The folder cannot hold the entry.
            Exception: Whatever ``build`` raises.
        """
        if (entry := self.find(key, rejected)) is not None:
            return entry
        with contextlib.ExitStack() as stack:
            folder = self._open(key, stack, progress, cancel)
            try:
                return self._build(folder, key, build, rejected)
            except OSError as error:
                raise GeosegError(f"engine cache {folder}: {error.strerror or error}") from None

    def _open(self, key: EngineKey, stack: contextlib.ExitStack, progress: Progress | None, cancel: threading.Event | None) -> Path:
        """A folder that can be written, with the lock of the entry held until ``stack`` ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(self._locked(self.folder, key.folder, progress, cancel))
            return self.folder
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise GeosegError(f"engine cache {self.folder}: {error.strerror or error}") from None
        if self._private is None:
            self._private = tempfile.TemporaryDirectory(prefix="geoseg_engines_")
            self._log(f"engine cache {self.folder}: not writable; what is built is kept for this run only")
        return Path(self._private.name)

    def _build(self, folder: Path, key: EngineKey, build: Build, rejected: str) -> CacheEntry:
        """Build in ``folder``; the lock of the entry is held."""
        if (entry := self.find(key, rejected)) is not None:
            return entry  # built while this process waited for the lock
        target = folder / key.folder
        for left in folder.glob(f".{key.folder}~*"):  # of a process that was killed: whoever lives would hold the lock
            shutil.rmtree(left, ignore_errors=True)
        if target.exists():
            try:
                self._accept(target, key, rejected)
            except InputError as error:
                self._log(f"{error}; it is rebuilt")
            _remove(target)
        temporary = folder / f".{key.folder}~{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            _seal(temporary, key, dict(build(temporary)))
            try:
                os.rename(temporary, target)
            except OSError:  # where there are no locks another process may have been quicker
                if (entry := self.find(key, rejected)) is None:
                    raise
                return entry
            _sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._evict(folder, target)
        return check_entry(target)

    def _candidates(self, folder: Path, key: EngineKey) -> list[Path]:
        """Folders that may hold ``key`` by their names, the exact one first."""
        exact = folder / key.folder
        others = sorted(folder.glob(f"{key.stem}-*")) if key.capabilities else []
        wanted = set(map(str, key.capabilities))
        return [exact, *(p for p in others if p != exact and wanted <= set(p.name.removeprefix(f"{key.stem}-").split(".")))]

    def _accept(self, path: Path, key: EngineKey, rejected: str) -> CacheEntry:
        """The entry at ``path``. Raises InputError with the reason where it cannot be used for ``key``."""
        entry = check_entry(path)
        made, wanted = entry.key.content(), key.content()
        given, needed = made.pop("capabilities"), wanted.pop("capabilities")
        if made != wanted or not set(needed) <= set(given):
            raise InputError(f"{path}: foreign: it was made for something else than its name says")
        if entry.id == rejected:
            raise InputError(f"{path}: it could not be loaded")
        return entry

    @contextlib.contextmanager
    def _locked(self, folder: Path, name: str, progress: Progress | None, cancel: threading.Event | None) -> Iterator[None]:
        """Hold the lock of an entry. The kernel takes it from a process that dies, however it dies."""
        while True:
            with _try_lock(folder / f".{name}.lock") as held:
                if held:
                    yield
                    return
            if progress is not None:
                progress("waiting for another process that builds it", 0, 0)
            if cancel is not None and cancel.is_set():
                raise Cancelled("engine: cancelled while waiting for another process")
            time.sleep(_POLL)

    def _evict(self, folder: Path, keep: Path) -> None:
        """Remove the entries that were not used for longest until the rest fits the limit, and what killed processes have left."""
        entries = []
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if path.name.startswith(".") and "~" in path.name:
                    with _try_lock(folder / f"{path.name.partition('~')[0]}.lock", remove=True) as held:
                        if held:
                            shutil.rmtree(path, ignore_errors=True)
                elif (path / ENTRY).is_file():
                    size = sum(p.stat().st_size for p in path.iterdir())
                    entries.append(((path / ENTRY).stat().st_mtime, size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                return
            if path == keep:
                continue
            with contextlib.suppress(OSError), _try_lock(folder / f".{path.name}.lock", remove=True) as held:
                if held:
                    _remove(path)
                    total -= size


@contextlib.contextmanager
def _try_lock(path: Path, remove: bool = False) -> Iterator[bool]:
    """Take an advisory lock if it is free; yields whether it was. ``remove``: the lock's file is removed with the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # two may build at once then; whoever renames last wins, and both have a whole entry
        try:
            held = os.fstat(handle).st_ino == os.stat(path).st_ino
        except FileNotFoundError:
            held = False
        yield held  # not if the file was removed meanwhile: then what is locked is no longer the lock
        if held and remove:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _seal(folder: Path, key: EngineKey, notes: Mapping[str, Any]) -> None:
    """Write ``entry.json`` for the files in ``folder`` and flush everything to disk."""
    files = {}
    for path in sorted(folder.iterdir()):
        _sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    content = {
        "format": FORMAT,
        "id": secrets.token_hex(8),
        "key": key.content(),
        "files": files,
        "notes": {"built": datetime.now(timezone.utc).isoformat(timespec="seconds"), **notes},
    }
    (folder / ENTRY).write_text(json.dumps(content, indent=1) + "\n")
    _sync(folder / ENTRY)
    _sync(folder)


def _remove(folder: Path) -> None:
    """Remove an entry as a whole; a reader finds it complete or not at all."""
    aside = folder.with_name(f".{folder.name}~{secrets.token_hex(4)}")
    os.rename(folder, aside)
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
