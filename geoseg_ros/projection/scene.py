"""Scenes: the geometry, views and tokens of one cloud or one image, computed on first access and shared by all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import photo_tokens, unit
from geoseg_ros.geometry.analysis import GeometryConfig, SceneGeometry, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.poses import cloud_up, upright
from geoseg_ros.projection.proposal_views import ProposalViews, look_at_proposals
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.settings import Settings, section, setting
from geoseg_ros.stopwatch import Stopwatch

Worked = dict[str, torch.Tensor]
Remember = Callable[[str, Any, Callable[[], Worked]], Worked]
"""Returns the result of some work, from what is done, the item (an array or a :class:`Cloud`) and the work itself."""


def uncached(step: str, item: Any, work: Callable[[], Worked]) -> Worked:
    """A :data:`Remember` that keeps nothing."""
    return work()


@dataclass(frozen=True)
class SceneConfig(Settings):
    """Settings of scenes."""

    image_side: int = setting(
        640, "longest side to which images are reduced for the backbone; smaller images are not enlarged", unit="pixels", range=(64, 2048)
    )
    views: ViewConfig = section(ViewConfig, "how proposals are drawn for the image backbone")
    geometry: GeometryConfig = section(GeometryConfig, "voxels, planes, superpoints and proposals of a cloud")


class PointFeatures(Protocol):
    """An encoder of clouds whose features are tokens of an image backbone.

    Attributes:
        hash: of its weights and settings. backbone: hash of the image backbone.
        background: float32 [n, D], unit mean features of proposals of rooms that show everyday objects.
    """

    hash: str
    backbone: str
    background: torch.Tensor

    def features(self, xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None) -> NDArray[np.float32]:
        """Unit features float32 [M, D] of points float32 [M, 3], metres, z up; zeros where a point has none."""
        ...


class CloudScene:
    """The scene of one cloud.

    Attributes:
        cloud: the input.
        encoder: of clouds, or None.
        clock: seconds of the computed stages, by name.
    """

    def __init__(self, cloud: Cloud, backbone: ImageBackbone, config: SceneConfig, encoder: PointFeatures | None = None) -> None:
        self.cloud, self.clock, self.encoder = cloud, Stopwatch(), encoder
        self.backbone, self._config = backbone, config

    @cached_property
    def geometry(self) -> SceneGeometry:
        """Voxels, normals, planes, superpoints and proposals."""
        self.clock.restart()
        found = analyse_cloud(self.cloud, self._config.geometry)
        self.clock.stop("geometry")
        return found

    @cached_property
    def views(self) -> ProposalViews | None:
        """Virtual views of the proposals and their tokens; None where there are no proposals."""
        geometry = self.geometry
        self.clock.restart()
        with torch.inference_mode():
            found = look_at_proposals(self.cloud, geometry, self.backbone, self._config.views)
        self.clock.stop("views")
        return found

    @cached_property
    def point_features(self) -> NDArray[np.float32] | None:
        """The encoder's features of the voxels of :attr:`geometry`, unit, float32 [M, D]; None without an encoder or without voxels."""
        geometry = self.geometry
        if self.encoder is None or not len(geometry.xyz):
            return None
        self.clock.restart()
        xyz = (geometry.xyz @ upright(cloud_up(geometry.xyz, geometry.normal)).T).astype(np.float32)
        found = self.encoder.features(xyz, geometry.rgb)
        self.clock.stop("point features")
        return found

    @cached_property
    def proposal_features(self) -> torch.Tensor | None:
        """Unit mean of :attr:`point_features` over each proposal, float32 [P, D]; None without an encoder or without proposals."""
        features, proposals = self.point_features, self.geometry.proposals
        if features is None or not proposals:
            return None
        return unit(torch.from_numpy(np.stack([features[members].mean(axis=0) for members in proposals])))

    @cached_property
    def picture(self) -> ImageScene | None:
        """The colours of an organised cloud, as the sensor sees them: pixel k is point k. None without colour or without rows."""
        cloud = self.cloud
        if cloud.rgb is None or cloud.shape is None or cloud.shape[0] < 2 or not self._config.views.colour:
            return None
        return ImageScene(np.ascontiguousarray(cloud.rgb.reshape(*cloud.shape, 3)), self.backbone, self._config)


class ImageScene:
    """The scene of one image.

    Attributes:
        image: uint8 RGB [H, W, 3].
        clock: seconds of the computed stages, by name.
    """

    def __init__(self, image: NDArray[np.uint8], backbone: ImageBackbone, config: SceneConfig) -> None:
        self.image, self.clock = image, Stopwatch()
        self.backbone, self._config = backbone, config
        self._scales: dict[float, tuple[torch.Tensor, NDArray[np.uint8]]] = {}

    def at(self, scale: float = 1.0) -> tuple[torch.Tensor, NDArray[np.uint8]]:
        """Tokens [h, w, D], not normalised, and the resized image that they were computed from; see
        :func:`~geoseg_ros.backbones.tokens.photo_tokens`."""
        if scale not in self._scales:
            self.clock.restart()
            with torch.inference_mode():
                self._scales[scale] = photo_tokens(self.backbone, self.image, self._config.image_side, scale)
            self.clock.stop("tokens")
        return self._scales[scale]

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens [h, w, D] at the image's own scale."""
        return self.at()[0]


Scene = CloudScene | ImageScene
