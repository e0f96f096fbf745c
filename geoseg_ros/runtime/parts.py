"""Marked parts of the objects that a pipeline has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.neighbours import knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.poses import cloud_up
from geoseg_ros.geometry.voxels import choose_voxel, voxel_downsample
from geoseg_ros.methods.base import CloudScene, ImageScene, LocatedParts, ObjectPoints, PartFinder
from geoseg_ros.methods.registry import PART_METHODS, PartsConfig, open_part_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.results import ObjectInstance, PartPoint

_UP_POINTS = 3000  # that the direction up of a cloud without planes is taken from
_LEAST_SHARE = 0.1  # of the largest: smaller parts of a mask are no object


def is_part_pack(pack: Pack) -> bool:
    """Whether a pack holds parts, not labels."""
    return pack.method in PART_METHODS


def open_parts(part_packs: Sequence[Pack], concepts: Sequence[Pack], config: PartsConfig) -> list[PartFinder]:
    """Open part packs beside the concept packs whose objects they are for.

    Raises:
        InputError: damaged; or the concept pack is not there, or is another one than it was made with.
    """
    finders = []
    for pack in part_packs:
        finder = open_part_method(pack.method).open(pack, config)
        _check_target(pack, finder.target, concepts)
        finders.append(finder)
    return finders


def check_part_packs(part_packs: Sequence[Pack], concepts: Sequence[Pack]) -> None:
    """As :func:`open_parts`, but nothing stays open."""
    open_parts(part_packs, concepts, PartsConfig())


def _check_target(pack: Pack, target: tuple[str, str] | None, concepts: Sequence[Pack]) -> None:
    where = pack.path or f"pack '{pack.name}'"
    if target is None:
        raise InputError(f"{where}: made with --whole, so it finds parts where a cloud is one object: use it with geoseg where")
    known = {concept.name: concept for concept in concepts}
    if target[0] not in known:
        raise InputError(f"{where}: finds parts of '{target[0]}', expected the concept pack '{target[0]}' ({target[1]}) beside it")
    if known[target[0]].version != target[1]:
        raise InputError(
            f"{where}: made with version {target[1]} of the pack '{target[0]}', not with {known[target[0]].version}; make it again"
        )


class ObjectParts:
    """What all part packs find in one cloud. Attributes: parts: of all objects."""

    def __init__(self, located: Sequence[tuple[str, LocatedParts]]) -> None:
        self._located = located
        self.parts: list[PartPoint] = [part for _, entry in located for part in entry.parts]

    def where(self, target: str, part: str, point: NDArray[np.floating]) -> list[PartPoint]:
        """Where a marked part, or a point [3] of the template, is on the objects.

        Args:
            target: name of the concept; empty: the only one that has a part pack.

        Raises:
            InputError: no such target or part, or a point outside the template.
        """
        names = sorted({name for name, _ in self._located})
        if not names:
            raise InputError("no part pack is loaded")
        if not target and len(names) > 1:
            raise InputError(f"object: expected one of {', '.join(names)}")
        wanted = target or names[0]
        if wanted not in names:
            raise InputError(f"object {wanted!r}: has no part pack, expected one of {', '.join(names)}")
        own = [entry for name, entry in self._located if name == wanted]
        holding = [entry for entry in own if not part or part in {found.name for found in entry.parts} or len(own) == 1]
        return (holding or own)[0].where(part, point)


def cloud_parts(
    finders: Sequence[PartFinder], scene: CloudScene, instance: NDArray[np.integer], objects: Sequence[ObjectInstance], most: int
) -> ObjectParts:
    """Find the parts of the objects of a cloud.

    Args:
        finders: opened part packs.
        scene: the cloud.
        instance: int [N], the object of each point, 0 = none.
        objects: of the cloud.
        most: objects that each pack looks at, the largest first.
    """
    located = []
    for finder in finders:
        assert finder.target is not None
        own = sorted((entry for entry in objects if entry.name == finder.target[0]), key=lambda entry: (-entry.count, entry.instance))
        own = own[:most]
        shown = [object_points(scene, instance, entry) for entry in sorted(own, key=lambda entry: entry.instance)]
        located.append((finder.target[0], finder.cloud(shown, scene)))
    return ObjectParts(located)


def object_points(scene: CloudScene, instance: NDArray[np.integer], entry: ObjectInstance) -> ObjectPoints:
    """The points of an object; ``instance`` int [N], the object of each point of the cloud."""
    rows = np.flatnonzero((instance == entry.instance) & scene.cloud.valid())
    return ObjectPoints(scene.cloud.xyz[rows], scene.geometry.up, entry.name, entry.label, entry.instance, rows)


def image_parts(
    finders: Sequence[PartFinder], scene: ImageScene, mask: NDArray[np.integer], names: Sequence[str], most: int
) -> list[PartPoint]:
    """Find the parts of the objects in a picture; ``mask`` [H, W] holds label ids, ``names`` their names from 1 on."""
    parts = []
    for finder in finders:
        assert finder.target is not None
        label = names.index(finder.target[0]) + 1
        found = finder.image(scene, objects_of_mask(mask == label, most))
        parts += [replace(part, label=label) for part in found]
    return parts


def objects_of_mask(mask: NDArray[np.bool_], most: int) -> list[NDArray[np.bool_]]:
    """The connected parts of a mask, the largest first; small ones are left out."""
    count, label, about, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = about[1:, cv2.CC_STAT_AREA]
    order = [k for k in np.argsort(-sizes, kind="stable") if sizes[k] >= _LEAST_SHARE * sizes.max()][:most] if count > 1 else []
    return [label == k + 1 for k in order]


def whole_object(cloud: Cloud, up: NDArray[np.float64] | None = None) -> ObjectPoints:
    """A cloud that shows one object and nothing else.

    Args:
        up: float64 [3]; None: +z, or, where a camera that looks along +z has seen the cloud, the direction near -y that most level surfaces
            face.
    """
    rows = np.flatnonzero(cloud.valid() & (np.abs(cloud.xyz) > 0).any(axis=1))
    xyz = cloud.xyz[rows]
    return ObjectPoints(xyz, _up(xyz) if up is None else up, rows=rows)


def _up(xyz: NDArray[np.float32]) -> NDArray[np.float64]:
    in_view = len(xyz) >= 30 and (np.abs(xyz[:, :2]).max(axis=1) < 2 * xyz[:, 2]).mean() > 0.99 and np.median(xyz[:, 2]) > 0.2
    if not in_view:
        return np.array([0.0, 0.0, 1.0])
    few = voxel_downsample(xyz, None, choose_voxel(xyz, _UP_POINTS)).xyz
    return cloud_up(few, normals(few, knn(few, min(16, len(few)))[1])[0])


def moved_parts(parts: Sequence[PartPoint], matrix: NDArray[np.float64]) -> list[PartPoint]:
    """The parts in another frame; ``matrix`` float64 [4, 4] takes points of their frame to it."""
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    return [
        replace(
            part,
            point=None if part.point is None else turn @ part.point + shift,
            normal=None if part.normal is None else turn @ part.normal,
        )
        for part in parts
    ]


def unit_vector(given: Sequence[float], what: str = "up") -> NDArray[np.float64]:
    """A direction of unit length, float64 [3]. Raises InputError unless it is three finite numbers that are not all zero."""
    vector = np.asarray(given, np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
        raise InputError(f"{what}: expected three numbers, not all zero, got {', '.join(map(str, given))}")
    return np.asarray(vector / np.linalg.norm(vector))
