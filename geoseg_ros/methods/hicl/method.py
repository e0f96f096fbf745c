"""HICL as a method: named classes of a place, learnt from recordings of it and a vision-language teacher."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.learning.clustering import unit_rows
from geoseg_ros.learning.rooms import Room, mean_token, room_network, room_of, target_of
from geoseg_ros.learning.taught import Taught
from geoseg_ros.methods.base import Context, ImageScene, Material, Method, Pack
from geoseg_ros.methods.hicl.config import HICLConfig, paper_config
from geoseg_ros.methods.hicl.training import Fitted, Trainer, prototypes, taught_rooms
from geoseg_ros.nets.base import PointNetwork
from geoseg_ros.packs.class_pictures import class_pictures
from geoseg_ros.packs.place import Place, Spread, fit_kappa
from geoseg_ros.packs.place_segmenter import PlaceSegmenter, calibrated
from geoseg_ros.packs.scene_pack import GEOMETRY, SHARES, TEACHER, first_names


class HICLMethod(Method):
    """See :mod:`geoseg_ros.methods.hicl`. Its settings are a :class:`HICLConfig`."""

    name = "hicl"
    settings = HICLConfig
    presets = {"small": HICLConfig(), "paper": paper_config()}

    def learn(self, material: Material, context: Context, seconds: float | None = None) -> Pack:
        """Learn the classes that ``material.taught`` names in the scenes of the material. Its images calibrate the masks of images.

        Args:
            seconds: about how long the training may take; None: as many epochs as the settings say.
        """
        config = context.settings if isinstance(context.settings, HICLConfig) else HICLConfig()
        taught, rooms = material.taught, [room_of(scene) for scene in material.scenes]
        if taught is None or not rooms:
            raise InputError("hicl: learns from scenes and a teacher (geoseg discover --names --teacher)")
        anchors = taught.anchors if len(taught.anchors) else prototypes(rooms, taught, config.classes, config.seed)
        names = taught.names or first_names(material.name, len(anchors))
        trainer = Trainer(
            new_network(config, anchors.shape[1]),
            taught_rooms(rooms, taught, anchors, config),
            anchors,
            config,
            context.device,
            context.progress,
        )
        fitted = trainer.fit(None if seconds is None else seconds / 60, context.resume)
        place = place_of(rooms, fitted, anchors, names, config, material.name, (context.backbone.name, context.backbone.hash))
        place, shown = calibrated(
            place, material.images, lambda image: ImageScene(image, context.backbone, context.scene).tokens, context.progress
        )
        label = fitted.cosine.argmax(axis=1)
        pictures = class_pictures(rooms, label, fitted.cosine.max(axis=1), len(names), shown)
        info = _info(context, material, taught, rooms, fitted, config)
        return replace(place, pictures=pictures, info=info).to_pack()

    def open(self, packs: Sequence[Pack], context: Context) -> PlaceSegmenter:
        """Open scene packs. Their classes do not know of one another; where two packs label a place the more typical class wins."""
        return PlaceSegmenter([Place.from_pack(pack, HICLConfig()) for pack in packs])

    def check(self, pack: Pack) -> None:
        """See :meth:`Method.check`."""
        super().check(pack)
        Place.from_pack(pack, HICLConfig())


def new_network(config: HICLConfig, dim: int) -> PointNetwork:
    """The network that ``config.network`` names, whose features have the width ``dim``; what is random is that of ``config.seed``."""
    return room_network(config.network, dim, config.voxel, config.seed, fresh=True)


def place_of(
    rooms: Sequence[Room],
    fitted: Fitted,
    anchors: NDArray[np.float32],
    names: Sequence[str],
    config: HICLConfig,
    name: str,
    backbone: tuple[str, str],
) -> Place:
    """What a training found, as a place without pictures: class k is the anchor k. ``backbone``: name and hash of that of the tokens."""
    count, mean = len(anchors), mean_token(rooms)
    label, similarity = fitted.cosine.argmax(axis=1), fitted.cosine.max(axis=1)
    size, known = np.concatenate([room.size for room in rooms]), np.concatenate([room.known for room in rooms])
    target = target_of(np.concatenate([room.token for room in rooms]), mean)[known]
    sums = np.zeros((count, target.shape[1]))
    np.add.at(sums, label[known], target * size[known, None])
    tokens = unit_rows(sums)
    return Place(
        name,
        HICLMethod.name,
        backbone,
        config,
        config.unlike,
        fitted.network,
        anchors,
        Spread.of(1 - similarity.astype(np.float64), label, count),
        mean,
        tokens,
        Spread.of(1 - (target * tokens[label[known]]).sum(axis=1), label[known], count),
        tuple(names),
        np.arange(count),
        kappa=fit_kappa(fitted.cosine, fitted.vote, size),
    )


def _info(
    context: Context, material: Material, taught: Taught, rooms: Sequence[Room], fitted: Fitted, config: HICLConfig
) -> dict[str, Any]:
    """What the manifest says of the training."""
    size = np.concatenate([room.size for room in rooms])
    points = np.bincount(fitted.cosine.argmax(axis=1), size, fitted.cosine.shape[1])
    return {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "training": {
            "scenes": len(rooms),
            "points": int(size.sum()),
            "supervoxels": len(size),
            "images": len(material.images),
            "supervision_of_backbone": context.backbone.supervision,
            "supervision_of_teacher": taught.supervision,
        },
        TEACHER: {"name": taught.teacher[0], "hash": taught.teacher[1], "licence": taught.licence},
        SHARES: [round(float(value), 6) for value in points / points.sum()],
        GEOMETRY: {"voxel": config.voxel, "superpoints": asdict(context.scene.geometry.superpoints)},
    }
