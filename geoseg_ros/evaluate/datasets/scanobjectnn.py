"""ScanObjectNN: scanned objects with the background around them (Uy et al., ICCV 2019).

On disk, under ``main_split/``: ``training_objectdataset.h5`` and ``test_objectdataset.h5`` (or both in one, ``full_objectdataset.h5``) with
``data`` [n, P, 3] (metres, y up, no colour), ``label`` [n] (index into :data:`CLASSES`) and ``mask`` [n, P] (-1 = background). This is the
raw variant with background, without augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.hdf5 import read_arrays

CLASSES = (
    *("bag", "bin", "box", "cabinet", "chair", "desk", "display", "door"),
    *("shelf", "table", "bed", "pillow", "sink", "sofa", "toilet"),
)
BACKGROUND = -1
_PARTS = ("training", "test")


@dataclass(frozen=True)
class Objects:
    """Attributes:
    name: of each of n objects: its file and its number there.
    xyz: float32 [n, P, 3], metres, z up.
    label: int64 [n], index into CLASSES.
    foreground: bool [n, P].
    """

    name: tuple[str, ...]
    xyz: NDArray[np.float32]
    label: NDArray[np.int64]
    foreground: NDArray[np.bool_]


def read_objects(root: Path) -> Objects:
    """All objects, those for training and for testing together.

    Args:
        root: ``main_split`` or a folder above it (``h5_files`` or the one with ``h5_files``).

    Raises:
        InputError: no such files, a damaged one, or the variant without background.
    """
    folders = [root, root / "main_split", root / "h5_files" / "main_split"]
    for folder in folders:
        for parts in (("full",), _PARTS):
            if all((folder / f"{part}_objectdataset.h5").is_file() for part in parts):
                read = [_read(folder / f"{part}_objectdataset.h5", part) for part in parts]
                if len({part.xyz.shape[1] for part in read}) > 1:
                    raise InputError(f"{folder}: the files have different numbers of points per object")
                return Objects(
                    tuple(name for part in read for name in part.name),
                    np.concatenate([part.xyz for part in read]),
                    np.concatenate([part.label for part in read]),
                    np.concatenate([part.foreground for part in read]),
                )
    raise InputError(f"{root}: expected main_split/ with {' and '.join(f'{part}_objectdataset.h5' for part in _PARTS)}")


def _read(path: Path, part: str) -> Objects:
    arrays = read_arrays(path, {"data": (None, None, 3), "label": (None,), "mask": (None, None)})
    xyz, label, mask = arrays["data"], arrays["label"].astype(np.int64), arrays["mask"]
    if not len(label) or label.shape != xyz.shape[:1] or mask.shape != xyz.shape[:2]:
        raise InputError(f"{path}: expected data n x P x 3, label n and mask n x P, got {xyz.shape}, {label.shape} and {mask.shape}")
    if label.min() < 0 or label.max() >= len(CLASSES):
        raise InputError(f"{path}: expected label 0 to {len(CLASSES) - 1}")
    if not (mask == BACKGROUND).any():
        raise InputError(f"{path}: expected the variant with background (mask {BACKGROUND}), found none")
    x, y, z = np.moveaxis(xyz.astype(np.float32), -1, 0)
    return Objects(tuple(f"{part}{k}" for k in range(len(label))), np.stack([x, -z, y], axis=-1), label, mask != BACKGROUND)
