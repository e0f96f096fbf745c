"""The frame in which obstacles and objects are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Placement:
    """The frame of a result.

    Attributes:
        frame: its name.
        matrix: float64 [4, 4], from the sensor's frame to it; None for the same frame.
    """

    frame: str
    matrix: NDArray[np.float64] | None = None


class NoTransform(Exception):
    """There is no transform from the sensor's frame to the target frame at the stamp of the message; the text gives the reason."""


def rigid_matrix(translation: Sequence[float], quaternion: Sequence[float]) -> NDArray[np.float64]:
    """A transform as float64 [4, 4].

    Args:
        translation: x, y, z in metres.
        quaternion: x, y, z, w.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(np.asarray(quaternion, np.float64)).as_matrix()
    matrix[:3, 3] = translation
    return matrix
