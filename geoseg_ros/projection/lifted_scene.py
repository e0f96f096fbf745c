"""Lifted scenes: the voxels of a room with the image backbone's tokens, in memory and in files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.projection.shots import Shot, shots_from_arrays, shots_to_tensors

_FORMAT = "geoseg lifted scene 2"
_ARRAYS = ("xyz", "normal", "tokens", "views", "superpoint", "inverse", "up")


@dataclass(frozen=True, eq=False)
class LiftedScene:
    """One room on M voxels.

    Attributes:
        xyz: float32 [M, 3], metres, world.
        rgb: uint8 [M, 3], or None where the room has no colour.
        normal: float32 [M, 3], unit, towards the cameras.
        tokens: float16 [M, D], mean or maximum of the backbone's tokens over the views that show the voxel; zeros where none does. Not
            normalised.
        views: int32 [M], views that show the voxel; its tokens are known where it is positive.
        superpoint: int64 [M], super-voxel of each voxel, 0 .. S - 1.
        inverse: int64 [N], voxel of each of the points that the room was made from, -1 for those left out; [0] for a room fused from
            frames, whose points are the voxels.
        voxel: edge length, metres.
        up: float64 [3], unit, the direction that is up in the world.
        backbone: hash of the backbone that made the tokens.
        name: of the room.
        shots: what some of its frames measured.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None
    normal: NDArray[np.float32]
    tokens: NDArray[np.float16]
    views: NDArray[np.int32]
    superpoint: NDArray[np.int64]
    inverse: NDArray[np.int64]
    voxel: float
    up: NDArray[np.float64]
    backbone: str = ""
    name: str = ""
    shots: tuple[Shot, ...] = ()

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool [M]: the voxels with tokens."""
        return self.views > 0

    def superpoint_tokens(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Mean token of the known voxels of each super-voxel, float32 [S, D], zeros without any; and their number, int64 [S]."""
        return superpoint_means(self.tokens, self.superpoint, self.known)

    def point_values(self, values: NDArray, fill: float = -1) -> NDArray:
        """Values per voxel [M, ...] to values per original point [N, ...], ``fill`` where a point has no voxel; as they are where the room
        was fused from frames."""
        if not len(self.inverse):
            return values
        out = np.full((len(self.inverse), *values.shape[1:]), fill, values.dtype)
        has = self.inverse >= 0
        out[has] = values[self.inverse[has]]
        return out


def superpoint_means(
    values: NDArray, superpoint: NDArray[np.int64], use: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean of values over the voxels of each super-voxel.

    Args:
        values: [M, D].
        superpoint: int64 [M], 0 .. S - 1.
        use: bool [M], voxels that count; default: all.

    Returns:
        float32 [S, D], zeros for super-voxels of which no voxel counts; int64 [S], voxels that counted.
    """
    count = int(superpoint.max(initial=-1)) + 1
    rows = np.arange(len(superpoint)) if use is None else np.flatnonzero(use)
    group = torch.from_numpy(superpoint[rows])
    total = torch.zeros(count, values.shape[1], dtype=torch.float32)
    for part in torch.arange(len(rows)).split(65536):  # bounds the float32 copy
        total.index_add_(0, group[part], torch.from_numpy(values[rows[part.numpy()]].astype(np.float32)))
    number = np.bincount(superpoint[rows], minlength=count).astype(np.int64)
    return (total / torch.from_numpy(np.maximum(number, 1)).float()[:, None]).numpy(), number


def save_lifted(path: str | os.PathLike[str], scene: LiftedScene) -> None:
    """Write a lifted scene as safetensors."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(scene, name))) for name in _ARRAYS}
    tensors |= shots_to_tensors(scene.shots)
    if scene.rgb is not None:
        tensors["rgb"] = torch.from_numpy(np.ascontiguousarray(scene.rgb))
    about = {"format": _FORMAT, "voxel": repr(scene.voxel), "backbone": scene.backbone, "name": scene.name}
    write_bytes(path, save(tensors, about))


def load_lifted(path: str | os.PathLike[str]) -> LiftedScene:
    """Read what :func:`save_lifted` wrote.

    Raises:
        InputError: missing or damaged file, or one of another kind.
    """
    source = Path(path)
    try:
        with safe_open(source, "pt") as file:
            about = file.metadata() or {}
            if about.get("format") != _FORMAT:
                raise InputError(f"{source}: {about.get('format', 'no format')}, expected {_FORMAT}")
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        shots, rgb = shots_from_arrays(arrays), arrays.pop("rgb", None)
        scene = LiftedScene(rgb=rgb, voxel=float(about["voxel"]), backbone=about["backbone"], name=about["name"], shots=shots, **arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: not a lifted scene: {' '.join(str(error).split())[:100]}") from None
    count = len(scene.xyz)
    if any(len(array) != count for array in (scene.normal, scene.tokens, scene.views, scene.superpoint)):
        raise InputError(f"{source}: damaged lifted scene, its arrays differ in length")
    return scene
