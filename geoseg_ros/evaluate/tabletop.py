"""Table-top scenes with two kinds of objects (organised RGB-D clouds with instance labels): unpaired co-segmentation with ground truth.

The photographs of some scenes make the packs; the clouds and photographs of other scenes are measured. Two splits, fixed by scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud_fields

# (scenes that give the photographs, scenes that are measured), by number
SPLITS: dict[str, dict[str, tuple[range, range]]] = {
    "development": {"box": (range(0, 5), range(5, 10)), "cylinder": (range(33, 36), range(36, 39))},
    "report": {"box": (range(0, 10), range(10, 20)), "cylinder": (range(33, 39), range(39, 45))},
}
KINDS = ("box", "cylinder")


@dataclass(frozen=True)
class Fold:
    """Attributes: name; training: scenes of each kind that are learnt from; measured: scenes of each kind."""

    name: str
    training: dict[str, range]
    measured: dict[str, range]


def _fold(name: str, split: str, exchanged: bool = False) -> Fold:
    first, second = ({kind: SPLITS[split][kind][k] for kind in KINDS} for k in (0, 1))
    return Fold(name, second, first) if exchanged else Fold(name, first, second)


# the report's two folds exchange which scenes are learnt from and which are measured
FOLDS = {"development": (_fold("", "development"),), "report": (_fold(" a", "report"), _fold(" b", "report", exchanged=True))}


@dataclass(frozen=True)
class Supervision:
    """What the packs are made from. Attributes: name; clouds: the training scenes' clouds too; without: the other kind's scenes as pictures
    (and clouds) without the concept."""

    name: str
    clouds: bool
    without: bool


VARIANTS = (
    Supervision("pictures", clouds=False, without=False),
    Supervision("pictures + without", clouds=False, without=True),
    Supervision("pictures + clouds + without", clouds=True, without=True),
)


@dataclass(frozen=True)
class TabletopScene:
    """Attributes: kind; cloud (organised, coloured); instance int32 [N], 0 = table or invalid."""

    kind: str
    cloud: Cloud
    instance: NDArray[np.int32]

    @property
    def photo(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], the registered colour image."""
        assert self.cloud.rgb is not None and self.cloud.shape is not None
        return np.ascontiguousarray(self.cloud.rgb.reshape(*self.cloud.shape, 3))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool [H, W], the objects."""
        assert self.cloud.shape is not None
        return (self.instance > 0).reshape(self.cloud.shape)


def read_scene(root: Path, number: int, kind: str) -> TabletopScene:
    """``learn<number>.pcd`` under ``root``; its field ``label`` counts parts, ten to an instance."""
    cloud, fields = read_cloud_fields(root / f"learn{number}.pcd")
    return TabletopScene(kind, cloud, (np.asarray(fields["label"]).astype(np.int64) // 10).astype(np.int32))


class Scenes:
    """The scenes under a folder, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[int, TabletopScene] = {}

    def __call__(self, number: int, kind: str) -> TabletopScene:
        if number not in self._read:
            self._read[number] = read_scene(self.root, number, kind)
        return self._read[number]


def without_colour(cloud: Cloud) -> Cloud:
    """The same points as a sensor without colour sees them."""
    return Cloud(cloud.xyz, None, cloud.shape)


def compose(first: TabletopScene, second: TabletopScene, rank: int = 0, gap: float = 0.04) -> tuple[Cloud, NDArray[np.uint8]]:
    """One table with one instance of each scene: an instance of ``second`` is set beside one of ``first``, on the side with more table.

    Everything else that stood on the first table is removed. The moved instance keeps its distance from the sensor, so its sampling stays
    plausible; it is moved along the table and put down at the same height.

    Args:
        rank: which instances are taken: of each scene the ``rank`` modulo its number of instances, the largest is 0.

    Returns:
        the cloud (unorganised), and truth uint8 [N]: 0 table, 1 the first scene's object, 2 the second's.
    """

    def instance(scene: TabletopScene) -> NDArray[np.bool_]:
        valid = scene.cloud.valid()
        ids, counts = np.unique(scene.instance[valid & (scene.instance > 0)], return_counts=True)
        ids = ids[np.argsort(-counts, kind="stable")]
        return valid & (scene.instance == ids[rank % len(ids)])

    base, moved = instance(first), instance(second)
    keep = first.cloud.valid() & (first.instance == 0)
    frames = [table_frame(analyse_cloud(scene.cloud).up) for scene in (first, second)]
    a, b = first.cloud.xyz[base] @ frames[0].T, second.cloud.xyz[moved] @ frames[1].T
    table = first.cloud.xyz[keep] @ frames[0].T
    top = float(np.median(table[:, 2]))  # nearly all that is no object is table
    near = (np.abs(table[:, 2] - top) < 0.03) & (np.abs(table[:, 1] - np.median(a[:, 1])) < 0.1)
    left, right = np.quantile(table[near, 0], [0.01, 0.99]) if near.any() else (-np.inf, np.inf)
    on_right = right - a[:, 0].max() > a[:, 0].min() - left
    shift = np.zeros(3)
    shift[2] = top - np.quantile(b[:, 2], 0.01)  # stand on the same table
    shift[1] = np.median(a[:, 1]) - np.median(b[:, 1])
    shift[0] = a[:, 0].max() + gap - b[:, 0].min() if on_right else a[:, 0].min() - gap - b[:, 0].max()
    placed = ((b + shift) @ frames[0]).astype(np.float32)
    assert first.cloud.rgb is not None and second.cloud.rgb is not None
    xyz = np.concatenate([first.cloud.xyz[keep], first.cloud.xyz[base], placed])
    rgb = np.concatenate([first.cloud.rgb[keep], first.cloud.rgb[base], second.cloud.rgb[moved]])
    truth = np.repeat(np.array([0, 1, 2], np.uint8), [int(keep.sum()), int(base.sum()), len(placed)])
    return Cloud(xyz, rgb), truth


def table_frame(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows right, away, up of a table seen from the origin."""
    right = np.cross(np.array([0.0, 0.0, 1.0]), up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(up, right), up])
