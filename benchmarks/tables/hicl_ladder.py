"""The ladder of HICL on simulated rooms: what each correlation repairs of a teacher that knows the truth and lies.

    python -m benchmarks.tables.hicl_ladder --rooms 12 --measure 4 --cache rooms/ --kinds independent rooms --out ladder.json

Classes are named: class k of the network is class k of the truth, nothing is matched. The network is measured on rooms that it was not
trained on, without frames; the teacher's labels, lifted without training, on the same rooms with their frames.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from geoseg_ros.evaluate.semantics.matching import class_score, confusion
from geoseg_ros.evaluate.semantics.oracle_teacher import KINDS, NoiseConfig, OracleTeacher
from geoseg_ros.evaluate.semantics.rooms import CLASSES, SemanticRoom, simulated_rooms
from geoseg_ros.files import write_text
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.posed_frames import FrameList, PosedFrame
from geoseg_ros.learning.noisy_labels import label_view, refined, voted_labels
from geoseg_ros.learning.rooms import Room, room_of
from geoseg_ros.learning.taught import TaughtView, teach_scene
from geoseg_ros.methods.hicl.config import HICLConfig
from geoseg_ros.methods.hicl.method import new_network
from geoseg_ros.methods.hicl.objectives import TaughtRoom
from geoseg_ros.methods.hicl.training import Trainer, cosines
from geoseg_ros.projection.frame_lifting import LiftConfig, surface
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.settings import with_values

NO_ATTENTION = {"attention.intra": 0, "attention.inter": 0}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "I base": {"pairs.refine": "none", **NO_ATTENTION},
    "II + intra-set": NO_ATTENTION,
    "III + intra-scene": {"attention.inter": 0, "attention.feedback": 0},
    "IV + inter-scene": {"attention.feedback": 0},
    "V + feedback": {},
    "V, feedback on classes": {"attention.distribution": "classes"},
}
"""Settings of each step that differ from the whole."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Attributes: truth: the simulated room; scene, room: its voxels; label: int64 [N], class of each of its points."""

    truth: SemanticRoom
    scene: LiftedScene
    room: Room


def simulated(split: str, count: int, frames: int, cache: Path) -> Iterator[SemanticRoom]:
    """Rooms of a split, from the folder ``cache`` where they are in it."""
    rooms = simulated_rooms(split, count, 0, "standard", frames)
    for number in range(count):
        path = cache / f"{split}_{number}_{frames}.npz"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            made = rooms.read(number)
            assert made.frames is not None and made.cloud.rgb is not None  # simulated rooms have them
            each: dict[str, Any] = {
                name: np.stack([getattr(f, name) for f in made.frames]) for name in ("rgb", "depth", "intrinsics", "pose")
            }
            np.savez(path, xyz=made.cloud.xyz, colour=made.cloud.rgb, label=made.label, seen=np.stack(made.frame_labels), **each)
        with np.load(path, allow_pickle=False) as kept:
            found = {name: kept[name] for name in kept.files}
        columns = (found[name] for name in ("rgb", "depth", "intrinsics", "pose"))
        shots = [PosedFrame(*values) for values in zip(*columns, strict=True)]
        yield SemanticRoom(
            f"{split}/{number}", Cloud(found["xyz"], found["colour"]), found["label"], FrameList(shots), tuple(found["seen"])
        )


def measured(truth: SemanticRoom, voxel: float) -> Measured:
    """A room on voxels, without tokens: this ladder has no image backbone."""
    config = LiftConfig(voxel=voxel)
    grid = voxel_downsample(truth.cloud.xyz, truth.cloud.rgb, voxel)
    assert truth.frames is not None
    towards = (np.mean([frame.pose[:3, 3] for frame in truth.frames], axis=0) - grid.xyz).astype(np.float32)
    normal, superpoint = surface(grid.xyz, grid.rgb, towards, config)
    nothing, up = np.zeros((len(grid.xyz), 1), np.float16), np.array([0.0, 0.0, 1.0])
    views = np.zeros(len(grid.xyz), np.int32)
    scene = LiftedScene(grid.xyz, grid.rgb, normal, nothing, views, superpoint, grid.inverse, voxel, up, "", truth.name)
    return Measured(truth, scene, room_of(scene))


def score(rooms: Sequence[Measured], label: Sequence[NDArray[np.int64]]) -> dict[str, Any]:
    """Named mIoU and accuracy over the points of rooms, from the class of each voxel, -1 for none."""
    count = len(CLASSES)
    table = sum(confusion(item.truth.label, item.scene.point_values(own), count, count) for item, own in zip(rooms, label, strict=True))
    found = class_score(np.asarray(table))
    return {"miou": round(found.miou, 4), "oacc": round(found.oacc, 4), "iou": np.round(found.iou, 3).tolist()}


def lifted_labels(rooms: Sequence[Measured], views: Sequence[Sequence[TaughtView]], teacher: OracleTeacher, how: str) -> dict[str, Any]:
    """Score of the teacher's labels without training: of voxels by the most frequent one, or of super-voxels."""
    labels, anchors = [], teacher.encode_text(CLASSES).numpy()
    for item, own in zip(rooms, views, strict=True):
        group = np.arange(len(item.scene)) if how == "voxels" else item.room.supervoxel
        labels.append(voted_labels(own, group, anchors, teacher.scale))
    return score(rooms, labels)


def label_accuracy(rooms: Sequence[Measured], taught: Sequence[TaughtRoom]) -> float:
    """Share of the pairs whose label is the truth of most points of the voxel."""
    right, total = 0, 0
    for item, own in zip(rooms, taught, strict=True):
        votes = np.zeros((len(item.scene), len(CLASSES)), np.int64)
        use = (item.scene.inverse >= 0) & (item.truth.label >= 0)
        np.add.at(votes, (item.scene.inverse[use], item.truth.label[use]), 1)
        truth = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
        for view, label in zip(own.views, own.label, strict=True):
            counted = (label >= 0) & (truth[view.view.row] >= 0)
            right += int((label == truth[view.view.row])[counted].sum())
            total += int(counted.sum())
    return round(right / max(total, 1), 4)


def climb(
    learn: Sequence[Measured], others: Sequence[Measured], noise: NoiseConfig, config: HICLConfig, steps: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The rows of one kind of noise."""
    teacher = OracleTeacher(CLASSES, noise)
    for item in [*learn, *others]:
        teacher.show(item.truth)
    views, other_views = (
        [teach_scene(item.scene, item.truth.frames or (), teacher, LiftConfig(voxel=config.voxel)) for item in rooms]
        for rooms in (learn, others)
    )
    anchors = teacher.encode_text(CLASSES).numpy()
    rows = {f"lifted to {how}, no training": lifted_labels(others, other_views, teacher, how) for how in ("voxels", "super-voxels")}
    for name, row in rows.items():
        print(f"  {name:<32} mIoU {100 * row['miou']:5.1f}  oAcc {100 * row['oacc']:5.1f}", flush=True)
    for name in steps:
        began, own = time.monotonic(), with_values(config, STEPS[name])
        taught = []
        for item, of_room in zip(learn, views, strict=True):
            labelled = [label_view(view, anchors, teacher.scale) for view in of_room]
            label, vote = refined(labelled, item.room.supervoxel, len(anchors), own.pairs.refine)
            taught.append(TaughtRoom(item.room, labelled, label, vote))
        fitted = Trainer(new_network(own, noise.dim), taught, anchors, own).fit()
        found = [cosines(fitted.network, item.room, anchors).argmax(axis=1)[item.room.supervoxel] for item in others]
        rows[name] = {**score(others, found), "labels": label_accuracy(learn, taught), "losses": fitted.losses}
        rows[name]["seconds"] = round(time.monotonic() - began)
        row = rows[name]
        print(
            f"  {name:<32} mIoU {100 * row['miou']:5.1f}  oAcc {100 * row['oacc']:5.1f}  labels {100 * row['labels']:5.1f} %"
            f"  {row['seconds']} s",
            flush=True,
        )
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=12)
    parser.add_argument("--measure", type=int, default=4)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--accuracy", type=float, nargs="+", default=[0.65], help="of the teacher's labels")
    parser.add_argument("--kinds", nargs="+", default=["independent", "rooms"], choices=KINDS)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--seed", type=int, default=0, help="of training and noise; the rooms are always those of seed 0")
    parser.add_argument("--dim", type=int, default=32, help="width of the teacher's features")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    values = {name: yaml.safe_load(value) for name, _, value in (entry.partition("=") for entry in options.set)}
    config = with_values(HICLConfig(seed=options.seed), values)
    learn, others = (
        [measured(room, config.voxel) for room in simulated(split, count, options.frames, options.cache)]
        for split, count in (("learn", options.rooms), ("measure", options.measure))
    )
    found = {}
    for kind in options.kinds:
        for accuracy in options.accuracy:
            noise = NoiseConfig(accuracy, kind, pairs=kind in ("views", "rooms"), dim=options.dim, seed=options.seed)
            print(f"{kind}, {accuracy:g}, seed {options.seed}", flush=True)
            found[f"{kind} {accuracy:g}"] = climb(learn, others, noise, config, options.steps)
            about = {"rooms": options.rooms, "measure": options.measure, "frames": options.frames, "config": asdict(config)}
            write_text(options.out, json.dumps({**about, "classes": CLASSES, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
