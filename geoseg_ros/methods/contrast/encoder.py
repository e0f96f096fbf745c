"""Evidence for proposals by an encoder of clouds: its mean feature of a proposal is a token, which photographs are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.methods.contrast.references import Contrast
from geoseg_ros.projection.scene import CloudScene

LEAST_NULL = 20  # proposals of the encoder's background, from which its evidence is scaled
ALL_AROUND = 2 / np.pi  # length of the mean direction of the points of a sensor that sees half of its horizon


class EncoderEvidence:
    """What the encoder adds to the scores of drawings, for C concepts and one kind of cloud.

    Both are scaled alike: the encoder's evidence gets the mean 0 and ``weight`` times the spread that drawings have among proposals that
    are no concept. A null score is the sum of one of each, drawn independently of one another. Nothing is added for a concept that was
    learnt from clouds: its finds do not gain, and false alarms rise.

    Args:
        contrast: the concepts. background: float32 [n, D], mean features of proposals that are no concept.
        null: scores of drawings of such proposals, float [m] for each concept.
        weight: see above; > 0.
    """

    def __init__(self, contrast: Contrast, background: torch.Tensor, null: Sequence[NDArray[np.floating]], weight: float) -> None:
        self._contrast = contrast
        own = contrast.described(background).numpy()  # [C, n]
        asked = [not concept.views for concept in contrast.concepts]
        spread = np.array([float(np.std(scores)) if ask and len(scores) else 0.0 for ask, scores in zip(asked, null, strict=True)])
        self._mean, self._scale = own.mean(axis=1, keepdims=True), weight * (spread / np.maximum(own.std(axis=1), 1e-6))[:, None]
        added = self._scaled(own)
        self.null = [scores + more[np.arange(len(scores)) % len(more)] for scores, more in zip(null, added, strict=True)]

    def _scaled(self, evidence: NDArray[np.floating]) -> NDArray[np.floating]:
        return (evidence - self._mean) * self._scale

    def of(self, features: torch.Tensor) -> NDArray[np.floating]:
        """float [C, P], to be added to the scores of the drawings, from the unit mean features [P, D] of proposals."""
        return self._scaled(self._contrast.described(features).numpy())


def is_sweep(scene: CloudScene) -> bool:
    """Whether a cloud is a turn of a LiDAR: without colour, without the rows of a camera, and from all around the sensor. Two measurements
    on other clouds contradict each other, and on tables seen from one side drawings alone are better."""
    cloud = scene.cloud
    if cloud.rgb is not None or (cloud.shape is not None and cloud.shape[0] > 1):
        return False
    xyz = cloud.xyz[cloud.valid()]
    return float(np.linalg.norm((xyz / np.linalg.norm(xyz, axis=1, keepdims=True).clip(1e-6)).mean(axis=0))) < ALL_AROUND
