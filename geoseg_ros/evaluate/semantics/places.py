"""PointDC, step by step, as rows of the table: through its packs and the pipeline, as users get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.evaluate.semantics.baselines import Clustering, LiftedRoom, SemanticMethod
from geoseg_ros.geometry.cloud import Cloud
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


def _learn(backbone: ImageBackbone, settings: Mapping[str, Any], rooms: Sequence[LiftedRoom], clusters: int, seed: int) -> Clustering:
    method = open_method("pointdc")
    voxel = rooms[0].scene.voxel
    config = with_values(method.presets["small"], {"classes": clusters, "seed": seed, "voxel": voxel, **settings})
    pack = method.learn(Material("rooms", scenes=[room.scene for room in rooms]), Context(backbone, settings=config))
    pipeline = Pipeline(backbone, [pack], PipelineConfig(geometry=pack_geometry(pack)))

    def cluster(room: LiftedRoom) -> NDArray[np.int64]:
        return pipeline.process_cloud(Cloud(room.scene.xyz, room.scene.rgb)).label.astype(np.int64) - 1

    return cluster
