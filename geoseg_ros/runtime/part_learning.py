"""From marks in files to a part pack: reads what was marked, and finds the object that the mark is on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.meshes import sample_surface
from geoseg_ros.io.cloud_files import read_cloud
from geoseg_ros.io.folders import IMAGE_SUFFIXES, read_image
from geoseg_ros.io.mesh_files import read_mesh
from geoseg_ros.methods.base import Context, MarkedPixel, MarkedPoint, ObjectPoints, PartMaterial
from geoseg_ros.methods.registry import open_part_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime.parts import objects_of_mask, whole_object
from geoseg_ros.runtime.pipeline import Pipeline

MESH_SUFFIXES = (".obj", ".glb")  # a PLY file is read as the cloud of its vertices
SAMPLES = 20_000  # points of a mesh

Marks = Mapping[str, tuple[tuple[float, ...], Any]]
"""Name of a part -> its place, and what that is in: x, y, z (metres) in a cloud or mesh, or x, y (pixels) on a photograph; a path, a
:class:`Cloud` or an image."""


def read_object(item: Any) -> Cloud:
    """A cloud, from a file of a cloud or a mesh, or as it is.

    Raises:
        InputError: missing, damaged, or of another kind.
    """
    if isinstance(item, Cloud):
        return item
    path = Path(item)
    if path.suffix.lower() in MESH_SUFFIXES:
        return mesh_cloud(path)
    return read_cloud(path)


def mesh_cloud(path: str | os.PathLike[str]) -> Cloud:
    """The surface of a mesh file as points. Raises InputError where it cannot be read."""
    return Cloud(np.asarray(sample_surface(read_mesh(path), SAMPLES)[0], np.float32))


@dataclass
class PartLearner:
    """Collects marks.

    Attributes:
        context: backbone and settings of scenes.
        target: concept pack whose objects have the parts; None: every cloud or picture is one object.
        up: float64 [3], what is up in clouds without a concept pack; None: found.
    """

    context: Context
    target: Pack | None = None
    up: NDArray[np.float64] | None = None
    _pipeline: Pipeline | None = None
    _clouds: dict[Any, list[ObjectPoints]] = field(default_factory=dict)
    _images: dict[Any, tuple[NDArray[np.uint8], NDArray[np.bool_]]] = field(default_factory=dict)

    @property
    def pipeline(self) -> Pipeline | None:
        """Finds the objects of the concept pack; None without one."""
        if self.target is not None and self._pipeline is None:
            self._pipeline = Pipeline(self.context.backbone, [self.target])
        return self._pipeline

    def learn(self, name: str, marks: Marks, method: str = "parts") -> Pack:
        """Make the pack.

        Raises:
            InputError: a mark that cannot be used.
        """
        points, pixels = [], []
        for part, (place, item) in marks.items():
            if len(place) == 3:
                points.append(self._point(part, np.asarray(place, np.float64), item))
            elif len(place) == 2:
                pixels.append(self._pixel(part, (float(place[0]), float(place[1])), item))
            else:
                raise InputError(f"mark {part}: expected x,y of a photograph or x,y,z of a cloud, got {len(place)} numbers")
        return open_part_method(method).learn(PartMaterial(name, self.target, points, pixels), self.context)

    def objects(self, cloud: Cloud, source: str, known: bool = False) -> list[ObjectPoints]:
        """The objects in a cloud. Raises InputError where it is ``known`` to show one, but none is found."""
        if self.pipeline is None or self.target is None:
            obj = whole_object(cloud, self.up)
            if not len(obj.xyz):
                raise InputError(f"{source}: no valid point")
            return [obj]
        found = self.pipeline.objects(cloud, self.target.name, known)
        if known and not found:
            raise InputError(f"{source}: no {self.target.name} found in it")
        return found

    def _point(self, part: str, point: NDArray[np.float64], item: Any) -> MarkedPoint:
        source = os.fspath(item) if isinstance(item, (str, os.PathLike)) else "the cloud"
        if source.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(f"mark {part}: x,y,z is a place in a cloud, {source} is a picture: expected x,y")
        key = source if isinstance(item, (str, os.PathLike)) else id(item)
        if key not in self._clouds:
            self._clouds[key] = self.objects(read_object(item), source, known=True)
        nearest = min(self._clouds[key], key=lambda obj: float(cKDTree(obj.xyz).query(point)[0]) if np.isfinite(point).all() else 0.0)
        return MarkedPoint(part, point, nearest, source)

    def _pixel(self, part: str, pixel: tuple[float, float], item: Any) -> MarkedPixel:
        source = os.fspath(item) if isinstance(item, (str, os.PathLike)) else "the photograph"
        if source != "the photograph" and not source.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(f"mark {part}: x,y is a pixel of a photograph, {source} is none: expected x,y,z of a cloud")
        key = source if source != "the photograph" else id(item)
        if key not in self._images:
            image = read_image(item) if source != "the photograph" else item
            self._images[key] = image, self._mask(image, source)
        image, mask = self._images[key]
        inside = 0 <= pixel[0] < image.shape[1] and 0 <= pixel[1] < image.shape[0]
        holding = [m for m in objects_of_mask(mask, 1000) if inside and m[int(pixel[1]), int(pixel[0])]]
        if len(holding) == 1 and not mask.all() and holding[0].sum() < mask.sum():
            mask = holding[0]
            self._images[key] = image, mask
        return MarkedPixel(part, pixel, image, mask, source)

    def _mask(self, image: NDArray[np.uint8], source: str) -> NDArray[np.bool_]:
        if self.pipeline is None or self.target is None:
            return np.ones(image.shape[:2], bool)
        mask = self.pipeline.process_image(image, (self.target.name,)).mask > 0
        if not mask.any():
            raise InputError(f"{source}: no {self.target.name} found in it")
        return np.asarray(mask)
