"""Mesh files: OBJ, GLB and PLY.

Reading is done by trimesh. Before trimesh sees a file, its size and the numbers in its header are checked, because some of them would make
a reader allocate any amount of memory.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path
from geoseg_ros.geometry.meshes import MOST_FACES, Mesh, clean, decimate

Result = TypeVar("Result")
FORMATS = {".obj": "y", ".glb": "y", ".ply": "z"}  # and the axis that points up unless the user says otherwise
ELEMENTS = 3_000_000  # most vertices or faces of a file
_BYTES = 256 << 20  # largest file


def read_mesh(path: str | os.PathLike[str], faces: int = MOST_FACES, up: str | None = None) -> Mesh:
    """Read one OBJ, GLB or PLY file as a single clean surface, z up, in the unit of the file.

    Args:
        path: file; parts of its scene are put together.
        faces: it is thinned to about so many.
        up: "y" or "z", the axis that points up in the file; None: z in PLY, y in the others. A front along z becomes one along x.

    Raises:
        InputError: missing, damaged or too large file, or no usable surface.
    """
    if up not in (None, "y", "z"):
        raise InputError(f"up {up}: unknown, expected y or z")
    file = Path(path)
    mesh = read_parts(file, lambda parts, _: _joined(parts))
    if (up or FORMATS[file.suffix.lower()]) == "y":
        mesh = Mesh(np.ascontiguousarray(mesh.vertices[:, [2, 0, 1]]), mesh.faces, mesh.colour)
    mesh = decimate(mesh, MOST_FACES)
    return decimate(clean(mesh, name=str(file)), faces)


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a binary PLY file, which :func:`read_mesh` reads."""
    import trimesh

    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colour, process=False)
    content: Any = solid.export(file_type="ply")
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(content)


def read_parts(path: str | os.PathLike[str], use: Callable[[list[Any], str], Result]) -> Result:
    """Read a mesh file and make something of its parts.

    Args:
        path: OBJ, GLB or PLY.
        use: gets the parts as ``trimesh.Trimesh``, each moved to where the file's scene has it, and the suffix in small letters.

    Raises:
        InputError: the file cannot be used; also what ``use`` raises, with the path before it.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{file}: expected a file {', '.join(FORMATS)}")
    try:
        if file.stat().st_size > _BYTES:
            raise InputError(f"{file}: {file.stat().st_size >> 20} MB, expected at most {_BYTES >> 20}")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    try:
        _check_header(suffix, data)
        return use(_load(file, suffix, data), suffix)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except MemoryError:
        raise InputError(f"{file}: needs more memory than there is") from None
    except Exception as error:  # trimesh lets through whatever its parsers meet
        raise InputError(f"{file}: not a readable mesh: {type(error).__name__}: {' '.join(str(error).split())[:100]}") from None


def _check_header(suffix: str, data: bytes) -> None:
    """Refuse a file whose header announces more than it holds or more than is allowed. Raises InputError."""
    if not data:
        raise InputError("empty file")
    if suffix == ".ply":
        if not data.startswith(b"ply"):
            raise InputError("not a PLY file")
        header = data[: data.find(b"end_header")] if b"end_header" in data[: 1 << 16] else b""
        counts = [int(n) for n in re.findall(rb"^element\s+\S+\s+(\d{1,18})\s*$", header, re.MULTILINE)]
        if not counts or sum(counts) > len(data):
            raise InputError("the header announces no elements, or more than the file holds")
        if max(counts) > ELEMENTS:
            raise InputError(f"{max(counts)} vertices or faces, expected at most {ELEMENTS}")
    elif suffix == ".glb":
        if len(data) < 20 or data[:4] != b"glTF":
            raise InputError("not a GLB file")
        length = struct.unpack("<I", data[12:16])[0]
        tree = json.loads(data[20 : 20 + length])
        if not isinstance(tree, dict):
            raise InputError("the JSON part is no object")
        if sum(int(a.get("count", 0)) for a in tree.get("accessors", [])) > len(data):
            raise InputError("the accessors announce more than the file holds")
        _check_nodes(tree.get("nodes", []))


def _check_nodes(nodes: list[dict[str, Any]]) -> None:
    """Refuse a scene graph in which a node has two parents or is its own ancestor. Raises InputError."""
    children = [int(c) for node in nodes for c in node.get("children", [])]
    if len(children) != len(set(children)):
        raise InputError("a node of the scene has two parents")
    parent = {int(c): k for k, node in enumerate(nodes) for c in node.get("children", [])}
    for start in parent:
        seen, at = set(), start
        while at in parent:
            if at in seen:
                raise InputError("the scene contains itself")
            seen.add(at)
            at = parent[at]


def _load(file: Path, suffix: str, data: bytes) -> list[Any]:
    """The parts of a file as ``trimesh.Trimesh``, each moved to where the file's scene has it."""
    import trimesh

    resolver = trimesh.resolvers.FilePathResolver(str(file))  # reads nothing outside the file's folder
    loaded = trimesh.load_scene(io.BytesIO(data), file_type=suffix[1:], resolver=resolver, process=False)
    return [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]


def _joined(parts: list[Any]) -> Mesh:
    """One mesh of all ``trimesh.Trimesh``; colours where a part has them, grey for the others. Raises InputError."""
    if not parts:
        raise InputError("no triangles")
    vertices, faces, colours, start = [], [], [], 0
    for part in parts:
        rows = np.asarray(part.faces, np.int64)
        if rows.min() < 0 or rows.max() >= len(part.vertices):
            raise InputError("a triangle names a vertex that does not exist")
        vertices.append(np.asarray(part.vertices, np.float32))
        faces.append(rows + start)
        colours.append(_colours(part))
        start += len(part.vertices)
    if all(colour is None for colour in colours):
        return Mesh(np.concatenate(vertices), np.concatenate(faces))
    grey = [np.full((len(v), 3), 170, np.uint8) if c is None else c for v, c in zip(vertices, colours, strict=True)]
    return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(grey))


def _colours(part: Any) -> NDArray[np.uint8] | None:
    """uint8 [V, 3] of the vertices of a ``trimesh.Trimesh``, from its texture too; None where it has none."""
    visual = part.visual
    if not visual.defined:
        return None
    try:
        plain = visual.to_color() if visual.kind == "texture" else visual
        colour = np.asarray(plain.vertex_colors, np.uint8)
    except (AttributeError, TypeError, ValueError):  # a texture that is named and missing
        return None
    return np.ascontiguousarray(colour[:, :3]) if colour.shape == (len(part.vertices), 4) else None
