"""Scene packs at work: a class for every voxel of a cloud and every pixel of an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.geometry.poses import cloud_up, upright
from geoseg_ros.learning.clustering import nearest_centroid
from geoseg_ros.learning.rooms import GREY, group_means, target_of
from geoseg_ros.nets.base import point_features
from geoseg_ros.packs.place import Place, Spread
from geoseg_ros.progress import Progress
from geoseg_ros.projection.scene import CloudScene, ImageScene
from geoseg_ros.results import Evidence


class Nearest(NamedTuple):
    """Of n voxels or pixels. Attributes: centroid: int64 [n]; similarity: float32 [n], cosine to it; doubt: float64 [n], 1 - the calibrated
    probability of its class, or None where the place has none."""

    centroid: NDArray[np.int64]
    similarity: NDArray[np.float32]
    doubt: NDArray[np.float64] | None = None


class PlaceSegmenter:
    """Places at work.

    Attributes:
        labels: classes of all of them, in the order of the packs.
        dense: True; every voxel and pixel gets a class, unless it is unlike anything seen.
        config: None; a place keeps the settings that it was trained with.
    """

    dense, config = True, None

    def __init__(self, places: Sequence[Place]) -> None:
        self.labels = tuple(name for place in places for name in place.classes)
        self._places = list(places)

    def cloud(self, scene: CloudScene, known: Collection[str] = ()) -> Evidence:
        """Classes of the voxels of one cloud, one for each super-voxel.

        ``label_p`` is the share of the super-voxels of the class in training that were nearer to its centroid; where the place has a
        ``kappa``, 1 - the calibrated probability of the class.
        """
        geometry, rgb = scene.geometry, scene.cloud.rgb
        count = len(geometry.xyz)
        found = []
        use = np.flatnonzero(geometry.inverse >= 0)
        xyz = (scene.cloud.xyz[use] @ upright(cloud_up(geometry.xyz, geometry.normal)).T).astype(np.float32)
        colour = np.full(xyz.shape, GREY, np.uint8) if rgb is None else rgb[use]
        superpoint = np.full(len(scene.cloud), -1)
        superpoint[use] = geometry.superpoint[geometry.inverse[use]]
        scene.clock.restart()
        for place in self._places:
            if not count:
                found.append(Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32)))
                continue
            feature = group_means(point_features(place.network, xyz, colour), superpoint[use], int(geometry.superpoint.max()) + 1)
            label, similarity = nearest_centroid(feature, place.centroids)
            doubt = None if not place.kappa else doubts(place, feature, label)[geometry.superpoint]
            found.append(Nearest(label[geometry.superpoint], similarity[geometry.superpoint], doubt))
        scene.clock.stop("classes")
        return self._evidence(found, [place.spread for place in self._places], (count,))

    def image(self, scene: ImageScene, known: Collection[str] = ()) -> Evidence:
        """Classes of the pixels of one image, by the mean token of each class; ``label_p`` as of :meth:`cloud`, of tokens."""
        height, width = scene.image.shape[:2]
        tokens = scene.tokens
        grid, flat = tokens.shape[:2], tokens.flatten(0, 1).numpy()
        found = []
        for place in self._places:
            cosine = (target_of(flat, place.mean) @ place.tokens.T).reshape(*grid, -1)
            label, best = np.zeros((height, width), np.int64), np.full((height, width), -2.0, np.float32)
            for k in range(len(place.tokens)):  # one map at a time: there may be many
                found_here = cv2.resize(np.ascontiguousarray(cosine[..., k]), (width, height), interpolation=cv2.INTER_LINEAR)
                label[found_here > best] = k
                best = np.maximum(best, found_here)
            found.append(Nearest(label.ravel(), best.ravel()))
        return self._evidence(found, [place.token_spread for place in self._places], (height, width))

    def _evidence(self, found: Sequence[Nearest], spreads: Sequence[Spread], shape: tuple[int, ...]) -> Evidence:
        """From what is nearest to every voxel or pixel by each place."""
        total = int(np.prod(shape))
        label, nearer, score = np.zeros(total, np.int64), np.ones(total), np.zeros(total, np.float32)
        doubt = np.ones(total)
        before = 0
        for place, spread, nearest in zip(self._places, spreads, found, strict=True):
            centroid, similarity = nearest.centroid, nearest.similarity
            share = spread.nearer(1 - similarity.astype(np.float64), centroid)
            wins = (share <= 1 - place.unlike) & ((label == 0) | (share < nearer))
            label[wins] = before + 1 + place.class_of[centroid[wins]]
            nearer[wins], score[wins] = share[wins], similarity[wins]
            doubt[wins] = (share if nearest.doubt is None else nearest.doubt)[wins]
            before += len(place.classes)
        count = np.bincount(label, minlength=before + 1)[1:]

        def mean(values: NDArray[np.floating], empty: float) -> NDArray[np.float64]:
            return np.where(count > 0, np.bincount(label, values, before + 1)[1:] / np.maximum(count, 1), empty)

        return Evidence(mean(score, -1.0), mean(doubt, 1.0), count > 0, label.reshape(shape), doubt.reshape(shape))


def doubts(place: Place, feature: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 - the calibrated probability, float64 [n], of the class of centroid ``label`` [n] for unit features [n, d]."""
    logits = place.kappa * (feature @ place.centroids.T).astype(np.float64)
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    same = place.class_of[label][:, None] == place.class_of
    return 1 - (chance * same).sum(axis=1) / chance.sum(axis=1)


def token_classes(place: Place, tokens: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Nearest centroid by its mean token, int64 [h, w], of tokens [h, w, D], and the cosine to it, float32 [h, w]."""
    cosine = target_of(tokens.flatten(0, 1).numpy(), place.mean) @ place.tokens.T
    label = cosine.argmax(axis=1)
    return label.reshape(tokens.shape[:2]), cosine[np.arange(len(label)), label].reshape(tokens.shape[:2])


def calibrated(
    place: Place, images: Collection[NDArray[np.uint8]], tokens: Callable[[NDArray[np.uint8]], torch.Tensor], progress: Progress
) -> tuple[Place, list[tuple[NDArray[np.uint8], NDArray[np.int64]]]]:
    """The place with the spread of the tokens [h, w, D] of some images, and each image with the classes int64 [h, w] of its tokens."""
    shown, distances, labels = [], [], []
    for number, image in enumerate(images):
        label, similarity = token_classes(place, tokens(image))
        shown.append((image, label))
        distances.append(1 - similarity.ravel().astype(np.float64))
        labels.append(label.ravel())
        progress("images", number + 1, len(images))
    if not distances:
        return place, shown
    return replace(place, token_spread=Spread.of(np.concatenate(distances), np.concatenate(labels), len(place.tokens))), shown
