"""Crowded tables: real objects of several scenes placed on the table of another, touching, behind and on one another, as the sensor would
measure them. The target kind is given by photographs of other scenes.

The scenes and which of them give photographs are fixed in :mod:`geoseg_ros.evaluate.tabletop`: no scene gives both. A moved object keeps
the side that it shows to the sensor: it is turned about the vertical through the sensor, then moved at most a fifth nearer or farther, so
its sampling stays plausible. Occlusion is simulated (one point per pixel), and clouds stay organised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.evaluate.items import CosegSet, Item, transductive
from geoseg_ros.evaluate.tabletop import FOLDS, KINDS, Scenes, TabletopScene, table_frame, without_colour
from geoseg_ros.evaluate.trivial import geometry
from geoseg_ros.geometry.cloud import Cloud

TABLES = 12
LEAST, MOST = 3, 8  # objects on a table
_STACKED = 0.35  # share of the tries that set an object on another
_TRIES, _ATTEMPTS = 40, 10  # places tried for a table's objects; tables tried for one
_NEARER = 0.2  # largest relative change of the distance to the sensor
_SHOWN = 0.4  # least share of its points that every object keeps
_POINTS = 1000  # fewest of an object that is moved

Array = NDArray[np.floating]


@dataclass(frozen=True)
class TableObject:
    """One object of a scene. Attributes: kind; scene: its number; xyz float64 [N, 3]: right, away, up in the frame of its table, the sensor
    above the origin, the table at up = 0; rgb uint8 [N, 3]."""

    kind: str
    scene: int
    xyz: Array
    rgb: NDArray[np.uint8]


@dataclass
class Table:
    """A table as the sensor sees it. Images [H, W], changed in place.

    Attributes:
        xyz: float32 [H, W, 3], NaN where invalid. rgb: uint8 [H, W, 3].
        number: int32, 1 + index into ``objects``; 0 = none.
        frame: rows right, away, up in the sensor's frame. top: height of the table along up.
        lens: focal length and principal point along u and v: float64 [2, 2].
        rim: float32 [K, 2], convex outline of the table (right, away).
        objects: in the frame of this table.
        touching: pairs of numbers of objects that were set against or onto one another.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    number: NDArray[np.int32]
    frame: Array
    top: float
    lens: Array
    rim: NDArray[np.float32]
    objects: list[TableObject] = field(default_factory=list)
    touching: list[tuple[int, int]] = field(default_factory=list)

    def copy(self) -> Table:
        """The same table, to be changed apart from this one."""
        images = {name: getattr(self, name).copy() for name in ("xyz", "rgb", "number")}
        return replace(self, **images, objects=[*self.objects], touching=[*self.touching])

    def cloud(self) -> Cloud:
        """The organised cloud."""
        height, width = self.number.shape
        return Cloud(self.xyz.reshape(-1, 3), self.rgb.reshape(-1, 3), (height, width))

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """bool [N]: points of objects of this kind."""
        numbers = [k + 1 for k, placed in enumerate(self.objects) if placed.kind == kind]
        return np.isin(self.number, numbers).ravel()


def open_table(scene: TabletopScene, number: int) -> Table:
    """A scene with the objects that stand in it."""
    assert scene.cloud.shape is not None and scene.cloud.rgb is not None
    height, width = scene.cloud.shape
    valid = scene.cloud.valid()
    frame = table_frame(geometry(scene.cloud).up)
    local = scene.cloud.xyz @ frame.T
    bare = valid & (scene.instance == 0)
    top = float(np.median(local[bare, 2]))
    flat = bare & (np.abs(local[:, 2] - top) < 0.02)
    x, y, z = scene.cloud.xyz[valid].astype(np.float64).T
    v, u = np.divmod(np.flatnonzero(valid), width)
    lens = np.array([np.polyfit(x / z, u, 1), np.polyfit(y / z, v, 1)])
    rim = cv2.convexHull(local[flat, :2].astype(np.float32))[:, 0]
    local = local - (0, 0, top)
    table = Table(
        scene.cloud.xyz.reshape(height, width, 3).copy(),
        scene.photo.copy(),
        np.zeros((height, width), np.int32),
        frame,
        top,
        lens,
        rim,
    )
    for instance in np.unique(scene.instance[valid & (scene.instance > 0)]):
        own = valid & (scene.instance == instance)
        table.objects.append(TableObject(scene.kind, number, local[own], scene.cloud.rgb[own]))
        table.number.reshape(-1)[own] = len(table.objects)
    return table


def _turned(xyz: Array, place: Array) -> Array:
    """The points of an object with its middle moved to ``place`` [2], turned about the vertical so that it keeps its side to the sensor."""
    middle = (xyz[:, :2].min(axis=0) + xyz[:, :2].max(axis=0)) / 2
    angle = np.arctan2(place[1], place[0]) - np.arctan2(middle[1], middle[0])
    c, s = np.cos(angle), np.sin(angle)
    turned = (xyz[:, :2] - middle) @ np.array([[c, s], [-s, c]])
    return np.column_stack([turned + place, xyz[:, 2]])


def _against(xyz: Array, other: Array, side: int) -> Array:
    """Middle of an object that touches another: side 0 right of it, 1 behind, 2 left, 3 before. float64 [2]."""
    axis, sign = side % 2, 1 if side < 2 else -1
    half = (xyz[:, :2].max(axis=0) - xyz[:, :2].min(axis=0)) / 2
    low, high = other[:, :2].min(axis=0), other[:, :2].max(axis=0)
    place = (low + high) / 2
    place[axis] = (high[axis] + half[axis]) if sign > 0 else (low[axis] - half[axis])
    return place


def _on_top(xyz: Array, other: Array) -> tuple[Array, float] | None:
    """Middle of the flat top of another object and its height, where the first has a place there."""
    height = float(np.quantile(other[:, 2], 0.99))
    flat = other[np.abs(other[:, 2] - height) < 0.01, :2]
    if len(flat) < 100:
        return None
    (low, high), size = np.quantile(flat, [0.02, 0.98], axis=0), np.ptp(xyz[:, :2], axis=0)
    place = (low + high) / 2
    closed = (np.abs(flat - place) < size / 6).all(axis=1).any()  # the rim of a bowl is flat, but has no middle
    return (place, height) if closed and (size <= high - low + 0.03).all() else None


def _apart(xyz: Array, objects: Sequence[TableObject]) -> bool:
    """Whether the bounding box of an object is at least 1 cm away from all others."""
    low, high = xyz.min(axis=0) + 0.01, xyz.max(axis=0) - 0.01
    return not any(((low < t.xyz.max(axis=0)) & (high > t.xyz.min(axis=0))).all() for t in objects)


def set_down(table: Table, moved: TableObject, neighbour: int, side: int | None) -> bool:
    """Set an object of another table against the ``neighbour``-th object (``side`` of :func:`_against`) or, with None, onto it.

    Returns:
        Whether there is a place for it; the table is changed only then.
    """
    other, raised = table.objects[neighbour].xyz, 0.0
    if side is None:
        spot = _on_top(moved.xyz, other)
        if spot is None:
            return False
        place, raised = spot
    else:
        # its outline after the turn gives the distance from the neighbour
        place = _against(_turned(moved.xyz, _against(moved.xyz, other, side)), other, side)
    xyz = _turned(moved.xyz, place)
    before, after = (np.linalg.norm(np.append(p[:, :2].mean(axis=0), table.top)) for p in (moved.xyz, xyz))
    inside = cv2.pointPolygonTest(table.rim[:, None], (float(place[0]), float(place[1])), True) > 0.02
    if abs(after / before - 1) > _NEARER or not inside:
        return False
    xyz[:, 2] += raised - np.quantile(xyz[:, 2], 0.01)
    if not _apart(xyz, table.objects):
        return False
    return _draw(table, TableObject(moved.kind, moved.scene, xyz, moved.rgb), neighbour)


def _draw(table: Table, placed: TableObject, neighbour: int) -> bool:
    """Draw a placed object into the images of the table; False where it or another would keep too few points."""
    seen = (placed.xyz + (0, 0, table.top)) @ table.frame
    (fu, cu), (fv, cv) = table.lens
    u, v = np.rint(fu * seen[:, 0] / seen[:, 2] + cu).astype(int), np.rint(fv * seen[:, 1] / seen[:, 2] + cv).astype(int)
    height, width = table.number.shape
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    if not inside.all():
        return False
    xyz, rgb, there = _image(seen, placed.rgb, u, v, (height, width))
    there &= ~(table.xyz[..., 2] <= xyz[..., 2])  # invalid points hide nothing
    left = table.number.copy()
    left[there] = len(table.objects) + 1
    shown = np.bincount(left.ravel(), minlength=len(table.objects) + 2)[1:]
    if (shown < _SHOWN * np.array([len(t.xyz) for t in (*table.objects, placed)])).any():
        return False
    table.objects.append(placed)
    table.touching.append((neighbour + 1, len(table.objects)))
    table.number[:] = left
    table.xyz[there], table.rgb[there] = xyz[there], rgb[there]
    return True


def _image(
    seen: Array, rgb: NDArray[np.uint8], u: NDArray[np.integer], v: NDArray[np.integer], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """An object alone as the sensor sees it, one point per pixel. Between its points, which lie a little apart where it has come nearer,
    are means of those around: nothing behind it shines through.

    Args:
        seen: [N, 3] in the sensor's frame. rgb: [N, 3]. u, v: int [N], pixels.

    Returns:
        xyz float32 [H, W, 3], NaN where it is not; rgb uint8 [H, W, 3]; bool [H, W], where it is.
    """
    order = np.argsort(-seen[:, 2], kind="stable")  # the nearest of a pixel is written last
    index = np.full(shape, -1)
    index[v[order], u[order]] = order
    hit = index >= 0
    both = np.where(hit[..., None], np.concatenate([seen, rgb], axis=1)[index], 0).astype(np.float32)
    weight = cv2.boxFilter(hit.astype(np.float32), -1, (3, 3), normalize=False)
    mean = np.dstack([cv2.boxFilter(half, -1, (3, 3), normalize=False) for half in np.split(both, 2, axis=2)])
    gap = (cv2.morphologyEx(hit.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0) & ~hit & (weight > 0)
    both[gap] = mean[gap] / weight[gap, None]
    there = hit | gap
    xyz = np.where(there[..., None], both[..., :3], np.float32(np.nan))
    return xyz, np.rint(both[..., 3:]).astype(np.uint8), there


def crowd(tables: Mapping[int, Table], rng: np.random.Generator) -> Table:
    """One crowded table with both kinds on it.

    Args:
        tables: number of a scene -> the scene with its own objects, see :func:`open_table`; not changed.

    Raises:
        GeosegError: no table of several has a place for enough objects.
    """
    numbers = sorted(tables)
    for _ in range(_ATTEMPTS):
        base = numbers[rng.integers(len(numbers))]
        table = tables[base].copy()
        own = len(table.objects)
        wanted = int(rng.integers(max(LEAST, own + 1), MOST + 1)) if own < MOST else 0
        pool = [t for n in numbers if n != base for t in tables[n].objects if len(t.xyz) >= _POINTS]
        for _ in range(_TRIES):
            if len(table.objects) >= wanted:
                break
            # the other kind first, then any
            fits = [t for t in pool if len(table.objects) > own or t.kind != table.objects[0].kind]
            moved = fits[rng.integers(len(fits))]
            side = None if rng.random() < _STACKED else int(rng.integers(4))
            if set_down(table, moved, int(rng.integers(len(table.objects))), side):
                pool = [t for t in pool if t is not moved]
        if LEAST <= len(table.objects) <= MOST and len(table.objects) > own:
            return table
    raise GeosegError(f"crowded tables: no place for {LEAST} objects on any of {_ATTEMPTS} tables")


def crowded_sets(root: Path, split: str, seeds: Sequence[int], items: int | None = None) -> list[CosegSet]:
    """Photographs with one kind and crowded tables with both, in colour and without; learnt from and measured alike, for each kind.

    Args:
        root: folder of the scenes.
        items: tables of each fold; None means ``TABLES``.

    Raises:
        InputError: fewer than two items, or a scene that is absent or has no labels.
    """
    count = TABLES if items is None else items
    if count < 2:
        raise InputError(f"items: expected at least 2, got {count}")
    scenes, sets = Scenes(root), []
    for seed in seeds:
        for number, fold in enumerate(FOLDS[split]):
            bases = {n: open_table(scenes(n, kind), n) for kind in KINDS for n in fold.measured[kind]}
            tables = [crowd(bases, np.random.default_rng((seed, number, k))) for k in range(count)]
            clouds = [table.cloud() for table in tables]
            for way in ("colour", "xyz"):
                shown = clouds if way == "colour" else [without_colour(cloud) for cloud in clouds]
                for kind, other in (KINDS, KINDS[::-1]):
                    points = [
                        Item(f"table{k}", cloud, table.of_kind(kind), table.of_kind(other), cloud.valid(), table.number.ravel())
                        for k, (table, cloud) in enumerate(zip(tables, shown, strict=True))
                    ]
                    photos = [(n, scenes(n, kind)) for n in fold.training[kind]]
                    images = [Item(f"{kind}{n}", s.photo, s.mask, instance=s.instance.reshape(s.mask.shape)) for n, s in photos]
                    made = transductive(f"{kind}{fold.name}", f"crowded tables, {way}", images, points, "itself")
                    sets.append(CosegSet(made.name, made.group, made.own, (), images, points, made.given, seed))
    return sets
