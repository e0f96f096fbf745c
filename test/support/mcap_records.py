"""MCAP files written record by record, as other tools write them."""

from __future__ import annotations

import struct

MAGIC = b"\x89MCAP0\r\n"


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str) -> bytes:
    data = value.encode("latin-1")
    return struct.pack("<I", len(data)) + data


def schema(number: int, name: str, encoding: str, body: str) -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text(encoding) + text(body))


def channel(number: int, of_schema: int, topic: str, encoding: str) -> bytes:
    return record(4, struct.pack("<HH", number, of_schema) + text(topic) + text(encoding) + struct.pack("<I", 0))


def message(number: int, stamp: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, stamp, stamp) + data)


def mcap(records: bytes, profile: str = "") -> bytes:
    """A finished file without chunks and without an index."""
    head, end = record(1, text(profile) + text("test")), record(15, struct.pack("<I", 0))
    return MAGIC + head + records + end + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
