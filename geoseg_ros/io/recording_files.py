"""The files of a recording: which they are, whose they are, and how they are read one after the other without the folder's metadata."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import Connection
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from geoseg_ros.errors import InputError
from geoseg_ros.io.folders import natural_key
from geoseg_ros.io.mcap_files import McapReader

FILE_STORAGE = {".mcap": "mcap", ".db3": "sqlite3"}
OWN = "geoseg_ros"  # key in the metadata of recordings that are ours
_METADATA_BYTES = 1 << 20


class FilesReader:
    """Files of one recording, with the part of rosbags' interface that is used here.

    Attributes:
        connections: one for each topic and type.
        foreign: topic -> why it cannot be read.
        unfinished: a line for each file that ends early.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._storages: list[Any] = [McapReader(path) if path.suffix == ".mcap" else Sqlite3Reader(path) for path in paths]
        self._opened: list[Any] = []
        self._own: list[dict[int, Connection]] = []  # of each file: its own connection -> that of the recording
        self.connections: list[Connection] = []
        self.foreign: dict[str, str] = {}
        self.unfinished: list[str] = []

    def open(self) -> None:
        """Open all files."""
        try:
            for storage in self._storages:
                storage.open()
                self._opened.append(storage)
        except BaseException:
            self.close()
            raise
        self._opened.sort(key=lambda storage: storage.metadata.start_time)
        merged: dict[tuple[str, str], Connection] = {}
        for storage in self._opened:
            if isinstance(storage, McapReader):
                self.foreign |= {topic: f"its messages are {form}, not CDR of ROS 2" for topic, form in storage.foreign.items()}
                if storage.unfinished:
                    self.unfinished.append(f"{storage.path}: the recording was not finished, {storage.unfinished}")
            own = {}
            for connection in storage.connections:
                key = (connection.topic, connection.msgtype)
                before = merged.get(key, connection._replace(msgcount=0, id=len(merged) + 1))
                merged[key] = before._replace(msgcount=before.msgcount + connection.msgcount)
                own[connection.id] = key
            self._own.append(own)  # type: ignore[arg-type]
        self._own = [{number: merged[key] for number, key in own.items()} for own in self._own]  # type: ignore[index]
        self.connections = list(merged.values())

    def close(self) -> None:
        """Close all files."""
        for storage in self._opened:
            storage.close()
        self._opened = []

    @property
    def message_count(self) -> int:
        """Messages of all topics."""
        return sum(connection.msgcount for connection in self.connections)

    @property
    def start_time(self) -> int:
        """Time of the first message, nanoseconds."""
        return min(storage.metadata.start_time for storage in self._opened)

    @property
    def duration(self) -> int:
        """Nanoseconds from the first to behind the last message."""
        return max(0, max(storage.metadata.end_time for storage in self._opened) - self.start_time)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time, bytes) in the order of their time."""
        wanted = {connection.id for connection in connections}
        for storage, own in zip(self._opened, self._own, strict=True):
            asked = [connection for connection in storage.connections if own[connection.id].id in wanted]
            if asked:
                yield from ((own[connection.id], stamp, data) for connection, stamp, data in storage.messages(asked))


def recording_files(path: Path) -> tuple[Path, list[Path]]:
    """What to open for ``path``: itself, and the data files that are read one by one; none where rosbags reads the folder."""
    if path.name == "metadata.yaml":
        path = path.parent
    if not path.exists():
        raise InputError(f"{path}: recording does not exist")
    if path.is_dir():
        return path, _data_files(path)
    if path.name.endswith(".bag.active"):
        raise InputError(f"{path}: a recording that was not finished; `rosbag reindex` makes {path.stem} of it")
    if path.suffix not in (*FILE_STORAGE, ".bag"):
        raise InputError(f"{path}: expected a rosbag2 folder, .mcap, .db3 or .bag, got {path.suffix or 'no suffix'}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the recording is an empty file")
    return path, [path]


def _data_files(folder: Path) -> list[Path]:
    """The files of a rosbag2 folder in order, or none where its metadata must be gone by (SQLite, compression) or are damaged."""
    described = folder / "metadata.yaml"
    if described.is_file() and described.read_bytes().strip():
        try:
            about = yaml.safe_load(described.read_text())["rosbag2_bagfile_information"]
            paths = [folder / Path(name).name for name in about["relative_file_paths"]]
            plain = about["storage_identifier"] == "mcap" and (about.get("compression_mode") or "none").lower() == "none"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            return []
        return paths if plain and all(path.is_file() for path in paths) else []
    files = sorted((p for p in folder.iterdir() if p.suffix in FILE_STORAGE and p.stat().st_size), key=natural_key)
    if not files:
        raise InputError(f"{folder}: expected a rosbag2 folder with metadata.yaml or .mcap or .db3 files, found none of them")
    if len({p.suffix for p in files}) > 1 or not _one_recording(files):
        raise InputError(
            f"{folder}: found {len(files)} files of several recordings and no metadata.yaml; name one, or run `ros2 bag reindex`"
        )
    return files


def _one_recording(files: list[Path]) -> bool:
    """Whether files are the parts of one recording by their names: NAME_0.mcap, NAME_1.mcap."""
    return len(files) == 1 or len({re.sub(r"_\d+$", "", path.stem) for path in files}) == 1


def is_own_recording(path: Path) -> bool:
    """Whether a folder or bare file is a recording that this package made, and nothing has been put into it since."""
    try:
        if path.is_dir():
            about = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
            known = {"metadata.yaml", *about["relative_file_paths"]}
            return OWN in (about["custom_data"] or {}) and all(entry.name in known for entry in path.iterdir())
        if path.suffix == ".db3":
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                text = database.execute("SELECT metadata FROM metadata").fetchone()[0]
        else:
            text = _mcap_metadata(path)
        return OWN in (yaml.safe_load(text)["custom_data"] or {})
    except (OSError, ValueError, LookupError, TypeError, struct.error, sqlite3.Error, yaml.YAMLError):
        return False


def _mcap_metadata(path: Path) -> str:
    """What rosbag2 says about an MCAP file in its last metadata record, which ends at the record before the summary."""
    with open(path, "rb") as stream:
        stream.seek(-37 + 9, os.SEEK_END)
        end = struct.unpack("<Q", stream.read(8))[0] - 13  # without the record that ends the data
        stream.seek(max(0, end - _METADATA_BYTES))
        content = stream.read(end - stream.tell())
    key = b"serialized_metadata"
    start = content.rindex(key) + len(key)
    return content[start + 4 :].decode()
