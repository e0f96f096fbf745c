"""How much the features of an encoder of clouds say about classes: nearest neighbours among the points of other rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.learning.sensor_clouds import LearningRoom, SensorCloud
from geoseg_ros.nets.base import point_features
from geoseg_ros.nets.point_encoder import PointEncoder

Labelled = Sequence[tuple[LearningRoom, Sequence[int]]]
"""Rooms and the class of each of their super-voxels, -1 where it has none."""
Describe = Callable[[SensorCloud, bool], NDArray[np.floating]]
"""From a cloud and whether its colour may be used to a row for each point."""
NEIGHBOURS = 10
PER_CLOUD = 40  # points of each class and cloud
ROOMS = 24  # rooms that neighbours are taken from


def probe(trained: PointEncoder, untrained: PointEncoder, learn: Labelled, measure: Labelled) -> dict[str, dict[str, float]]:
    """Share of points whose class is that of most of their nearest neighbours, mean over classes, by kind of sensor and by descriptor."""
    ways: dict[str, Describe] = {
        "encoder": lambda cloud, colour: point_features(trained, cloud.xyz, cloud.rgb if colour else None).numpy(),
        "untrained": lambda cloud, colour: point_features(untrained, cloud.xyz, cloud.rgb if colour else None).numpy(),
        "colour, normal, height": simple_features,
    }
    found: dict[str, dict[str, float]] = {}
    kinds = sorted({(cloud.kind, cloud.rgb is not None) for room, _ in measure for cloud in room.clouds})
    for kind, coloured in kinds:
        for colour in (True, False) if coloured else (False,):
            row = found.setdefault(f"{kind}{'' if colour else ' without colour'}", {})
            for name, describe in ways.items():
                row[name] = round(_accuracy(describe, kind, colour, learn[:ROOMS], measure), 4)
    return found


def simple_features(cloud: SensorCloud, colour: bool) -> NDArray[np.floating]:
    """Colour, where it may be used, |z| of the normal, and height, each over about 0 .. 1; float64 [N, 2 or 5]."""
    normal, _ = normals(cloud.xyz, knn(cloud.xyz, 16)[1])
    height = (cloud.xyz[:, 2] - np.percentile(cloud.xyz[:, 2], 1)) / 2.5
    own = np.column_stack([np.abs(normal[:, 2]), height])
    return np.column_stack([own, cloud.rgb / 255]) if colour and cloud.rgb is not None else own


def _accuracy(describe: Describe, kind: str, colour: bool, learn: Labelled, measure: Labelled) -> float:
    known, label = _drawn(describe, kind, colour, learn)
    asked, truth = _drawn(describe, kind, colour, measure)
    near = label[cKDTree(known).query(asked, NEIGHBOURS)[1]]
    votes = np.stack([(near == c).sum(axis=1) for c in range(int(label.max()) + 1)], axis=1)
    right = votes.argmax(axis=1) == truth
    return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))


def _drawn(describe: Describe, kind: str, colour: bool, rooms: Labelled) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Rows and classes of points of the clouds of a kind, equally many of each class where there are enough."""
    rng, rows, labels = np.random.default_rng(0), [], []
    for room, classes in rooms:
        for cloud in (c for c in room.clouds if c.kind == kind):
            label = np.append(np.array(classes), -1)[cloud.supervoxel]
            point = np.concatenate([_some(np.flatnonzero(label == c), rng) for c in np.unique(label[label >= 0])])
            rows.append(describe(cloud, colour)[point])
            labels.append(label[point])
    return np.concatenate(rows), np.concatenate(labels)


def _some(rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= PER_CLOUD else rng.choice(rows, PER_CLOUD, replace=False)
