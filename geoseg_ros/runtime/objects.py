"""Objects with boxes from labelled voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.boxes import oriented_box
from geoseg_ros.results import ObjectInstance

INSTANCE_GAP = 2.5  # voxels between two parts that are still one instance
LEAST_INSTANCE = 8  # voxels


def connected_instances(
    xyz: NDArray[np.float32], members: NDArray[np.int64], radius: float, least: int = LEAST_INSTANCE
) -> list[NDArray[np.int64]]:
    """Connected parts of chosen voxels.

    Args:
        xyz: float32 [M, 3], metres.
        members: int64 [n], the chosen voxels.
        radius: metres between neighbours.
        least: smaller parts are dropped, voxels.

    Returns:
        The voxels of each part, the largest part first.
    """
    if len(members) == 0:
        return []
    pairs = cKDTree(xyz[members]).query_pairs(radius, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(members),) * 2)
    _, part = connected_components(graph, directed=False)
    sizes = np.bincount(part)
    order = sorted(np.flatnonzero(sizes >= least), key=lambda i: (-sizes[i], i))
    return [members[part == i] for i in order]


def build_objects(
    scene: SceneGeometry,
    label: NDArray[np.integer],
    p_value: NDArray[np.floating],
    names: Sequence[str],
    given: Sequence[NDArray[np.int64]] | None = None,
) -> tuple[list[ObjectInstance], NDArray[np.uint32]]:
    """Objects of labelled voxels.

    Args:
        scene: M voxels.
        label: int [M], 1 + place in ``names``, 0 = none.
        p_value: float [M].
        given: voxels of each instance, each of one label; None: connected parts of each label.

    Returns:
        The objects, numbered from 1, and the number of each voxel's object, uint32 [M], 0 = none.
    """
    if given is None:
        given = [
            members
            for number in range(1, len(names) + 1)
            for members in connected_instances(scene.xyz, np.flatnonzero(label == number), INSTANCE_GAP * scene.voxel)
        ]
    objects: list[ObjectInstance] = []
    instance = np.zeros(len(label), np.uint32)
    for number, members in enumerate(given, 1):
        instance[members] = number
        centre, rotation, size = oriented_box(scene.xyz[members], scene.up)
        value, of = float(p_value[members].mean()), int(label[members[0]])
        objects.append(ObjectInstance(of, names[of - 1], number, 1 - value, value, centre, rotation, size, int(scene.count[members].sum())))
    return objects, instance
