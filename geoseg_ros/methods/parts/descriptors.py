"""Descriptors of the points of an object: what it looks like, how its surface is bent, and where on the object a point is.

Each provider gives unit rows; they are joined with the square roots of their weights, so that the cosine of two joined rows is the weighted
mean of the providers' cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import view_tokens
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.meshes import Mesh, sample_surface
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.signatures import signatures
from geoseg_ros.projection.lifting import lift_tokens
from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views
from geoseg_ros.settings import Settings, section, setting

Floats = NDArray[np.floating]
Frame = Literal["full", "gravity", "none"]
_WAVES, _WAVE_SCALE = 64, 0.25  # random waves of the descriptor of place, and the distance (in half sizes) at which places differ


@dataclass(frozen=True)
class DescriptorConfig(Settings):
    """What points are described by. Weights of providers that are not there are shared out among the others."""

    tokens: float = setting(0.5, "weight of the backbone's tokens, carried to the points from virtual views", range=(0.0, 1.0))
    surface: float = setting(0.2, "weight of heat- and wave-kernel signatures", range=(0.0, 1.0))
    place: float = setting(0.3, "weight of the place in the box around the object", range=(0.0, 1.0))
    frame: Frame = setting(
        "gravity",
        "what is known of the object's axes: full (z up, front along x); gravity (z up: a place is height and distance from the middle); "
        "none (no places)",
    )
    samples: int = setting(20_000, "points of a mesh that are drawn", range=(100, 1_000_000))
    elevations: tuple[float, ...] = setting(
        (10.0, 40.0), "angles above the horizon that views are taken from", unit="degrees", range=(-90, 90)
    )
    views: ViewConfig = section(lambda: ViewConfig(size=224, views=8, yaw=45.0), "views of each elevation")


def describe(shape: Mesh | Cloud, backbone: ImageBackbone | None, config: DescriptorConfig | None = None) -> NDArray[np.float32]:
    """Descriptors of every vertex of a mesh or every point of a cloud, for matching by cosine.

    Args:
        shape: z up unless ``config.frame`` is "none"; finite, at least 4 points.
        backbone: None: without tokens.
        config: providers and their weights.

    Returns:
        float32 [V, D], unit rows. Points that no view shows have the token of the nearest one that is shown.

    Raises:
        InputError: too few points, points that are not finite, or nothing to describe them by.
    """
    config = config or DescriptorConfig()
    points = shape.vertices if isinstance(shape, Mesh) else shape.xyz
    if len(points) < 4 or not np.isfinite(points).all():
        raise InputError(f"descriptors: expected at least 4 finite points, got {len(points)}")
    parts: list[tuple[float, Floats]] = []
    if backbone is not None and config.tokens:
        parts.append((config.tokens, token_descriptors(shape, backbone, config)))
    if config.surface:
        parts.append((config.surface, signatures(shape)))
    if config.place and config.frame != "none":
        parts.append((config.place, place_descriptors(points, config.frame)))
    if not parts:
        raise InputError("descriptors: every provider has weight 0")
    return fuse([values for _, values in parts], [weight for weight, _ in parts])


def fuse(parts: Sequence[Floats], weights: Sequence[float]) -> NDArray[np.float32]:
    """Descriptors [V, D1], [V, D2] ... joined to unit rows float32 [V, D1 + D2 ...]; weights > 0, their sum does not matter."""
    total = float(sum(weights))
    return np.concatenate([np.sqrt(w / total) * unit_rows(p) for p, w in zip(parts, weights, strict=True)], axis=1).astype(np.float32)


def unit_rows(values: Floats) -> Floats:
    """Rows scaled to unit length; zero rows stay zero."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def place_descriptors(points: Floats, frame: Frame = "full") -> NDArray[np.float32]:
    """Where in the box around the object each point is: random waves (Rahimi & Recht 2007) of the normalised place, whose cosine falls off
    with the distance of two places as a Gaussian.

    Args:
        points: [V, 3], z up.
        frame: "full": x, y and z count; "gravity": height and distance from the vertical through the middle.

    Returns:
        float32 [V, 128], unit rows.
    """
    points = np.asarray(points, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    place = (points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-9)
    if frame == "gravity":
        level = points[:, :2] - (low + high)[:2] / 2
        place = np.stack([np.hypot(*level.T) / max(float(np.hypot(*level.T).max()), 1e-9), place[:, 2]], axis=1)
    waves = np.random.default_rng(0).normal(size=(place.shape[1], _WAVES)) / _WAVE_SCALE / 2
    return unit_rows(np.concatenate([np.cos(place @ waves), np.sin(place @ waves)], axis=1)).astype(np.float32)


def token_descriptors(shape: Mesh | Cloud, backbone: ImageBackbone, config: DescriptorConfig) -> NDArray[np.float32]:
    """Tokens of virtual views from all around, carried to the points; the object's mean token is taken out. Unit rows float32 [V, D]."""
    points = shape.vertices if isinstance(shape, Mesh) else shape.xyz
    xyz, normal, rgb, owner = _drawn(shape, config.samples)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    index, pictures = [], []
    for elevation in np.radians(config.elevations):
        sensor = middle + 10 * (np.ptp(points, axis=0).max() + 1e-6) * np.array([np.cos(elevation), 0, np.sin(elevation)])
        drawn = draw_views(xyz, normal, sensor, config.views)
        index.append(index_of(drawn))
        pictures.append(paint_views(drawn, rgb, normal, config.views))
    tokens = view_tokens(backbone, pictures)
    shown = np.concatenate(index)
    features, seen = lift_tokens(tokens, np.where(shown >= 0, owner[shown], -1).astype(np.int32), len(points))
    return _completed(points, features, seen)


def _completed(points: Floats, features: torch.Tensor, seen: torch.Tensor) -> NDArray[np.float32]:
    """Unit rows without the common part; points that are not seen take over what the nearest seen one has."""
    known, values = seen.numpy(), features.float().numpy()
    if not known.any():
        raise InputError("descriptors: no view shows a point")
    values = values - values[known].mean(axis=0)
    if not known.all():
        values[~known] = values[known][cKDTree(points[known]).query(points[~known])[1]]
    return unit_rows(values).astype(np.float32)


def _drawn(shape: Mesh | Cloud, samples: int) -> tuple[Floats, Floats, NDArray[np.uint8] | None, NDArray[np.int64]]:
    """What is drawn of a shape: points [N, 3], normals [N, 3], colours, and the row of the shape that each point stands for."""
    if isinstance(shape, Cloud):
        return shape.xyz, normals(shape.xyz, knn(shape.xyz, 16)[1])[0], shape.rgb, np.arange(len(shape.xyz))
    xyz, face, weights = sample_surface(shape, samples)
    owner = shape.faces[face, weights.argmax(axis=1)]
    rgb = None
    if shape.colour is not None:
        rgb = np.einsum("nk,nkc->nc", weights, shape.colour[shape.faces[face]].astype(np.float32)).round().astype(np.uint8)
    return xyz, shape.face_normals()[0][face], rgb, owner
