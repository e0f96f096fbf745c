"""One picture of an object together with its surface: what every cell of a grid over the picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import interpolate

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import resize
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.geodesics import Geodesics
from geoseg_ros.geometry.meshes import Mesh, sample_surface
from geoseg_ros.methods.parts.descriptors import unit_rows
from geoseg_ros.projection.cameras import Camera
from geoseg_ros.projection.render import render_points

Floats = NDArray[np.floating]
GRID = 60  # cells along a side, as in the paper
_SAMPLES = 60_000  # points of the surface that are drawn into the grid


@dataclass(frozen=True, eq=False)
class Surface:
    """An object in 3D. Attributes: mesh: V vertices. geodesics: distances on it. descriptors: unit rows float32 [V, E]."""

    mesh: Mesh
    geodesics: Geodesics
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ObjectView:
    """The n cells of a square picture that show an object, row by row.

    Attributes:
        surface: the object.
        tokens: float32 [h, w, D], the picture's, not normalised.
        cell: int64 [n, 2], row and column, of GRID each way.
        vertex: int64 [n], the vertex of the surface that each cell shows.
        token: unit rows float32 [n, D], those of the cells.
    """

    surface: Surface
    tokens: NDArray[np.float32]
    cell: NDArray[np.int64]
    vertex: NDArray[np.int64]
    token: NDArray[np.float32]

    @property
    def descriptor(self) -> NDArray[np.float32]:
        """Unit rows float32 [n, E]: the descriptors of the surface at the cells."""
        return self.surface.descriptors[self.vertex]

    @property
    def extent(self) -> float:
        """The longer side of the box around the cells."""
        return float((self.cell.max(axis=0) - self.cell.min(axis=0) + 1).max())


def view_of(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], camera: Camera, surface: Surface, backbone: ImageBackbone, side: int = 480
) -> ObjectView:
    """Lift a picture onto the surface of the object in it.

    Args:
        image: RGB [S, S, 3], square. mask: bool [S, S], the object.
        camera: of the picture, in the frame of the surface.
        side: of the picture for the backbone, pixels.

    Raises:
        InputError: not square, or the mask is empty on the grid, or the surface is not in the picture.
    """
    if image.shape[0] != image.shape[1] or mask.shape != image.shape[:2]:
        raise InputError(f"picture: expected a square one and its mask, got {image.shape[:2]} and {mask.shape}")
    side = max(2, round(side / backbone.stride)) * backbone.stride
    tokens = backbone.tokens(resize(image, side, side)[None])[0][0].float().cpu()
    shown = cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) >= 0.5
    vertex = rasterise(surface.mesh, camera, shown)
    cell = np.argwhere(shown)
    dense = interpolate(tokens.permute(2, 0, 1)[None], (GRID, GRID), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    token = dense[shown]
    return ObjectView(surface, tokens.numpy(), cell, vertex[shown], unit_rows(token - token.mean(axis=0)).astype(np.float32))


def rasterise(mesh: Mesh, camera: Camera, shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The vertex that each cell of a grid shows, int64 [G, G]; -1 outside ``shown`` [G, G].

    Cells of ``shown`` that the surface misses take over that of the nearest cell that it hits.
    """
    grid = len(shown)
    scale = grid / camera.size[0]
    matrix = camera.intrinsics.copy()
    matrix[:2] *= scale
    matrix[:2, 2] += (scale - 1) / 2  # centres of pixels are whole numbers
    points, face, weights = sample_surface(mesh, _SAMPLES)
    index = render_points(type(camera)(camera.pose, matrix, (grid, grid)), points).index
    hit = (index >= 0) & shown
    if not hit.any():
        raise InputError("picture: the mask does not show the surface")
    nearest = distance_transform_edt(~hit, return_distances=False, return_indices=True)
    owner = mesh.faces[face, weights.argmax(axis=1)]
    return np.where(shown, owner[index[tuple(nearest)]], -1)


def grid_tokens(tokens: torch.Tensor, cell: NDArray[np.integer]) -> torch.Tensor:
    """Features [n, D] of a map [D, h, w] at cells int [n, 2] of the grid, between its values by bilinear interpolation."""
    dense = interpolate(tokens[None], (GRID, GRID), mode="bilinear", align_corners=False)[0]
    at = torch.as_tensor(np.asarray(cell, np.int64), device=tokens.device)
    return dense[:, at[:, 0], at[:, 1]].T
