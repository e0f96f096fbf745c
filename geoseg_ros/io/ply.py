"""PLY files (Stanford polygon format 1.0): the vertices, ascii or binary of either byte order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.fields import Fields, parse_table, typed_column

_HEADER_BYTES = 1 << 16
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_NAMES = {"<f4": "float", "<f8": "double", "u1": "uchar"}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False


def parse_ply(content: bytes, source: str) -> Fields:
    """The columns of the element ``vertex`` of a PLY file's bytes; faces and other elements are skipped.

    Raises:
        InputError: the header is wrong, the vertices hold lists, or the data are fewer than declared.
    """
    encoding, elements, body = _parse_header(content, source)
    index = next((i for i, element in enumerate(elements) if element.name == "vertex"), None)
    if index is None:
        raise InputError(f"{source}: PLY header has no element vertex")
    vertex = elements[index]
    if any(element.lists for element in elements[: index + 1]):
        raise InputError(f"{source}: PLY list properties at or before element vertex are not supported")
    if not vertex.properties:
        raise InputError(f"{source}: PLY element vertex has no properties; expected x, y, z")
    data = content[body:]
    if encoding == "ascii":
        skip = sum(element.count for element in elements[:index])
        if skip > len(data):
            raise InputError(f"{source}: truncated: {skip} lines declared before the vertices")
        table = parse_table(data, vertex.count, len(vertex.properties), source, skip)
        return {name: typed_column(table[:, i], kind) for i, (name, kind) in enumerate(vertex.properties)}
    order = _ORDERS[encoding]
    sizes = [sum(np.dtype(kind).itemsize for _, kind in element.properties) for element in elements[: index + 1]]
    start = sum(size * element.count for size, element in zip(sizes, elements[:index], strict=False))
    if len(data) < start + sizes[index] * vertex.count:
        raise InputError(
            f"{source}: truncated: {vertex.count} vertices of {sizes[index]} bytes declared, {max(len(data) - start, 0)} bytes follow"
        )
    layout = np.dtype([(f"f{i}", order + kind) for i, (_, kind) in enumerate(vertex.properties)])
    vertices = np.frombuffer(data, layout, vertex.count, start)
    return {name: vertices[f"f{i}"].astype(kind) for i, (name, kind) in enumerate(vertex.properties)}


def format_ply(cloud: Cloud) -> bytes:
    """A binary little-endian PLY of every point, in order: x y z and, where the cloud has colour, red green blue uchar.

    x y z are float, or double where the cloud came in another frame.
    """
    xyz = cloud.original()
    layout = [(name, f"<f{xyz.itemsize}") for name in "xyz"]
    if cloud.rgb is not None:
        layout += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    table = np.empty(len(cloud), layout)
    for axis, name in enumerate("xyz"):
        table[name] = xyz[:, axis]
    if cloud.rgb is not None:
        for channel, name in enumerate(("red", "green", "blue")):
            table[name] = cloud.rgb[:, channel]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    lines += [f"property {_NAMES[kind]} {name}" for name, kind in layout]
    return ("\n".join([*lines, "end_header"]) + "\n").encode() + table.tobytes()


def _parse_header(content: bytes, source: str) -> tuple[str, list[_Element], int]:
    """(encoding, elements, byte at which the data start)."""
    if not content.startswith((b"ply\n", b"ply\r\n")):
        raise InputError(f"{source}: not a PLY file (expected the first line 'ply')")
    encoding = ""
    elements: list[_Element] = []
    position = 0
    while True:
        end = content.find(b"\n", position, _HEADER_BYTES)
        if end < 0:
            raise InputError(f"{source}: PLY header without end_header")
        line = content[position:end].decode("ascii", "replace").strip()
        words = line.split()
        position = end + 1
        if words == ["end_header"]:
            break
        try:
            if words[:1] == ["format"]:
                encoding = words[1]
                _ORDERS[encoding]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2])))
                if elements[-1].count < 0:
                    raise ValueError
            elif words[:2] == ["property", "list"]:
                elements[-1].lists = True
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[2], _TYPES[words[1]]))
        except (IndexError, KeyError, ValueError):
            raise InputError(f"{source}: PLY header: cannot understand the line {line[:60]!r}") from None
    if not encoding:
        raise InputError(f"{source}: PLY header has no format line")
    return encoding, elements, position
