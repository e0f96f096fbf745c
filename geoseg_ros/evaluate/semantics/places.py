"""PointDC, step by step, and HICL as rows of the tables: through their packs and the pipeline, as users get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.baselines import Clustering, LiftedRoom, SemanticMethod
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.learning.noisy_labels import voted_labels
from geoseg_ros.learning.taught import Taught, taught
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.registry import open_method
from geoseg_ros.packs.scene_pack import pack_geometry
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.settings import with_values

STEPS: Mapping[str, Mapping[str, Any]] = {
    "PointDC, distilled": {"cluster.warm_up": 0, "cluster.epochs": 0},
    "PointDC, distilled and warmed up": {"cluster.epochs": 0},
    "PointDC": {},
}
"""Name of each row, and the settings of the preset ``small`` that differ."""


def place_methods(backbone: ImageBackbone) -> list[SemanticMethod]:
    """The rows; each of them is trained anew. They see no labels, and the measured rooms without their frames."""
    return [SemanticMethod(name, partial(_learn, backbone, settings), named=True) for name, settings in STEPS.items()]


WORDS: Mapping[str, tuple[str, ...]] = {"fitting": ("door", "window"), "clutter": ("bin", "box", "monitor", "bag")}
"""Words for classes of simulated rooms; any other class is its own word."""


def known_words(teacher: VisionLanguageTeacher, classes: Sequence[str]) -> dict[str, int]:
    """Words for classes that the teacher knows, and the class that each means.

    Raises:
        InputError: it has no text, or knows no word.
    """
    found: dict[str, int] = {}
    for k, name in enumerate(classes):
        for word in WORDS.get(name, (name,)):
            try:
                teacher.encode_text([word])
            except InputError:
                continue
            found[word] = k
    if not found:
        raise InputError(f"--teacher {teacher.name}: knows no word for {', '.join(classes)}")
    return found


def named_methods(backbone: ImageBackbone, teacher: VisionLanguageTeacher, words: Mapping[str, int]) -> list[SemanticMethod]:
    """The rows of the table of named classes: the teacher's labels lifted without training, HICL, and PointDC, whose classes have no names.

    Args:
        words: that the teacher knows, and the class that each means.
    """
    names, class_of = tuple(words), np.array([*words.values(), -1])

    def lift(rooms: Sequence[LiftedRoom], classes: int, seed: int, how: str = "voxels") -> Clustering:
        anchors = taught(teacher, names, []).anchors

        def vote(room: LiftedRoom) -> NDArray[np.int64]:
            group = np.arange(len(room.scene)) if how == "voxels" else room.scene.superpoint
            return class_of[voted_labels(room.views, group, anchors, teacher.scale)]

        return vote

    def learn(rooms: Sequence[LiftedRoom], classes: int, seed: int) -> Clustering:
        said = taught(teacher, names, [room.views for room in rooms])
        found = _learn(backbone, {}, rooms, 0, seed, "hicl", said)
        return lambda room: class_of[found(room)]

    return [
        SemanticMethod("teacher lifted to voxels, frames of the measured rooms", lift, classes=True, random=False),
        SemanticMethod(
            "teacher lifted to super-voxels, frames of the measured rooms", partial(lift, how="super-voxels"), classes=True, random=False
        ),
        SemanticMethod("HICL, no frames", learn, classes=True),
        SemanticMethod("PointDC, no frames, clusters matched", partial(_learn, backbone, {})),
    ]


def _learn(
    backbone: ImageBackbone,
    settings: Mapping[str, Any],
    rooms: Sequence[LiftedRoom],
    clusters: int,
    seed: int,
    name: str = "pointdc",
    said: Taught | None = None,
) -> Clustering:
    method = open_method(name)
    voxel = rooms[0].scene.voxel
    config = with_values(method.presets["small"], {"classes": clusters, "seed": seed, "voxel": voxel, **settings})
    pack = method.learn(Material("rooms", scenes=[room.scene for room in rooms], taught=said), Context(backbone, settings=config))
    pipeline = Pipeline(backbone, [pack], PipelineConfig(geometry=pack_geometry(pack)))

    def cluster(room: LiftedRoom) -> NDArray[np.int64]:
        return pipeline.process_cloud(Cloud(room.scene.xyz, room.scene.rgb)).label.astype(np.int64) - 1

    return cluster
