"""PointDC as a method: the classes of a place are learnt from recordings of it, and every point gets one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig
from geoseg_ros.learning.clustering import unit_rows
from geoseg_ros.learning.rooms import room_network, room_of
from geoseg_ros.methods.base import Context, ImageScene, Material, Method, Pack
from geoseg_ros.methods.pointdc.config import PointDCConfig, paper_config
from geoseg_ros.methods.pointdc.training import Fitted, Trainer
from geoseg_ros.nets.base import PointNetwork
from geoseg_ros.packs.class_pictures import class_pictures
from geoseg_ros.packs.place import Place, Spread
from geoseg_ros.packs.place_segmenter import PlaceSegmenter, calibrated
from geoseg_ros.packs.scene_pack import GEOMETRY, SHARES, first_names


class PointDCMethod(Method):
    """See :mod:`geoseg_ros.methods.pointdc`. Its settings are a :class:`PointDCConfig`."""

    name = "pointdc"
    settings = PointDCConfig
    presets = {"small": PointDCConfig(), "paper": paper_config()}

    def learn(self, material: Material, context: Context, seconds: float | None = None) -> Pack:
        """Learn the classes of the scenes of the material. Its images, some frames of the scenes, calibrate the masks of images.

        Args:
            seconds: about how long the training may take; None: as many epochs as the settings say.
        """
        config = context.settings if isinstance(context.settings, PointDCConfig) else PointDCConfig()
        geometry = GeometryConfig(voxel=config.voxel, superpoints=context.scene.geometry.superpoints)
        rooms = [room_of(scene, geometry) for scene in material.scenes]
        if not rooms:
            raise InputError("pointdc: learns from scenes, expected recordings, posed frames or clouds of a place (geoseg discover)")
        trainer = Trainer(new_network(config), rooms, config, context.device, context.progress)
        fitted = trainer.fit(None if seconds is None else seconds / 60, context.resume)
        place = place_of(trainer, fitted, material.name, (context.backbone.name, context.backbone.hash))
        place, shown = calibrated(
            place, material.images, lambda image: ImageScene(image, context.backbone, context.scene).tokens, context.progress
        )
        pictures = class_pictures(rooms, fitted.label, fitted.similarity, len(place.classes), shown)
        return replace(place, pictures=pictures, info=_info(context, material, trainer, fitted)).to_pack()

    def open(self, packs: Sequence[Pack], context: Context) -> PlaceSegmenter:
        """Open scene packs. Their classes do not know of one another; where two packs label a place the more typical class wins."""
        return PlaceSegmenter([Place.from_pack(pack, PointDCConfig()) for pack in packs])

    def check(self, pack: Pack) -> None:
        """See :meth:`Method.check`."""
        super().check(pack)
        Place.from_pack(pack, PointDCConfig())


def new_network(config: PointDCConfig) -> PointNetwork:
    """The network that ``config.network`` names: with random weights, those of ``config.seed``, or the encoder that ships.

    Raises:
        InputError: the encoder's features have another width than ``config.dim``.
    """
    network = room_network(config.network, config.dim, config.voxel, config.seed)
    if network.dim != config.dim:
        raise InputError(f"dim: the encoder gives {network.dim} features, got {config.dim}")
    return network


def place_of(trainer: Trainer, fitted: Fitted, name: str, backbone: tuple[str, str]) -> Place:
    """What a training found, as a place without pictures. ``backbone``: name and hash."""
    count = len(fitted.centroids)
    known = fitted.used & trainer.target.any(axis=1)
    target, label = trainer.target[known], fitted.label[known]
    sums = np.zeros((count, target.shape[1]))
    np.add.at(sums, label, target * trainer.size[known, None])
    tokens = unit_rows(sums)
    return Place(
        name,
        PointDCMethod.name,
        backbone,
        trainer.config,
        trainer.config.unlike,
        fitted.network,
        fitted.centroids,
        _spread(fitted, count),
        fitted.mean,
        tokens,
        Spread.of(1 - (target * tokens[label]).sum(axis=1), label, count),
        first_names(name, count),
        np.arange(count),
    )


def _spread(fitted: Fitted, count: int) -> Spread:
    """Of the super-voxels of rooms and of single views: the latter see less, and are farther from the centres."""
    distance = 1 - np.concatenate([fitted.similarity[fitted.used], fitted.view_similarity]).astype(np.float64)
    return Spread.of(distance, np.concatenate([fitted.label[fitted.used], fitted.view_label]), count)


def _info(context: Context, material: Material, trainer: Trainer, fitted: Fitted) -> dict[str, Any]:
    """What the manifest says of the training."""
    points = np.bincount(fitted.label, trainer.size, len(fitted.centroids))
    return {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "training": {
            "scenes": len(trainer.rooms),
            "views": sum(len(room.views) for room in trainer.rooms),
            "points": int(trainer.size.sum()),
            "supervoxels": int(fitted.used.sum()),
            "images": len(material.images),
            "supervision_of_backbone": context.backbone.supervision,
        },
        SHARES: [round(float(value), 6) for value in points / points.sum()],
        GEOMETRY: {"voxel": trainer.config.voxel, "superpoints": asdict(context.scene.geometry.superpoints)},
    }
