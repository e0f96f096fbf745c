"""Where the marks of a template are on another object of its kind, and which of them the checks let pass.

1. The object is placed over the template (:mod:`~geoseg_ros.methods.parts.align`).
2. Every mark's nearest point there, by place and slope, is its candidate; the way back must end at the mark (relaxed cycle).
3. The bicyclic geodesic error compares the candidate with the one that descriptors give that know nothing of the placement.
4. A second turn of the object that fits about as well and puts the mark elsewhere makes its place ambiguous; where the template looks like
   itself after that turn, the object is symmetric, and each of the places is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.geodesics import Geodesics
from geoseg_ros.geometry.signatures import signatures
from geoseg_ros.methods.parts.align import Alignment, align
from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.parts.descriptors import fuse, place_descriptors
from geoseg_ros.methods.parts.matching import MatchConfig, match
from geoseg_ros.methods.parts.shape import Shape

VERSION = "place 3 surface 2 slope 1"  # of the descriptors of a template
_NEAR = 0.08  # of a diagonal: a candidate farther from its mark, once placed, is not on the measured surface
_TURNS, _MOST, _SAME = 72, 0.95, 0.06  # of a circle; share of the points that must be so near, in diagonals, to call two turns alike
_AROUND = 0.25  # of a diagonal: an origin this near to the object is no sensor, so that nothing is hidden
_BESIDE = 0.04  # of a diagonal: points this near to a ray, and so much nearer to the sensor, hide what is behind
_APART = 0.1  # of a diagonal: two places are different
_REACHES = (0.2, 0.12, 0.08)  # of a diagonal: neighbourhoods that are deformed alike
_ALIKE = 0.04  # share of the points whose descriptors count as equally near: left and right look alike to them
_SPHERE = 3.0  # where rows are lifted to unit length, so that their cosine orders them by distance
_SLOPE = 0.12  # of a normal beside places, in diagonals


@dataclass(frozen=True)
class Found:
    """One mark on an object.

    Attributes:
        point: float64 [3], metres, frame of the input; None where no point is given.
        normal: float64 [3], unit, away from the object; None where there is no point.
        confidence: 0 .. 1; 0 without a point.
        seen: the point lies on the measured surface.
        symmetric: the object looks the same from several sides; this is one of several places.
        reason: why no point is given, or empty.
    """

    point: NDArray[np.float64] | None
    normal: NDArray[np.float64] | None
    confidence: float
    seen: bool
    symmetric: bool = False
    reason: str = ""


def describe_shape(shape: Shape) -> NDArray[np.float32]:
    """Descriptors of the points of a shape that do not depend on its turn: height and distance from the axis, curvature at many scales
    (heat- and wave-kernel signatures), and slope. Unit rows float32 [n, D]."""
    slope = np.stack([np.abs(shape.normal[:, 2]), np.hypot(shape.normal[:, 0], shape.normal[:, 1])], axis=1)
    return fuse([place_descriptors(shape.xyz, "gravity"), signatures(Cloud(shape.xyz)), slope], [3, 2, 1])


class Template:
    """The object that was marked.

    Attributes:
        shape: its points.
        descriptor: float32 [n, D], of :func:`describe_shape`.
    """

    def __init__(self, shape: Shape, descriptor: NDArray[np.float32]) -> None:
        self.shape, self.descriptor = shape, descriptor
        self.tree = cKDTree(shape.xyz)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """Features of place of its points."""
        return self.place(self.shape.xyz, self.shape.normal)

    @cached_property
    def places(self) -> cKDTree:
        """Its points by their features of place."""
        return cKDTree(self.rows)

    @cached_property
    def geodesics(self) -> Geodesics:
        """Distances on its surface."""
        return Geodesics(self.shape.xyz)

    @cached_property
    def _symmetric(self) -> NDArray[np.bool_]:
        """bool [72]: whether it looks about the same after so many turns of 5 degrees about the vertical axis."""
        xyz, alike = self.shape.xyz[:: -(-len(self.shape.xyz) // 400)], np.ones(_TURNS, bool)
        for k in range(1, _TURNS):
            c, s = np.cos(2 * np.pi * k / _TURNS), np.sin(2 * np.pi * k / _TURNS)
            distance = self.tree.query(xyz @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]))[0]
            alike[k] = np.quantile(distance, _MOST) < _SAME * self.shape.diagonal
        return alike

    def symmetric(self, turn: float) -> bool:
        """Whether it looks about the same after a turn about the vertical axis, radians, or one that is at most 10 degrees off."""
        nearest = round(turn / (2 * np.pi) * _TURNS)
        near = [(nearest + k) % _TURNS for k in (-2, -1, 0, 1, 2)]
        return any(bool(self._symmetric[k]) for k in near if 2 < k < _TURNS - 2)

    def place(self, xyz: NDArray[np.floating], normal: NDArray[np.floating]) -> NDArray[np.float32]:
        """Unit rows whose cosine falls with the distance in place and slope."""
        x, y, z = normal.T
        root = np.sqrt(2)
        outer = np.stack([x * x, y * y, z * z, root * x * y, root * x * z, root * y * z], axis=1)
        middle = (self.shape.xyz.min(axis=0) + self.shape.xyz.max(axis=0)) / 2
        rows = np.concatenate([(xyz - middle) / self.shape.diagonal, _SLOPE / root * outer, np.full((len(xyz), 1), _SPHERE)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Placed:
    """An object placed over the template. It gives the place of any mark, any number of times.

    Args:
        template: of its kind.
        object: its shape.
        points: [m, 3], all of its valid points, frame of the input; found points are moved to the nearest of them.
    """

    def __init__(self, template: Template, obj: Shape, points: NDArray[np.floating]) -> None:
        self.template, self.object = template, obj
        self._points = cKDTree(points)
        self.alignments = align(template.shape, obj)

    @property
    def best(self) -> Alignment:
        """The alignment that fits best."""
        return self.alignments[0]

    @cached_property
    def _rows(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Its points where they lie on the template after a smooth deformation, in the frame of the template, and their features of place.

        Every point is drawn to the nearest one of the template, and all of a neighbourhood alike; the neighbourhoods shrink.
        """
        xyz = self.best.apply(self.object.xyz)
        normal = self.object.normal @ np.linalg.inv(self.best.matrix[:3, :3])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        squared = np.square(xyz[:, None] - xyz[None]).sum(axis=2)
        for reach in _REACHES:
            goal = self.template.shape.xyz[self.template.places.query(self.template.place(xyz, normal))[1]]
            weight = np.exp(-squared / (2 * (reach * self.template.shape.diagonal) ** 2))
            xyz = xyz + weight @ (goal - xyz) / weight.sum(axis=1, keepdims=True)
        return xyz, self.template.place(xyz, normal)

    @cached_property
    def _checks(self) -> tuple[NDArray[np.float32], Geodesics]:
        return describe_shape(self.object), Geodesics(self.object.xyz)

    def find(self, marks: NDArray[np.floating], config: PartsConfig) -> list[Found]:
        """Where marks [k, 3] of the template are on the object."""
        template = self.template
        if self.best.cost > config.fit:
            return [self._refused(f"does not fit the template ({self.best.cost:.3f} of a diagonal)") for _ in marks]
        vertex = template.tree.query(marks)[1]
        placed, features = self._rows
        cycle = config.cycle + self._spacing
        matches = match(template.rows, features, rows=vertex, query_xyz=template.shape.xyz, config=MatchConfig(cycle=cycle))
        geodesic = [self._geodesic(int(v), int(row)) for v, row in zip(vertex, matches.target, strict=True)]
        found = []
        for k, mark in enumerate(np.asarray(marks, np.float64)):
            at, row = int(vertex[k]), int(matches.target[k])
            moved = self.object.xyz[row] + (mark - template.shape.xyz[at]) @ np.linalg.inv(self.best.matrix[:3, :3]).T
            away = float(np.linalg.norm(placed[row] - template.shape.xyz[at])) / template.shape.diagonal
            several, symmetric = self._elsewhere(mark, config)
            if several and not symmetric:
                found.append(self._refused("ambiguous: another pose fits as well and puts it elsewhere"))
            elif away > _NEAR:
                found.append(self._unmeasured(mark, template.shape.normal[at], symmetric, config))
            elif not matches.cycle[k] <= cycle:
                found.append(self._refused(f"cycle check: the way back ends {matches.cycle[k]:.2f} of a diagonal off"))
            elif not geodesic[k] <= config.geodesic:
                found.append(self._refused(f"geodesic check: {geodesic[k]:.2f} of a diagonal between two ways to find it"))
            else:
                trust = (1 - self.best.cost / (2 * config.fit)) * (1 - geodesic[k] / (2 * config.geodesic + 1e-9))
                found.append(self._given(moved, self.object.normal[row], trust, symmetric))
        return found

    @cached_property
    def _spacing(self) -> float:
        """Distance of neighbouring points of the object, as a share of its diagonal: no way back ends nearer than that."""
        xyz = self.object.xyz
        return float(np.median(cKDTree(xyz).query(xyz, k=2)[0][:, 1])) / self.object.diagonal

    def _geodesic(self, vertex: int, row: int) -> float:
        """Bicyclic geodesic error of a candidate, as a share of the diagonals: from each end the way over the surface to the nearest of
        the points whose descriptors are most like those of the other end."""
        template, (check, geodesics) = self.template, self._checks
        ends = ((geodesics, row, check @ template.descriptor[vertex]), (template.geodesics, vertex, template.descriptor @ check[row]))
        error = 0.0
        for surface, at, cosine in ends:
            alike = np.argsort(-cosine, kind="stable")[: max(3, round(_ALIKE * len(cosine)))]
            error += float(surface.between(np.full(len(alike), at), alike).min()) / max(surface.diagonal, 1e-12) / 2
        return error

    def _elsewhere(self, mark: NDArray[np.float64], config: PartsConfig) -> tuple[bool, bool]:
        """Whether another turn that fits about as well puts a mark elsewhere, and whether the template's symmetry explains all of these."""
        here = self.best.back(mark[None])[0]
        limit = config.rival * self.best.cost + 1e-4
        turns = [
            a.turn - self.best.turn
            for a in self.alignments[1:]
            if a.cost <= limit and np.linalg.norm(a.back(mark[None])[0] - here) > _APART * self.object.diagonal
        ]
        return bool(turns), bool(turns) and all(self.template.symmetric(turn) for turn in turns)

    def _given(self, place: NDArray[np.float64], normal: NDArray[np.floating], trust: float, symmetric: bool) -> Found:
        point = self._input(place)
        turned = self.object.pose[:3, :3] @ np.asarray(normal, np.float64)
        nearest, row = self._points.query(point)
        if nearest < 0.05 * self.object.diagonal:
            point = self._points.data[row]
        return Found(np.asarray(point), turned, float(np.clip(trust, 0, 1)) * (0.5 if symmetric else 1.0), True, symmetric)

    def _unmeasured(self, mark: NDArray[np.float64], normal: NDArray[np.floating], symmetric: bool, config: PartsConfig) -> Found:
        """A mark that no measured surface is near to: inferred where the object itself hides it from the sensor, else refused."""
        place = self._input(self.best.back(mark[None])[0])
        if not config.hidden or not self._occluded(place):
            return self._refused("not seen: no measured surface there")
        turned = self.object.pose[:3, :3] @ (self.best.matrix[:3, :3].T @ np.asarray(normal, np.float64))
        turned *= np.sign(turned @ place) or 1.0  # away from the sensor, which does not see it
        turned /= max(float(np.linalg.norm(turned)), 1e-12)
        trust = 0.5 * (1 - self.best.cost / (2 * config.fit)) * (0.5 if symmetric else 1.0)
        return Found(place, turned, float(np.clip(trust, 0, 1)), False, symmetric)

    def _occluded(self, place: NDArray[np.float64]) -> bool:
        """Whether measured points lie between the sensor, which is the origin of the input, and a place."""
        corner = self.object.pose[:3, :3].T @ -self.object.pose[:3, 3]  # the sensor in the frame of the object
        margin = _AROUND * self.object.diagonal
        low, high = self.object.xyz.min(axis=0) - margin, self.object.xyz.max(axis=0) + margin
        far = float(np.linalg.norm(place))
        if ((corner > low) & (corner < high)).all() or far < 1e-6:
            return False
        points = np.asarray(self._points.data)
        along = points @ (place / far)
        aside = np.linalg.norm(points - along[:, None] * place / far, axis=1)
        size = self.object.diagonal
        return bool(((aside < _BESIDE * size) & (along < far - _BESIDE * size)).sum() >= 3)

    def _input(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.object.pose[:3, :3] @ place + self.object.pose[:3, 3])

    @staticmethod
    def _refused(reason: str) -> Found:
        return Found(None, None, 0.0, False, reason=reason)
