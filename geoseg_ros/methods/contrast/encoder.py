"""Evidence for proposals by an encoder of clouds: its mean feature of a proposal is a token, which photographs are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.methods.contrast.references import Contrast
from geoseg_ros.projection.scene import CloudScene

LEAST_NULL = 20  # proposals of the encoder's background, from which its evidence is scaled


class EncoderEvidence:
    """What the encoder adds to the scores of drawings, for C concepts and one kind of cloud.

    Both are scaled alike: the encoder's evidence gets the mean 0 and ``weight`` times the spread that drawings have among proposals that
    are no concept. A null score is the sum of one of each, drawn independently of one another.

    Args:
        contrast: the concepts. background: float32 [n, D], mean features of proposals that are no concept.
        null: scores of drawings of such proposals, float [m] for each concept.
        weight: see above; > 0.
    """

    def __init__(self, contrast: Contrast, background: torch.Tensor, null: Sequence[NDArray[np.floating]], weight: float) -> None:
        self._contrast = contrast
        own = contrast.described(background).numpy()  # [C, n]
        spread = np.array([float(np.std(scores)) if len(scores) else 0.0 for scores in null])
        self._mean, self._scale = own.mean(axis=1, keepdims=True), weight * (spread / np.maximum(own.std(axis=1), 1e-6))[:, None]
        added = self._scaled(own)
        self.null = [scores + more[np.arange(len(scores)) % len(more)] for scores, more in zip(null, added, strict=True)]

    def _scaled(self, evidence: NDArray[np.floating]) -> NDArray[np.floating]:
        return (evidence - self._mean) * self._scale

    def of(self, features: torch.Tensor) -> NDArray[np.floating]:
        """float [C, P], to be added to the scores of the drawings, from the unit mean features [P, D] of proposals."""
        return self._scaled(self._contrast.described(features).numpy())


def is_sweep(scene: CloudScene) -> bool:
    """Whether a cloud is like those of a LiDAR: without colour and without the rows of a camera. Two measurements on other clouds
    contradict each other."""
    shape = scene.cloud.shape
    return scene.cloud.rgb is None and (shape is None or shape[0] < 2)
