"""The table of the table-top scenes: which figures, for which inputs, beside which trivial baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.evaluate.metrics import iou, mean
from geoseg_ros.evaluate.tabletop import SPLITS, VARIANTS, Supervision, compose, read_scene, without_colour
from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.registry import open_method
from geoseg_ros.packs.bank import BackgroundBank
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig

Log = Callable[[str], object]


class Tabletop:
    """The scenes of one split, read once."""

    def __init__(self, root: Path, split: str) -> None:
        self.split = split
        self.kinds = tuple(SPLITS[split])
        self.training = {k: [read_scene(root, n, k) for n in SPLITS[split][k][0]] for k in self.kinds}
        self.measured = {k: [read_scene(root, n, k) for n in SPLITS[split][k][1]] for k in self.kinds}

    def other(self, kind: str) -> str:
        """The other of the two kinds."""
        return self.kinds[1 - self.kinds.index(kind)]

    def pipeline(self, backbone: ImageBackbone, bank: BackgroundBank, variant: Supervision, config: PipelineConfig) -> Pipeline:
        """Two packs, one of each kind, loaded together."""
        packs = []
        for kind in self.kinds:
            own, rest = self.training[kind], self.training[self.other(kind)]
            material = Material(
                kind,
                [s.photo for s in own],
                [s.cloud for s in own] if variant.clouds else [],
                [s.photo for s in rest] if variant.without else [],
                [s.cloud for s in rest] if variant.without and variant.clouds else [],
            )
            packs.append(open_method("contrast").learn(material, Context(backbone, bank, config.scene, config.coseg)))
        return Pipeline(backbone, packs, config)

    def scenes(self, pipeline: Pipeline) -> dict[str, object]:
        """IoU in clouds (colour, XYZ only) and J in images of the measured scenes, each with one kind of object on the table.

        ``other``: IoU of the wrong label with the objects. Means over scenes.
        """
        row: dict[str, object] = {}
        seconds: dict[str, list[float]] = {"cloud": [], "image": []}
        for kind in self.kinds:
            label = pipeline.labels.names.index(kind) + 1
            figures: dict[str, list[float]] = {}
            for scene in self.measured[kind]:
                valid = scene.cloud.valid()
                truth = (scene.instance > 0) & valid
                for way, cloud in (("colour", scene.cloud), ("xyz", without_colour(scene.cloud))):
                    start = time.perf_counter()
                    found = pipeline.process_cloud(cloud).label
                    seconds["cloud"].append(time.perf_counter() - start)
                    figures.setdefault(f"iou_{way}", []).append(iou((found == label) & valid, truth))
                    figures.setdefault(f"other_{way}", []).append(iou((found > 0) & (found != label) & valid, truth))
                start = time.perf_counter()
                mask = pipeline.process_image(scene.photo).mask
                seconds["image"].append(time.perf_counter() - start)
                figures.setdefault("j", []).append(iou(mask == label, scene.mask))
                figures.setdefault("p_acc", []).append(float(((mask == label) == scene.mask).mean()))
                figures.setdefault("other_j", []).append(iou((mask > 0) & (mask != label), scene.mask))
            worst = {"worst_iou_colour": min(figures["iou_colour"]), "worst_j": min(figures["j"])}
            row[kind] = {name: mean(values) for name, values in figures.items()} | worst
        row["seconds"] = {name: float(np.median(values)) for name, values in seconds.items()}
        return row

    def switch(self, pipeline: Pipeline) -> dict[str, object]:
        """The switch test: a box and a cylinder on one real table. Each kind is asked for alone, of the very same clouds.

        The prediction must follow the pictures: ``shown`` is the IoU with the kind asked for, ``other`` with the kind not asked for.
        """
        row: dict[str, object] = {}
        first, second = self.kinds
        pairs = list(zip(self.measured[first], self.measured[second] * 3, strict=False))
        for way in Domain:
            shown, other = [], []
            for rank, (a, b) in enumerate(pairs):
                cloud, truth = compose(a, b, rank)
                if way is Domain.SHADED:
                    cloud = without_colour(cloud)
                result = pipeline.process_cloud(cloud)
                for wanted, kind in enumerate(self.kinds, 1):
                    found = result.label == pipeline.labels.names.index(kind) + 1
                    shown.append(iou(found, truth == wanted))
                    other.append(iou(found, truth == 3 - wanted))
            figures = {"shown": mean(shown), "other": mean(other), "worst_shown": min(shown), "n": len(shown)}
            row["colour" if way is Domain.COLOUR else "xyz"] = figures
        return row

    def baselines(self) -> dict[str, object]:
        """What needs no concept at all: every valid point; everything but the planes; the largest proposal."""
        row: dict[str, object] = {}
        for kind in self.kinds:
            figures: dict[str, list[float]] = {"all": [], "minus_planes": [], "largest_proposal": []}
            for scene in self.measured[kind]:
                valid = scene.cloud.valid()
                truth = (scene.instance > 0) & valid
                geometry = analyse_cloud(scene.cloud)
                biggest = np.zeros(len(geometry.xyz), bool)
                if geometry.proposals:
                    biggest[geometry.proposals[0]] = True
                predictions: dict[str, NDArray[np.bool_]] = {
                    "all": valid,
                    "minus_planes": geometry.point_values(geometry.plane < 0) & valid,
                    "largest_proposal": geometry.point_values(biggest) & valid,
                }
                for name, prediction in predictions.items():
                    figures[name].append(iou(prediction, truth))
            row[kind] = {name: mean(values) for name, values in figures.items()}
        pairs = list(zip(self.measured[self.kinds[0]], self.measured[self.kinds[1]] * 3, strict=False))
        objects = [[iou(t > 0, t == w) for w in (1, 2)] for t in (compose(a, b, rank)[1] for rank, (a, b) in enumerate(pairs))]
        row["switch_all_objects"] = mean([value for pair in objects for value in pair])
        return row


def table(root: Path, split: str, backbone: ImageBackbone, bank: BackgroundBank, config: PipelineConfig, log: Log) -> dict[str, object]:
    """Every row for one backbone."""
    log("reading scenes")
    data = Tabletop(root, split)
    rows: dict[str, object] = {}
    for variant in VARIANTS:
        log(variant.name)
        start = time.perf_counter()
        pipeline = data.pipeline(backbone, bank, variant, config)
        trained = time.perf_counter() - start
        rows[variant.name] = {"scenes": data.scenes(pipeline), "switch": data.switch(pipeline), "train_seconds": trained}
    about = {"split": split, "backbone": backbone.name, "supervision": backbone.supervision}
    return {**about, "baselines": data.baselines(), "rows": rows}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown(result: dict) -> str:
    """The figures as Markdown tables."""
    scenes = [_row("packs made from", "kind", "IoU colour (worst)", "IoU XYZ", "wrong label colour / XYZ", "J image (worst)", "P accuracy")]
    switch = [_row("packs made from", "colour: shown / other (worst shown)", "XYZ only: shown / other (worst shown)", "n")]
    scenes.append("|---" * 7 + "|")
    switch.append("|---" * 4 + "|")
    for name, row in result["rows"].items():
        for kind, f in row["scenes"].items():
            if kind != "seconds":
                colour = f"{f['iou_colour']:.3f} ({f['worst_iou_colour']:.2f})"
                wrong = f"{f['other_colour']:.3f} / {f['other_xyz']:.3f}"
                image = f"{f['j']:.3f} ({f['worst_j']:.2f})"
                scenes.append(_row(name, kind, colour, f"{f['iou_xyz']:.3f}", wrong, image, f"{f['p_acc']:.3f}"))
        ways = [row["switch"][way] for way in ("colour", "xyz")]
        switch.append(_row(name, *(f"{w['shown']:.3f} / {w['other']:.3f} ({w['worst_shown']:.2f})" for w in ways), str(ways[0]["n"])))
    for kind, f in result["baselines"].items():
        if isinstance(f, dict):
            value = f"{f['all']:.3f} / {f['minus_planes']:.3f} / {f['largest_proposal']:.3f}"
            scenes.append(_row("nothing: all points / minus planes / largest proposal", kind, value, "", "", "", ""))
    every = f"{result['baselines']['switch_all_objects']:.3f}"
    switch.append(_row("nothing: every object of the table", f"{every} / {every}", f"{every} / {every}", ""))
    head = f"Backbone `{result['backbone']}` ({result['supervision']}), split `{result['split']}`."
    return "\n".join([head, "", *scenes, "", "Switch test:", "", *switch, ""])
