"""The ladder of PointDC on simulated rooms: what each step adds, beside k-means of simpler descriptors.

    python -m benchmarks.tables.pointdc_ladder --rooms 8 --measure 4 --cache lifted/ --set voxel=0.1 --out ladder.json

Every row finds as many clusters as there are classes in the rooms to learn from, gives every super-voxel of the other rooms the nearest
one, and is scored by one-to-one matching over the points of these rooms; what a network does also over those of their single frames, which
stand and have super-voxels as live clouds do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.evaluate.metrics import auroc
from geoseg_ros.evaluate.semantics.lifting import voxel_labels
from geoseg_ros.evaluate.semantics.matching import SemanticScore, confusion, matched_score
from geoseg_ros.evaluate.semantics.rooms import CLASSES, simulated_rooms
from geoseg_ros.files import write_text
from geoseg_ros.geometry.analysis import GeometryConfig
from geoseg_ros.learning.clustering import choose_count, kmeans, nearest_centroid
from geoseg_ros.learning.rooms import Room, View, group_means, room_of, target_of, view_features
from geoseg_ros.methods.pointdc.config import PointDCConfig
from geoseg_ros.methods.pointdc.method import new_network, place_of
from geoseg_ros.methods.pointdc.training import Trainer
from geoseg_ros.nets.base import point_features
from geoseg_ros.projection.frame_lifting import lift_frames
from geoseg_ros.projection.lifted_scene import LiftedScene, load_lifted, save_lifted
from geoseg_ros.settings import with_values

Floats = NDArray[np.floating]
Describe = Callable[[Room], Floats]
"""The descriptor [S, d] of every super-voxel of a room."""
DescribeView = Callable[[View], Floats]
"""The same of the super-voxels that a view has by itself."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A lifted room. Attributes: label: int64 [N], class of each of its points; voxel: int64 [M], of its voxels; -1: does not count."""

    scene: LiftedScene
    room: Room
    label: NDArray[np.int64]
    voxel: NDArray[np.int64]


def labelled_rooms(split: str, count: int, seed: int, preset: str, frames: int, cache: Path, cubes: float = 0.0) -> Iterator[Labelled]:
    """Rooms of a split with tokens, from the folder ``cache`` where they are in it. ``cubes``: edge of those that stand in for the
    super-voxels of rooms, metres; 0: none do."""
    rooms, backbone = simulated_rooms(split, count, seed, preset, frames), None
    for number in range(count):
        lifted, truth = (cache / f"{split}_{number}{end}" for end in (".safetensors", ".npy"))
        if not truth.exists():
            backbone = backbone or open_backbone(DEFAULT)
            room = rooms.read(number)
            assert room.frames is not None  # simulated rooms have them
            cache.mkdir(parents=True, exist_ok=True)
            save_lifted(lifted, lift_frames(room.frames, backbone, points=room.cloud))
            np.save(truth, room.label)
        scene = load_lifted(lifted)
        if cubes:
            cell = np.floor(scene.xyz / cubes).astype(np.int64)
            scene = replace(scene, superpoint=np.unique(cell, axis=0, return_inverse=True)[1].ravel().astype(np.int64))
        label = np.load(truth)
        yield Labelled(scene, room_of(scene, GeometryConfig(voxel=scene.voxel)), label, voxel_labels(scene.inverse, label, len(scene.xyz)))


def without(item: Labelled, hidden: Sequence[str]) -> Room:
    """The room, and its views, without the points of some classes: they are unknown to what learns from it."""
    ids, room = [CLASSES.index(name) for name in hidden], item.room
    keep, views = ~np.isin(item.voxel, ids), []
    for shot, view in zip(item.scene.shots, room.views, strict=True):
        left = ~((shot.row >= 0) & np.isin(item.voxel[shot.row], ids))
        views.append(
            replace(view, xyz=view.xyz[left], rgb=view.rgb[left], supervoxel=view.supervoxel[left], own=_renumbered(view.own[left]))
        )
    parts = {name: getattr(room, name)[keep] for name in ("xyz", "rgb", "normal", "supervoxel")}
    return replace(room, **parts, views=tuple(view for view in views if len(view.xyz)))


def _renumbered(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups that are left, 0 .. ; -1 stays."""
    return np.where(group >= 0, np.unique(np.where(group >= 0, group, group.max()), return_inverse=True)[1], -1)


class Ladder:
    """Scores of descriptors: clusters are found in the rooms ``learn`` and counted in the rooms ``measure``."""

    def __init__(self, learn: list[Labelled], measure: list[Labelled], config: PointDCConfig, hidden: Sequence[str] = ()) -> None:
        self.learn, self.measure, self.config, self.hidden = learn, measure, config, hidden
        self.rows: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str,
        describe: Describe,
        centroids: Floats | None = None,
        spherical: bool = True,
        view: DescribeView | None = None,
    ) -> None:
        """Add a row. ``centroids`` [C, d], unit: else they are found by k-means. ``view``: views are scored too."""
        begin = time.monotonic()
        if centroids is None:
            rows = np.concatenate([describe(item.room) for item in self.learn])
            used = np.concatenate([item.room.size for item in self.learn]) >= self.config.min_supervoxel
            centroids = kmeans(rows[used], len(CLASSES), restarts=20, seed=self.config.seed, spherical=spherical).centroids
        found = centroids

        def assign(item: Labelled) -> NDArray[np.int64]:
            rows = describe(item.room)
            if spherical:
                return nearest_centroid(rows, found)[0]
            return np.asarray(np.square(rows[:, None] - found).sum(axis=2).argmin(axis=1))

        self._score(name, assign, len(centroids), time.monotonic() - begin)
        if view is not None:
            self._score_views(name, lambda part: nearest_centroid(view(part), found)[0], len(centroids))

    def _score_views(self, name: str, assign: Callable[[View], NDArray[np.int64]], clusters: int) -> None:
        tables = []
        for item in self.measure:
            for shot, part in zip(item.scene.shots, item.room.views, strict=True):
                use = (shot.row >= 0) & (part.own >= 0)
                tables.append(confusion(item.voxel[shot.row[use]], assign(part)[part.own[use]], len(CLASSES), clusters))
        score = matched_score(np.sum(tables, axis=0))
        self.rows[name] |= {"views": {key: round(getattr(score, key), 4) for key in ("miou", "oacc", "macc", "miou_m2o")}}
        print(f"{name + ', single views':<34} mIoU {100 * score.miou:5.1f}  oAcc {100 * score.oacc:5.1f}", flush=True)

    def add_oracle(self) -> None:
        """Add the row of super-voxels that know the class of most of their points."""

        def assign(item: Labelled) -> NDArray[np.int64]:
            group, counted = item.scene.point_values(item.scene.superpoint), item.label >= 0
            votes = np.zeros((len(item.room.token), len(CLASSES)), np.int64)
            use = counted & (group >= 0)
            np.add.at(votes, (group[use], item.label[use]), 1)
            return votes.argmax(axis=1)

        self._score("oracle super-voxels", assign, len(CLASSES), 0.0)

    def _score(self, name: str, assign: Callable[[Labelled], NDArray[np.int64]], clusters: int, seconds: float) -> None:
        table = sum(
            confusion(item.label, item.scene.point_values(assign(item)[item.scene.superpoint]), len(CLASSES), clusters)
            for item in self.measure
        )
        score: SemanticScore = matched_score(np.asarray(table))
        self.rows[name] = {key: round(getattr(score, key), 4) for key in ("miou", "oacc", "macc", "miou_m2o")}
        self.rows[name] |= {"iou": dict(zip(CLASSES, np.round(score.iou, 3).tolist(), strict=True)), "seconds": round(seconds, 1)}
        print(f"{name:<34} mIoU {100 * score.miou:5.1f}  oAcc {100 * score.oacc:5.1f}  many-to-one {100 * score.miou_m2o:5.1f}", flush=True)


def colours_and_normals(room: Room) -> Floats:
    """Mean colour, |normal along z|, and height of each super-voxel, each over about 0 .. 1."""
    height = (room.xyz[:, 2] - np.percentile(room.xyz[:, 2], 1)) / 2.5
    return _means(np.column_stack([room.rgb / 255, np.abs(room.normal[:, 2]), height]), room)


def primitive_histograms(room: Room) -> Floats:
    """GrowSP's descriptor of geometry: 10 bins of the products of pairs of normals in a super-voxel, three times; and three times the
    mean colour."""
    rng, rows = np.random.default_rng(0), []
    for own in np.split(np.argsort(room.supervoxel, kind="stable"), np.cumsum(room.size)[:-1]):
        pairs = rng.choice(own, (200, 2))
        dots = (room.normal[pairs[:, 0]] * room.normal[pairs[:, 1]]).sum(axis=1)
        rows.append(np.histogram(np.clip(dots, -1, 1), 10, (-1, 1))[0] / len(dots))
    return np.hstack([3 * np.array(rows), 3 * _means(room.rgb / 255, room)])


def _means(values: Floats, room: Room) -> Floats:
    sums = np.stack([np.bincount(room.supervoxel, column, len(room.token)) for column in values.T], axis=1)
    return sums / np.maximum(room.size, 1)[:, None]


def climb(ladder: Ladder, trainer: Trainer) -> dict[str, Any]:
    """Add the rows of PointDC, step by step. Returns the number of classes that would have been chosen, and the shares of the points of the
    rooms to measure that are called unlike anything seen."""

    def by_network(room: Room) -> Floats:
        trainer.network.eval()  # type: ignore[attr-defined]
        return group_means(point_features(trainer.network, room.xyz, room.rgb), room.supervoxel, len(room.token))

    def of_view(part: View) -> Floats:
        trainer.network.eval()  # type: ignore[attr-defined]
        return view_features(trainer.network, part)

    ladder.add("colour, normals, height", colours_and_normals, spherical=False)
    ladder.add("GrowSP's super-voxel descriptor", primitive_histograms, spherical=False)
    ladder.add("network, untrained", by_network, view=of_view)
    ladder.add("lifted tokens, no network", lambda room: target_of(room.token, trainer.mean) * room.known[:, None])
    trainer.distil()
    ladder.add("CMD", by_network, view=of_view)
    chosen = choose_count(trainer.target[trainer.target.any(axis=1)])
    trainer.classes = len(CLASSES)
    trainer.learn_classes(2, True)
    ladder.add("CMD + SVC warm-up", by_network, view=of_view)
    trainer.learn_classes(3, False)
    fitted = trainer.result()
    ladder.add("CMD + SVC", by_network, fitted.centroids, view=of_view)
    spread = place_of(trainer, fitted, "", ("", "")).spread

    def nearer(rows: Floats) -> Floats:
        label, similarity = nearest_centroid(rows, fitted.centroids)
        return spread.nearer(1 - similarity.astype(np.float64), label)

    shares: dict[str, list[Floats]] = {"rooms": [], "views": []}
    classes: dict[str, list[NDArray[np.int64]]] = {"rooms": [], "views": []}
    for item in ladder.measure:
        shares["rooms"].append(nearer(by_network(item.room))[item.room.supervoxel])
        classes["rooms"].append(item.voxel)
        for shot, part in zip(item.scene.shots, item.room.views, strict=True):
            use = (shot.row >= 0) & (part.own >= 0)
            shares["views"].append(nearer(of_view(part))[part.own[use]])
            classes["views"].append(item.voxel[shot.row[use]])
    ids = [CLASSES.index(name) for name in ladder.hidden]
    flags = {key: _flags(np.concatenate(shares[key]), np.concatenate(classes[key]), ids, trainer.config.unlike) for key in shares}
    return {"classes_chosen": chosen, "unlike_anything_seen": flags}


def _flags(share: Floats, label: NDArray[np.int64], hidden: Sequence[int], unlike: float) -> dict[str, float]:
    """Share of the points of known and of hidden kinds that are called unlike anything seen, and the AUROC of that score."""
    unknown, known = np.isin(label, hidden), (label >= 0) & ~np.isin(label, hidden)
    found = {"known": float((share[known] > 1 - unlike).mean())}
    if unknown.any():
        found |= {"hidden": float((share[unknown] > 1 - unlike).mean()), "auroc": auroc(share[unknown], share[known])}
    return {key: round(value, 4) for key, value in found.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=40)
    parser.add_argument("--measure", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--seed", type=int, default=0, help="of the training; the rooms are always those of seed 0")
    parser.add_argument("--cubes", type=float, default=0.0, metavar="EDGE", help="cubes in place of super-voxels, edge in metres")
    parser.add_argument("--hide", nargs="+", default=[], choices=CLASSES, help="classes that the rooms to learn from do not have")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    values = {name: yaml.safe_load(value) for name, _, value in (entry.partition("=") for entry in options.set)}
    config = with_values(PointDCConfig(classes=len(CLASSES), seed=options.seed), values)
    splits = [(split, count) for split, count in (("learn", options.rooms), ("measure", options.measure))]
    learn, measure = (
        list(labelled_rooms(split, n, 0, options.preset, options.frames, options.cache, options.cubes)) for split, n in splits
    )
    if options.hide:
        learn = [replace(item, room=without(item, options.hide)) for item in learn]
    ladder = Ladder(learn, measure, config, options.hide)
    ladder.add_oracle()
    begin = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        print(f"\r{stage} {done} % after {time.monotonic() - begin:.0f} s", end="", file=sys.stderr, flush=True)

    further = climb(ladder, Trainer(new_network(config), [item.room for item in learn], config, progress=report))
    print(further)
    about = {
        **further,
        "rooms": options.rooms,
        "measure": options.measure,
        "preset": options.preset,
        "hidden": options.hide,
        "cubes": options.cubes,
        "config": asdict(config),
    }
    write_text(
        options.out, json.dumps({**about, "minutes": round((time.monotonic() - begin) / 60, 1), "rows": ladder.rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
