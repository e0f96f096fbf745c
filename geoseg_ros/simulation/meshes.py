"""Textured meshes from files, made ready to stand in a room."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io.mesh_files import FORMATS, read_parts

if TYPE_CHECKING:
    from PIL import Image

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_TRIANGLES, _PIXELS = 1_000_000, 8192 * 8192  # largest mesh and texture
LONGEST = (0.02, 2.5)
"""Shortest and longest side of a mesh, metres; what is large enough for the sensors and fits into a room."""
_Y_UP = [2, 0, 1]  # glTF: y up, front towards +z


@dataclass(frozen=True)
class TexturedMesh:
    """F triangles and their colours. The frame is the middle of the bounding box, z up, front towards +x; metres.

    Attributes:
        corners: float32 [F, 3, 3].
        colours: float32 [F, 3, 3], linear RGB at the corners.
        uv: float32 [F, 3, 2], texture coordinates at the corners; v grows upwards in the image.
        image: int32 [F], index into ``images``, -1 = no texture.
        images: uint8 [H, W, 3] each, sRGB.
    """

    corners: NDArray[np.float32]
    colours: NDArray[np.float32]
    uv: NDArray[np.float32]
    image: NDArray[np.int32]
    images: tuple[NDArray[np.uint8], ...] = ()

    def half(self) -> NDArray[np.float32]:
        """float32 [3]: half lengths of the bounding box."""
        return np.abs(self.corners).max(axis=(0, 1))

    def albedo(self, triangle: NDArray[np.int32], weights: NDArray[np.floating]) -> NDArray[np.float32]:
        """Linear RGB at points of the surface: colour of the corners times texture, which repeats beyond its borders.

        Args:
            triangle: int32 [N].
            weights: float32 [N, 3], barycentric coordinates.

        Returns:
            float32 [N, 3].
        """
        colour = np.einsum("nk,nkc->nc", weights, self.colours[triangle])
        uv, which = np.einsum("nk,nkc->nc", weights, self.uv[triangle]), self.image[triangle]
        for k, image in enumerate(self.images):
            rows = np.flatnonzero(which == k)
            height, width = image.shape[:2]
            column = np.minimum((uv[rows, 0] % 1 * width).astype(np.int64), width - 1)
            row = np.minimum(((1 - uv[rows, 1]) % 1 * height).astype(np.int64), height - 1)
            colour[rows] *= _linear(image[row, column])
        return colour.astype(np.float32)


def read_meshes(folder: str | os.PathLike[str], unit: str = "m", up: str | None = None) -> dict[str, TexturedMesh]:
    """All meshes of a folder.

    Args:
        folder: holds OBJ, GLB and PLY files; anything else in it is ignored.
        unit: of the coordinates in OBJ and PLY files, of UNITS. Those of GLB are metres by its standard.
        up: "y" or "z", the axis that points up in OBJ and PLY files; None: y in OBJ, z in PLY. In GLB it is y by its standard.

    Returns:
        File name without suffix -> mesh, in the order of the names.

    Raises:
        InputError: no folder, no mesh in it, two with one name, or a file that cannot be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    paths = sorted(p for p in root.iterdir() if p.suffix.lower() in FORMATS and p.is_file())
    if not paths:
        raise InputError(f"{root}: holds no mesh, expected files {', '.join(FORMATS)}")
    meshes: dict[str, TexturedMesh] = {}
    for path in paths:
        if path.stem in meshes:
            raise InputError(f"{path}: another mesh of this folder has the name {path.stem}")
        meshes[path.stem] = read_mesh(path, unit, up)
    return meshes


def read_mesh(path: str | os.PathLike[str], unit: str = "m", up: str | None = None) -> TexturedMesh:
    """Read one OBJ, GLB or PLY file; arguments and errors as in :func:`read_meshes`."""
    file = Path(path)
    if unit not in UNITS:
        raise InputError(f"unit {unit}: unknown, expected one of {', '.join(UNITS)}")
    if up not in (None, "y", "z"):
        raise InputError(f"up {up}: unknown, expected y or z")
    mesh = _read(file)
    glb = file.suffix.lower() == ".glb"
    corners = mesh.corners
    if (FORMATS[file.suffix.lower()] if glb or up is None else up) == "y":
        corners = corners[..., _Y_UP]
    with np.errstate(over="ignore"):
        corners = corners * np.float32(1.0 if glb else UNITS[unit])
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        longest = float((high - low).max())
    if not LONGEST[0] <= longest <= LONGEST[1]:
        measured = "m" if glb else unit
        raise InputError(f"{file}: longest side {longest:.3g} m (unit {measured}), expected {LONGEST[0]} to {LONGEST[1]}; see --mesh-unit")
    return replace(mesh, corners=corners - (low + high) / 2)


def read_mesh_of_size(path: str | os.PathLike[str], size: tuple[float, float, float]) -> TexturedMesh:
    """Read one OBJ, GLB or PLY file with y up whose real size is known from elsewhere; its own unit does not matter.

    Args:
        size: lengths along x (front), y (left) and z (up) that the mesh is stretched to, metres.

    Raises:
        InputError: a file that cannot be used, or a size beyond ``LONGEST``.
    """
    if not (min(size) > 0 and LONGEST[0] <= max(size) <= LONGEST[1]):
        raise InputError(f"{path}: size {' x '.join(f'{s:.3g}' for s in size)} m, expected longest side {LONGEST[0]} to {LONGEST[1]}")
    mesh = _read(Path(path))
    corners = mesh.corners[..., _Y_UP].astype(np.float64)
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    corners = (corners - (low + high) / 2) * (np.asarray(size) / np.maximum(high - low, 1e-9))
    return replace(mesh, corners=corners.astype(np.float32))


def _read(file: Path) -> TexturedMesh:
    """The mesh in the unit and axes of the file. Raises InputError."""
    return read_parts(file, lambda parts, suffix: _assemble(parts, _glb_light if suffix == ".glb" else _linear))


def _assemble(parts: list[Any], light: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> TexturedMesh:
    """One mesh of all parts, in the unit and axes of the file.

    Args:
        parts: ``trimesh.Trimesh``.
        light: linear light of the colours that the file holds, textures aside.

    Raises:
        InputError: no or too many triangles, or wrong coordinates.
    """
    count = sum(len(part.faces) for part in parts)
    if not 1 <= count <= _TRIANGLES:
        raise InputError(f"{count} triangles, expected 1 to {_TRIANGLES}")
    corners, colours, uvs, index = [], [], [], []
    images: list[NDArray[np.uint8]] = []
    for part in parts:
        faces = np.asarray(part.faces)
        if faces.min() < 0 or faces.max() >= len(part.vertices):
            raise InputError("a triangle names a vertex that does not exist")
        corners.append(np.asarray(part.vertices, np.float32)[faces])
        colour, uv, image = _appearance(part, light)
        colours.append(colour)
        uvs.append(uv)
        index.append(np.full(len(faces), -1 if image is None else len(images), np.int32))
        if image is not None:
            images.append(image)
    mesh = TexturedMesh(np.concatenate(corners), np.concatenate(colours), np.concatenate(uvs), np.concatenate(index), tuple(images))
    if not (np.isfinite(mesh.corners).all() and np.isfinite(mesh.colours).all() and np.isfinite(mesh.uv).all()):
        raise InputError("coordinates or colours are not finite")
    return mesh


def _appearance(
    part: Any, light: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8] | None]:
    """Of a ``trimesh.Trimesh``: linear colours float32 [F, 3, 3], texture coordinates float32 [F, 3, 2], and the texture if it has one."""
    faces, visual = np.asarray(part.faces), part.visual
    shape = (len(faces), 3, 3)
    uv, image, tint = np.zeros((len(faces), 3, 2), np.float32), None, np.ones(3, np.float32)
    if visual.kind == "texture":
        material = visual.material
        texture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        factor = getattr(material, "baseColorFactor", None)
        if factor is None and texture is None:
            factor = material.main_color
        if factor is not None:
            tint = light(np.asarray(factor, np.uint8)[:3])
        if texture is not None and visual.uv is not None and len(visual.uv) == len(part.vertices):
            image = _pixels(texture)
            uv = np.asarray(visual.uv, np.float32)[faces]
        colour = np.broadcast_to(tint, shape)
        stored = visual.vertex_attributes.get("color")
        if stored is not None and len(stored) == len(part.vertices):
            colour = colour * light(np.asarray(stored, np.uint8)[:, :3])[faces]
    elif visual.kind == "face":
        colour = np.broadcast_to(light(np.asarray(visual.face_colors)[:, None, :3]), shape)
    elif visual.kind == "vertex":
        colour = light(np.asarray(visual.vertex_colors)[:, :3])[faces]
    else:
        colour = np.full(shape, _linear(np.full(3, 170, np.uint8)))
    return np.ascontiguousarray(colour, np.float32), uv, image


def _pixels(texture: Image.Image) -> NDArray[np.uint8]:
    if texture.width * texture.height > _PIXELS:
        raise InputError(f"texture of {texture.width} x {texture.height} pixels, expected at most {_PIXELS >> 20} million")
    return np.array(texture.convert("RGB"), np.uint8)


def _glb_light(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Linear light of colours in GLB files, which are linear by its standard."""
    return np.asarray(values, np.float32) / np.float32(255)


def _linear(srgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Linear light of display values (gamma 2.2, as everywhere in this room)."""
    return np.asarray((np.asarray(srgb, np.float32) / 255) ** np.float32(2.2), np.float32)
