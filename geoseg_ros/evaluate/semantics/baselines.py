"""Clusterings that learn nothing but cluster centres, and bounds that use the truth.

Every method sees the lifted rooms to learn from, then gives a cluster to each voxel of each measured room. Voxels without a token take the
mean of their super-voxel, and where the whole super-voxel has none, the mean of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.evaluate.semantics.matching import superpoint_majority
from geoseg_ros.learning.clustering import kmeans
from geoseg_ros.learning.taught import TaughtView
from geoseg_ros.projection.lifted_scene import LiftedScene, superpoint_means

Floats = NDArray[np.float32]
ITERATIONS, RESTARTS = 40, 3  # of k-means
_SAMPLE = 60_000  # vectors that centres are found from
_BINS = 10  # of the histogram of normals
_PAIRS = 400  # of normals in a super-voxel
COLOUR_WEIGHT, NORMAL_WEIGHT = 3.0, 3.0  # of GrowSP's descriptor of a super-voxel, beside the unit token
_STEPS = 200  # of the linear probe


@dataclass(frozen=True, eq=False)
class LiftedRoom:
    """Attributes: scene: M voxels; label: int64 [N], class of each point of ``scene.inverse``; voxel_label: int64 [M], the most frequent
    class of each voxel, -1 where none is known; only bounds may look at them; views: what a teacher says of the frames."""

    scene: LiftedScene
    label: NDArray[np.int64]
    voxel_label: NDArray[np.int64]
    views: Sequence[TaughtView] = ()


class Clustering(Protocol):
    """What :attr:`SemanticMethod.learn` gives: clusters int64 [M] of a room's voxels, -1 for none."""

    def __call__(self, room: LiftedRoom) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class SemanticMethod:
    """A method of the table.

    Attributes:
        name: as in the table.
        learn: from the rooms to learn from, the number of clusters and a seed, makes what clusters rooms.
        classes: predicts classes, which need no matching.
        truth: uses labels: a bound or a probe, no competitor.
        random: depends on the seed.
        named: trains for long, and is measured only where it is named.
    """

    name: str
    learn: Callable[[Sequence[LiftedRoom], int, int], Clustering]
    classes: bool = False
    truth: bool = False
    random: bool = True
    named: bool = False


def baselines() -> list[SemanticMethod]:
    """The methods of this module."""
    return [
        SemanticMethod("k-means, tokens of voxels", _by_voxels(token_features)),
        SemanticMethod("k-means, tokens of super-voxels", _by_superpoints(superpoint_tokens)),
        SemanticMethod("k-means, descriptors of super-voxels (GrowSP)", _by_superpoints(superpoint_descriptors)),
        SemanticMethod("k-means, colour and normals of voxels", _by_voxels(plain_features)),
        SemanticMethod("linear probe, tokens (labels of the rooms to learn from)", linear_probe, classes=True, truth=True),
        SemanticMethod("oracle of super-voxels (labels of the measured rooms)", _oracle, classes=True, truth=True, random=False),
    ]


def token_features(scene: LiftedScene) -> Floats:
    """Unit tokens float32 [M, D] of the voxels."""
    mean, number = scene.superpoint_tokens()
    tokens = scene.tokens.astype(np.float32)
    missing = ~scene.known
    fill = np.where(number[:, None] > 0, mean, tokens[scene.known].mean(axis=0) if scene.known.any() else 0)
    tokens[missing] = fill[scene.superpoint[missing]]
    return _unit(tokens)


def plain_features(scene: LiftedScene) -> Floats:
    """float32 [M, 6 or 3]: colour 0 .. 1 where there is one, and how much the normal is along up, across it, and its sign."""
    along = scene.normal @ scene.up.astype(np.float32)
    parts = [along, np.abs(along), np.sqrt(np.maximum(1 - along**2, 0))]
    if scene.rgb is not None:
        parts = [*(scene.rgb.T / np.float32(255)), *parts]
    return np.nan_to_num(np.stack(parts, axis=1)).astype(np.float32)


def superpoint_tokens(scene: LiftedScene) -> Floats:
    """Unit mean of the unit tokens of each super-voxel, float32 [S, D]."""
    return _unit(superpoint_means(token_features(scene), scene.superpoint)[0])


def superpoint_descriptors(scene: LiftedScene) -> Floats:
    """GrowSP's descriptor: unit token, 3 times the mean colour (0 .. 1), 3 times a histogram of dot products of pairs of normals."""
    parts = [superpoint_tokens(scene)]
    if scene.rgb is not None:
        parts.append(np.float32(COLOUR_WEIGHT / 255) * superpoint_means(scene.rgb, scene.superpoint)[0])
    order = np.argsort(scene.superpoint, kind="stable")
    start = np.searchsorted(scene.superpoint[order], np.arange(len(parts[0]) + 1))
    histogram = np.zeros((len(parts[0]), _BINS), np.float32)
    rng = np.random.default_rng(0)
    for k in range(len(histogram)):
        normal = np.nan_to_num(scene.normal[order[start[k] : start[k + 1]]])
        a, b = rng.integers(0, len(normal), (2, _PAIRS))
        dot = np.einsum("ij,ij->i", normal[a], normal[b])
        histogram[k] = np.histogram(dot, _BINS, (-1, 1 + 1e-6))[0] / _PAIRS
    return np.concatenate([*parts, np.float32(NORMAL_WEIGHT) * histogram], axis=1)


def _centres(vectors: Floats, count: int, seed: int) -> torch.Tensor:
    """Centres float32 [K, D] of k-means, K = ``count`` or fewer where vectors are fewer; a sample of 60,000 is used."""
    rows = vectors
    if len(rows) > _SAMPLE:
        rows = rows[np.random.default_rng(seed).permutation(len(rows))[:_SAMPLE]]
    found = kmeans(rows, min(count, len(rows)), restarts=RESTARTS, iterations=ITERATIONS, seed=seed, spherical=False)
    return torch.from_numpy(found.centroids)


def _nearest(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return (points @ centres.T - centres.square().sum(1) / 2).argmax(1)


def _by_voxels(features: Callable[[LiftedScene], Floats]) -> Callable[[Sequence[LiftedRoom], int, int], Clustering]:
    def learn(rooms: Sequence[LiftedRoom], clusters: int, seed: int) -> Clustering:
        rng = np.random.default_rng(seed)
        share = max(1, _SAMPLE // max(1, len(rooms)))
        parts = []
        for room in rooms:
            values = features(room.scene)
            parts.append(values[rng.choice(len(values), min(share, len(values)), replace=False)])
        centres = _centres(np.concatenate(parts), clusters, seed)
        return lambda room: _nearest(torch.from_numpy(features(room.scene)), centres).numpy()

    return learn


def _by_superpoints(features: Callable[[LiftedScene], Floats]) -> Callable[[Sequence[LiftedRoom], int, int], Clustering]:
    def learn(rooms: Sequence[LiftedRoom], clusters: int, seed: int) -> Clustering:
        centres = _centres(np.concatenate([features(room.scene) for room in rooms]), clusters, seed)
        return lambda room: _nearest(torch.from_numpy(features(room.scene)), centres).numpy()[room.scene.superpoint]

    return learn


def linear_probe(rooms: Sequence[LiftedRoom], classes: int, seed: int) -> Clustering:
    """A linear classifier on unit tokens of voxels, learnt from labels: how well the tokens themselves separate the classes."""
    rng = np.random.default_rng(seed)
    share = max(1, _SAMPLE // max(1, len(rooms)))
    vectors, labels = [], []
    for room in rooms:
        rows = np.flatnonzero(room.scene.known & (room.voxel_label >= 0))
        rows = rng.choice(rows, min(share, len(rows)), replace=False)
        vectors.append(token_features(room.scene)[rows])
        labels.append(room.voxel_label[rows])
    x, y = torch.from_numpy(np.concatenate(vectors)), torch.from_numpy(np.concatenate(labels))
    mean, spread = x.mean(0), x.std(0).clamp_min(1e-6)
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    rare = 1 / torch.bincount(y, minlength=classes).clamp_min(1).float().sqrt()  # classes of few points count too
    optimiser = torch.optim.Adam([weight, bias], lr=0.03)
    with torch.enable_grad():
        for _ in range(_STEPS):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy((x - mean) / spread @ weight + bias, y, rare) + 1e-4 * weight.square().sum()
            loss.backward()
            optimiser.step()
    matrix, offset = weight.detach(), bias.detach()
    return lambda room: ((torch.from_numpy(token_features(room.scene)) - mean) / spread @ matrix + offset).argmax(1).numpy()


def _oracle(rooms: Sequence[LiftedRoom], classes: int, seed: int) -> Clustering:
    """Each super-voxel has the class that most of its voxels have: what its borders allow."""
    return lambda room: superpoint_majority(room.voxel_label, room.scene.superpoint, classes)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6), np.float32)
