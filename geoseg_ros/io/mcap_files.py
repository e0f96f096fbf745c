"""Reading of MCAP files, including unfinished ones and those with topics that are not ROS 2 messages.

It replaces the reader of rosbags, which refuses files with an unknown schema or without an end.
"""

from __future__ import annotations

import heapq
import struct
import sys
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, Qos
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos

MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _STATISTICS, _DATA_END = 1, 2, 3, 4, 5, 6, 8, 11, 15
_FORMS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
    "": MessageDefinitionFormat.NONE,
}
_LARGEST = 1 << 31  # bytes of an uncompressed chunk


class _Piece(NamedTuple):
    """A chunk, or a message outside of chunks. Attributes: start: of its messages, ns; offset: of the record; chunk."""

    start: int
    offset: int
    chunk: bool


class McapReader:
    """An MCAP file, as rosbags reads files.

    Attributes:
        connections: of ROS 2 messages (CDR); the others are in ``foreign``.
        foreign: topic -> encoding of its messages, of topics that cannot be read.
        unfinished: why the file ends early, or an empty string.
    """

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        self.connections: list[Connection] = []
        self.foreign: dict[str, str] = {}
        self.unfinished = ""
        self.metadata = _metadata(0, 0, 0)
        self._stream: BinaryIO | None = None
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._counts: dict[int, int] = {}
        self._pieces: list[_Piece] = []
        self._span: tuple[int, int] | None = None
        self._nameless = False  # a channel came whose schema had not come

    def open(self) -> None:
        """Read what is in the file, from its index or by going through it."""
        self._stream = open(self.path, "rb")  # noqa: SIM115 - closed by close()
        try:
            magic = self._stream.read(8)
            if not magic:
                raise ReaderError("the file is empty")
            if magic != MAGIC:
                raise ReaderError("not an MCAP file (its first bytes are others)")
            if not self._read_index():
                self._scan()
        except BaseException:
            self.close()
            raise
        count = sum(self._counts.get(c.id, 0) for c in self.connections)
        self.connections = [c._replace(msgcount=self._counts.get(c.id, 0)) for c in self.connections]
        start, end = self._span or (0, 0)
        self.metadata = _metadata(count, start, end)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """(connection, time, bytes) in the order of their time."""
        wanted = {c.id: c for c in connections}
        for _, stamp, _, channel, data in self._ordered(set(wanted)):
            if (start is None or stamp >= start) and (stop is None or stamp < stop):
                yield wanted[channel], stamp, data

    def _ordered(self, wanted: set[int]) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Messages by time: chunks may overlap, so one is opened as soon as no earlier message can come from it."""
        waiting: list[tuple[int, int, int, int, bytes]] = []
        number = 0
        for piece in sorted(self._pieces):
            while waiting and waiting[0][1] < piece.start:
                yield heapq.heappop(waiting)
            for kind, record in self._records_of(piece):
                if kind != _MESSAGE:
                    continue
                if len(record) < 22:
                    raise ReaderError(f"a message record of {len(record)} bytes")
                channel, _, stamp = struct.unpack_from("<HIQ", record)
                if channel in wanted:
                    heapq.heappush(waiting, (stamp, stamp, number, channel, bytes(record[22:])))
                    number += 1
        while waiting:
            yield heapq.heappop(waiting)

    # ---- the file

    def _read_index(self) -> bool:
        """Read the summary at the end. False where there is none, or one that does not list the chunks."""
        stream = self._file
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 37))
        end = stream.read()
        if size < 45 or not end.endswith(MAGIC) or end[:9] != b"\x02" + struct.pack("<Q", 20):
            self.unfinished = "it has no end"
            return False
        (summary,) = struct.unpack_from("<Q", end, 9)
        if not 8 <= summary <= size - 37:
            return False
        statistics, pieces = None, []
        for kind, _, record in self._records(summary, size - 8):
            if kind == _STATISTICS:
                statistics = record
            elif kind == _CHUNK_INDEX:
                first, _, offset = struct.unpack_from("<QQQ", record)
                pieces.append(_Piece(first, offset, True))
            else:
                self._note(kind, record)
        if statistics is None or not (self.connections or self.foreign) or self._nameless:
            return self._forget()  # an index without all of it
        total, _, _, _, _, chunks, first, last, length = struct.unpack_from("<QHIIIIQQI", statistics)
        if len(pieces) != chunks or (total and not chunks):
            return self._forget()
        self._counts = dict(struct.iter_unpack("<HQ", statistics[46 : 46 + length]))
        self._pieces = pieces
        self._span = (first, last) if total else None
        return True

    def _forget(self) -> bool:
        self.connections, self.foreign = [], {}
        self._schemas.clear()
        return False

    def _scan(self) -> None:
        """Go through the whole file; stop at what is cut off."""
        size = self._file.seek(0, 2)
        try:
            for kind, offset, record in self._records(8, size):
                if kind in (_FOOTER, _DATA_END):
                    break
                if kind == _CHUNK:
                    inside = list(_split(_unpacked(record)))
                    stamps = [self._note(k, r) for k, r in inside]
                    times = [stamp for stamp in stamps if stamp is not None]
                    if times:
                        self._pieces.append(_Piece(min(times), offset, True))
                elif (stamp := self._note(kind, record)) is not None:
                    self._pieces.append(_Piece(stamp, offset, False))
        except (ReaderError, struct.error, UnicodeDecodeError) as error:
            if not self.unfinished:
                raise  # the file was finished: it is damaged
            self.unfinished = f"it is cut off: {error}"
        if not self.connections and not self.foreign:
            raise ReaderError(f"no topic in it{', ' + self.unfinished if self.unfinished else ''}; try `mcap recover`")

    def _note(self, kind: int, record: bytes) -> int | None:
        """Remember a schema, a channel, or (returning its time) a message."""
        if kind == _SCHEMA:
            (number,) = struct.unpack_from("<H", record)
            name, at = _text(record, 2)
            encoding, at = _text(record, at)
            length = struct.unpack_from("<I", record, at)[0]
            body = record[at + 4 : at + 4 + length]
            self._schemas[number] = (name, encoding, body.decode("utf-8", "replace"))
        elif kind == _CHANNEL:
            self._add_channel(record)
        elif kind == _MESSAGE:
            if len(record) < 22:
                raise ReaderError(f"a message record of {len(record)} bytes")
            channel, _, stamp = struct.unpack_from("<HIQ", record)
            self._counts[channel] = self._counts.get(channel, 0) + 1
            first, last = self._span or (stamp, stamp)
            self._span = (min(first, stamp), max(last, stamp))
            return int(stamp)
        return None

    def _add_channel(self, record: bytes) -> None:
        number, schema = struct.unpack_from("<HH", record)
        if any(c.id == number for c in self.connections):
            return
        topic, at = _text(record, 4)
        encoding, at = _text(record, at)
        length = struct.unpack_from("<I", record, at)[0]
        about, end, at = {}, at + 4 + length, at + 4
        while at < end:
            key, at = _text(record, at)
            about[key], at = _text(record, at)
        self._nameless |= schema != 0 and schema not in self._schemas
        name, form, text = self._schemas.get(schema, ("", "", ""))
        if encoding != "cdr" or form not in _FORMS or not name:
            self.foreign[topic] = encoding if encoding != "cdr" else f"cdr with {form or 'no'} schema"
            return
        definition = MessageDefinition(_FORMS[form], text)
        self.connections.append(Connection(number, topic, name, definition, "", 0, ConnectionExtRosbag2(encoding, _qos(about)), self))

    def _records(self, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        """(kind, offset, content) of the records from ``start`` to ``end``."""
        at = start
        while at < end:
            kind, record, at_next = self._record(at, end)
            yield kind, at, record
            at = at_next

    def _record(self, at: int, end: int = sys.maxsize) -> tuple[int, bytes, int]:
        self._file.seek(at)
        head = self._file.read(9)
        if len(head) < 9:
            raise ReaderError(f"a record at byte {at} is cut off")
        kind, length = struct.unpack("<BQ", head)
        if at + 9 + length > end or length > _LARGEST:
            raise ReaderError(f"a record at byte {at} is cut off")
        record = self._file.read(length)
        if len(record) < length:
            raise ReaderError(f"a record at byte {at} is cut off")
        return kind, record, at + 9 + length

    def _records_of(self, piece: _Piece) -> Iterator[tuple[int, bytes]]:
        kind, record, _ = self._record(piece.offset)
        if not piece.chunk:
            yield kind, record
        elif kind != _CHUNK:
            raise ReaderError(f"no chunk at byte {piece.offset}, where the index has one")
        else:
            yield from _split(_unpacked(record))

    @property
    def _file(self) -> BinaryIO:
        assert self._stream is not None
        return self._stream


def _metadata(count: int, start: int, end: int) -> ReaderMetadata:
    if not count:
        return ReaderMetadata(0, 2**63 - 1, 0, 0, None, None, None, None)
    return ReaderMetadata(end - start + 1, start, end + 1, count, None, None, None, None)


def _text(record: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", record, at)
    if at + 4 + length > len(record):
        raise ReaderError("a text is cut off")
    return record[at + 4 : at + 4 + length].decode(), at + 4 + length


def _qos(about: dict[str, str]) -> list[Qos]:
    try:
        return parse_qos(about.get("offered_qos_profiles", ""))
    except (ReaderError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return []  # of another version; it only affects how the messages were sent


def _unpacked(chunk: bytes) -> bytes:
    """The records within a chunk.

    Raises:
        ReaderError: damaged, or compressed in an unknown way.
    """
    _, _, size, checksum = struct.unpack_from("<QQQI", chunk)
    compression, at = _text(chunk, 28)
    (length,) = struct.unpack_from("<Q", chunk, at)
    packed = chunk[at + 8 : at + 8 + length]
    if len(packed) < length or size > _LARGEST:
        raise ReaderError("a chunk is cut off")
    data = _decompressed(packed, compression)
    if len(data) != size or (checksum and crc32(data) != checksum):
        raise ReaderError("a chunk is damaged")
    return data


def _decompressed(packed: bytes, compression: str) -> bytes:
    if not compression:
        return packed
    decompress: Any
    if compression == "lz4":
        from lz4 import frame

        decompress = frame.decompress
    elif compression == "zstd":
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        decompress = zstd.decompress
    else:
        raise ReaderError(f"unknown compression {compression!r}")
    try:
        return bytes(decompress(packed))
    except Exception as error:  # each library has its own
        raise ReaderError(f"a chunk is damaged: {error}") from None


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of the records in ``data``."""
    at = 0
    while at < len(data):
        if at + 9 > len(data):
            raise ReaderError("a record in a chunk is cut off")
        kind, length = struct.unpack_from("<BQ", data, at)
        if at + 9 + length > len(data):
            raise ReaderError("a record in a chunk is cut off")
        yield kind, data[at + 9 : at + 9 + length]
        at += 9 + length
