"""Ground truth of a procedural recording, kept in a file beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path


@dataclass(frozen=True)
class Truth:
    """Ground truth of every message of a recording: M clouds with P points in all, I images made from K pictures.

    Attributes:
        concepts: str [C]; names of the targets; ``concepts[i]`` has label i + 1, label 0 is none of them.
        cloud_stamps: int64 [M], nanoseconds, ascending.
        cloud_offsets: int64 [M + 1]; the points of cloud m are offsets[m] to offsets[m + 1].
        cloud_labels: uint8 [P], in the order of the points in the message.
        cloud_instances: uint16 [P], 0 = floor, walls and fittings, 1 .. = an object of any family; the number of an object stays the same.
        cloud_poses: float32 [M, 4, 4], sensor to world.
        image_stamps: int64 [I], nanoseconds, ascending.
        image_index: int32 [I], index of the picture that the image shows.
        image_masks: uint8 [K, H, W], label of each pixel.
    """

    concepts: NDArray[np.str_]
    cloud_stamps: NDArray[np.int64]
    cloud_offsets: NDArray[np.int64]
    cloud_labels: NDArray[np.uint8]
    cloud_instances: NDArray[np.uint16]
    cloud_poses: NDArray[np.float32]
    image_stamps: NDArray[np.int64]
    image_index: NDArray[np.int32]
    image_masks: NDArray[np.uint8]

    def cloud(self, stamp_ns: int) -> NDArray[np.uint8]:
        """uint8 [N]: the label of each point of the cloud with this stamp. Raises KeyError for an unknown stamp."""
        return self.cloud_labels[self._points(stamp_ns)]

    def instances(self, stamp_ns: int) -> NDArray[np.uint16]:
        """uint16 [N]: the object of each point of the cloud with this stamp. Raises KeyError for an unknown stamp."""
        return self.cloud_instances[self._points(stamp_ns)]

    def image(self, stamp_ns: int) -> NDArray[np.uint8]:
        """uint8 [H, W]: the label of each pixel of the image with this stamp. Raises KeyError for an unknown stamp."""
        return self.image_masks[self.image_index[_find(self.image_stamps, stamp_ns)]]

    def _points(self, stamp_ns: int) -> slice:
        m = _find(self.cloud_stamps, stamp_ns)
        return slice(int(self.cloud_offsets[m]), int(self.cloud_offsets[m + 1]))


def _find(stamps: NDArray[np.int64], stamp_ns: int) -> int:
    i = int(np.searchsorted(stamps, stamp_ns))
    if i == len(stamps) or stamps[i] != stamp_ns:
        raise KeyError(stamp_ns)
    return i


def save_truth(path: str | os.PathLike[str], truth: Truth) -> None:
    """Write ``truth`` as a compressed NPZ with one key per attribute."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **{f.name: getattr(truth, f.name) for f in fields(Truth)})


def load_truth(path: str | os.PathLike[str]) -> Truth:
    """Read what :func:`save_truth` wrote. Raises InputError for a missing or damaged file, or one of another kind."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return Truth(**{f.name: data[f.name] for f in fields(Truth)})
    except Exception as error:  # zip, header and key errors alike
        raise InputError(f"{path}: not a readable truth file: {type(error).__name__}: {' '.join(str(error).split())[:100]}") from None
