"""Table 3 of 3D-SC on pairs of simulated instances: what each step of the pseudo labels adds to the adapter.

    python -m benchmarks.tables.parts_ladder --pairs 2 --measure 2 --steps 300 --seeds 0 1 2 --out ladder.json

Every row trains an adapter on the same pairs of instances with other pseudo labels; PCK is measured on instances that it has not seen, of
the families that it learnt from and of others. Tokens alone are the first row. ``filters`` counts them on the same pairs, see
``parts_filters``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from benchmarks.tables.parts_filters import GEODESIC, QUICK, Views, prepared, tables
from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.evaluate.parts.pck import Found, by_kind, nearest_places, summary
from geoseg_ros.evaluate.parts.world import Pair, make_pairs
from geoseg_ros.files import write_text
from geoseg_ros.methods.parts.adapter import Adapter, levelled
from geoseg_ros.methods.parts.candidates import Candidates, candidates, capped, geodesic_error
from geoseg_ros.methods.parts.training import AdapterTraining, LabelledPair, train_adapter
from geoseg_ros.methods.parts.views import GRID
from geoseg_ros.simulation.part_truth import corresponding

LEARN = ("chair", "armchair", "bed", "toilet", "monitor", "cabinet", "bag")
UNSEEN = ("sofa", "office_chair", "drawer_unit")
FIRST_MEASURED = 50_000  # seeds of instances from here on are measured
ROWS = ("pseudo labels", "+ cycle", "+ geodesic", "+ descriptors", "+ cap")


def labels_of(row: str, views: Views, seed: int) -> Candidates:
    """The pseudo labels of a row of the ladder."""
    level = ROWS.index(row)
    found = candidates(*views, descriptor_weight=1 / 3 if level >= 3 else 0.0, cycle=0.05 if level >= 1 else None)
    if level >= 2:
        found = found.select(geodesic_error(*views, found.pairs) <= GEODESIC)
    return capped(views[0], found, seed=seed) if level >= 4 else found


def labelled(views: Views, pairs: NDArray[np.int64]) -> LabelledPair:
    """Pseudo labels as the training takes them."""
    at = [(view.cell[rows] + 0.5) / GRID for view, rows in zip(views, pairs.T, strict=True)]
    return LabelledPair(views[0].tokens, views[1].tokens, at[0], at[1], (views[0].extent / GRID, views[1].extent / GRID))


def features(tokens: torch.Tensor, adapter: Adapter | None) -> NDArray[np.float32]:
    """Unit features [GRID, GRID, D] of tokens [h, w, D]."""
    levels = tokens.permute(2, 0, 1)[None]
    with torch.inference_mode():
        found = levelled(levels) if adapter is None else adapter(levels)
        dense = torch.nn.functional.normalize(interpolate(found, (GRID, GRID), mode="bilinear", align_corners=False), dim=1)
    return dense[0].permute(1, 2, 0).numpy()


def measure(pairs: Sequence[tuple[Pair, torch.Tensor, torch.Tensor]], adapter: Adapter | None) -> list[Found]:
    """Key points of every pair, found both with the whole picture to choose from."""
    results = []
    for pair, first, second in pairs:
        sides = (float(len(pair.source.mask)), float(len(pair.target.mask)))
        place = nearest_places(features(first, adapter), features(second, adapter), pair.source_at, sides)
        results.append(Found(place, pair.target_at, pair.target.extent, pair.mirror_at, pair.source.object.family))
    return results


def with_tokens(pairs: Sequence[Pair], backbone: ImageBackbone) -> list[tuple[Pair, torch.Tensor, torch.Tensor]]:
    """Pairs and the tokens of their pictures."""
    first, second = (
        [backbone.tokens(s.image[None])[0][0].float().cpu() for s in side]
        for side in zip(*((p.source, p.target) for p in pairs), strict=True)
    )
    return list(zip(pairs, first, second, strict=True))


def precision(pair: Pair, views: Views, pairs: NDArray[np.int64]) -> float:
    """Share of the pseudo labels with a known truth that are right within a tenth of the diagonal; NaN without any."""
    step = len(pair.source.mask) / GRID
    seen = []
    for shot, view, rows in zip((pair.source, pair.target), views, pairs.T, strict=True):
        pixel = ((view.cell[rows] + 0.5) * step).astype(int)
        seen.append(shot.xyz[pixel[:, 0], pixel[:, 1]])
    error = np.linalg.norm(corresponding(pair.source.object, pair.target.object, seen[0]) - seen[1], axis=1) / pair.target.object.diagonal
    error = error[np.isfinite(error)]
    return float((error <= 0.1).mean()) if len(error) else float("nan")


def ladder(options: argparse.Namespace, seed: int, backbone: ImageBackbone) -> dict[str, Any]:
    """All rows of one seed."""
    began = time.monotonic()

    def log(text: str) -> None:
        print(f"seed {seed}, {time.monotonic() - began:.0f} s: {text}", file=sys.stderr, flush=True)

    config = replace(QUICK, frame=options.frame)
    material = prepared(make_pairs(LEARN, options.pairs, seed), backbone, config)
    log(f"{len(material)} pairs to learn from")
    tests = {
        "unseen instances": with_tokens(make_pairs(LEARN, options.measure, seed, FIRST_MEASURED), backbone),
        "unseen families": with_tokens(make_pairs(UNSEEN, options.measure, seed, FIRST_MEASURED), backbone),
    }
    log("pairs to measure")
    rows: dict[str, Any] = {"filters": tables(material)}
    log("filters")
    for row in ("backbone", *ROWS):
        adapter, about = None, {}
        if row != "backbone":
            labels = [(pair, views, labels_of(row, views, seed)) for pair, views in material]
            usable = [(p, v, found) for p, v, found in labels if len(found.pairs) >= 2]
            right = [precision(p, v, found.pairs) for p, v, found in usable]
            about = {"labels": float(np.mean([len(f.pairs) for _, _, f in labels])), "right": float(np.nanmean(right))}
            training = AdapterTraining(steps=options.steps, rate=options.rate, seed=seed)
            adapter = train_adapter([labelled(v, f.pairs) for _, v, f in usable], training)
        found = {name: measure(pairs, adapter) for name, pairs in tests.items()}
        rows[row] = {**about, **{name: summary(f) for name, f in found.items()}, "kinds": by_kind([f for g in found.values() for f in g])}
        log(f"{row}: " + ", ".join(f"{n} {rows[row][n]['pck0.1_point']:.3f}" for n in tests) + f" {about}")
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=2, help="of each family to learn from (default %(default)s)")
    parser.add_argument("--measure", type=int, default=2, help="pairs of each family that are measured (default %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="of each training (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default %(default)s)")
    parser.add_argument("--frame", default="full", help="what descriptors know of the axes (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="geoseg_tiny")
    parser.add_argument("--out", help="JSON")
    options = parser.parse_args(arguments)
    backbone, result = open_backbone(options.backbone), dict[str, Any]()
    for seed in options.seeds:
        result[f"seed {seed}"] = ladder(options, seed, backbone)
        if options.out:
            write_text(options.out, json.dumps({"options": vars(options), **result}, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
