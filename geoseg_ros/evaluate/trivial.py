"""Baselines that neither learn nor use a backbone."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.evaluate.items import CosegSet, Mask, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.metrics import iou
from geoseg_ros.geometry.analysis import SceneGeometry, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud

Result = TypeVar("Result")


class PerCloud(Generic[Result]):
    """``make`` of a cloud, remembered as long as the cloud object lives."""

    def __init__(self, make: Callable[[Cloud], Result]) -> None:
        self._make = make
        self._known: dict[int, Result] = {}

    def __call__(self, cloud: Cloud) -> Result:
        key = id(cloud)
        if key not in self._known:
            self._known[key] = self._make(cloud)
            weakref.finalize(cloud, self._known.pop, key)
        return self._known[key]


CENTRE_SHARE = 0.25
"""Area of the ellipse of the centre prior, relative to the picture."""

geometry = PerCloud(analyse_cloud)
"""Geometry with its defaults."""


def point_mask(scene: SceneGeometry, voxels: NDArray[np.integer] | NDArray[np.bool_]) -> Mask:
    """bool [N] of the points whose voxel is one of ``voxels`` (indices or bool [M])."""
    chosen = np.zeros(len(scene.xyz), bool)
    chosen[voxels] = True
    return scene.point_values(chosen)


def everything(items: CosegSet, seed: int) -> Predictions:
    """Every pixel, every valid point."""
    return Predictions(
        [Prediction(np.ones(item.truth.shape, bool)) for item in items.images],
        [Prediction(item.data.valid()) for item in items.clouds],
    )


def centre(items: CosegSet, seed: int) -> Predictions:
    """Images only: a centred ellipse of the picture's aspect, ``CENTRE_SHARE`` of its area (photographs show objects in the middle)."""
    predictions = []
    for item in items.images:
        y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in item.truth.shape)
        # the whole picture has area 4 in these units
        predictions.append(Prediction(x**2 + y[:, None] ** 2 <= 4 * CENTRE_SHARE / np.pi))
    return Predictions(images=predictions)


def minus_planes(items: CosegSet, seed: int) -> Predictions:
    """Clouds only: every point that lies on no large plane."""
    scenes = [geometry(item.data) for item in items.clouds]
    return Predictions(clouds=[Prediction(point_mask(scene, scene.plane < 0)) for scene in scenes])


def all_proposals(items: CosegSet, seed: int) -> Predictions:
    """Clouds only: every proposal, that is every cluster of the points on no large plane."""
    scenes = [geometry(item.data) for item in items.clouds]
    return Predictions(clouds=[Prediction(point_mask(s, np.concatenate([_NONE, *s.proposals]))) for s in scenes])


def largest_proposal(items: CosegSet, seed: int) -> Predictions:
    """Clouds only: the proposal with the most voxels; nothing where there is none."""
    scenes = [geometry(item.data) for item in items.clouds]
    return Predictions(clouds=[Prediction(point_mask(s, s.proposals[0] if s.proposals else _NONE)) for s in scenes])


def random_proposal(items: CosegSet, seed: int) -> Predictions:
    """Clouds only: one proposal at random; nothing where there is none."""
    rng = np.random.default_rng(seed)
    predictions = []
    for item in items.clouds:
        scene = geometry(item.data)
        predictions.append(Prediction(point_mask(scene, scene.proposals[rng.integers(len(scene.proposals))] if scene.proposals else _NONE)))
    return Predictions(clouds=predictions)


def oracle_proposals(items: CosegSet, seed: int) -> Predictions:
    """Clouds only, an oracle: the union of proposals with the largest IoU, found greedily; nothing where the target is absent."""
    predictions = []
    for item in items.clouds:
        scene = geometry(item.data)
        masks = [point_mask(scene, proposal) for proposal in scene.proposals] if item.shown else []
        found, best = np.zeros(item.truth.shape, bool), 0.0
        while masks:
            overlaps = [iou(found | mask, item.truth) for mask in masks]
            k = int(np.argmax(overlaps))
            if overlaps[k] <= best:
                break
            best, found = overlaps[k], found | masks.pop(k)
        predictions.append(Prediction(found, float(found.any()), float(found.any())))
    return Predictions(clouds=predictions)


_NONE: NDArray[np.int64] = np.zeros(0, np.int64)


TRIVIAL = (
    NamedMethod("all foreground", everything, learns=False),
    NamedMethod("centre prior", centre, learns=False),
    NamedMethod("minus planes", minus_planes, learns=False),
    NamedMethod("all proposals", all_proposals, learns=False),
    NamedMethod("largest proposal", largest_proposal, learns=False),
    NamedMethod("random proposal", random_proposal, learns=False, random=True),
    NamedMethod("best proposals", oracle_proposals, learns=False, oracle=True),
)
"""Baselines that learn nothing and see with nothing."""
