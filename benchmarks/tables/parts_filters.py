"""Table 2 of 3D-SC on pairs of simulated instances: how many wrong candidates each filter lets through.

    python -m benchmarks.tables.parts_filters --pairs 1 --seeds 0 1 2 --out filters.json

Every cell of a picture is matched to a cell of a picture of another instance by tokens, or by tokens and descriptors of the surface,
with and without relaxed cycle consistency. A candidate is wrong where it leads more than a tenth of the diagonal away from the true place.
The false positive rate (FPR) is the share of the wrong candidates that a filter keeps. The geodesic filter has the paper's threshold; the
others are set so that over all pairs they keep as many candidates as it does.
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
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.evaluate.parts.world import Pair, Shot, make_pairs
from geoseg_ros.files import write_text
from geoseg_ros.geometry.geodesics import Geodesics
from geoseg_ros.geometry.meshes import Mesh
from geoseg_ros.methods.parts.candidates import FILTERS, candidates
from geoseg_ros.methods.parts.descriptors import DescriptorConfig, describe
from geoseg_ros.methods.parts.views import GRID, ObjectView, Surface, view_of
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.simulation.part_truth import FRONTED, corresponding

VERTICES = 1000  # of a surface
WRONG, GEODESIC = 0.1, 0.05  # shares of the diagonal
SETS = {"tokens": 0.0, "tokens + descriptors": 1 / 3}
CYCLES = {"cycle": 0.05, "every cell": None}
Views = tuple[ObjectView, ObjectView]
QUICK = DescriptorConfig(elevations=(25.0,), views=ViewConfig(size=160, views=8, yaw=45.0))


def surface_of(mesh: Mesh, backbone: ImageBackbone, config: DescriptorConfig) -> Surface:
    """Distances and descriptors of a mesh."""
    return Surface(mesh, Geodesics(mesh), describe(mesh, backbone, config))


def lifted(shot: Shot, surface: Surface, backbone: ImageBackbone) -> ObjectView:
    """A shot with what its cells show."""
    return view_of(shot.image, shot.mask, shot.camera, surface, backbone)


def prepared(pairs: Sequence[Pair], backbone: ImageBackbone, config: DescriptorConfig) -> list[tuple[Pair, Views]]:
    """Pairs with the views of both pictures."""
    found = []
    for pair in pairs:
        began = time.monotonic()
        shots = (pair.source, pair.target)
        surfaces = [surface_of(shot.object.surface(VERTICES), backbone, config) for shot in shots]
        first, second = (lifted(shot, surface, backbone) for shot, surface in zip(shots, surfaces, strict=True))
        found.append((pair, (first, second)))
        print(f"{pair.source.object.family}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def cell_places(shot: Shot, view: ObjectView) -> NDArray[np.float64]:
    """float64 [n, 3]: the true place that the middle of each cell shows; NaN at the border."""
    pixel = ((view.cell + 0.5) * len(shot.mask) / GRID).astype(int)
    return shot.xyz[pixel[:, 0], pixel[:, 1]].astype(np.float64)


def errors_of(pair: Pair, views: Views, weight: float, cycle: float | None) -> dict[str, NDArray[np.float64]]:
    """Of the candidates with a known truth: ``truth``, the distance to the true place (share of the diagonal), and each filter's error."""
    found = candidates(*views, weight, cycle)
    true = corresponding(pair.source.object, pair.target.object, cell_places(pair.source, views[0])[found.pairs[:, 0]])
    reached = cell_places(pair.target, views[1])[found.pairs[:, 1]]
    truth = np.linalg.norm(reached - true, axis=1) / pair.target.object.diagonal
    rows = np.isfinite(truth)
    return {"truth": truth[rows], **{name: error(*views, found.pairs[rows]) for name, error in FILTERS.items()}}


def tables(material: Sequence[tuple[Pair, Views]]) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`table` of every set of features, with and without the way back."""
    return {
        f"{name}, {way}": table([errors_of(pair, views, weight, cycle) for pair, views in material])
        for name, weight in SETS.items()
        for way, cycle in CYCLES.items()
    }


def table(errors: list[dict[str, NDArray[np.float64]]]) -> dict[str, dict[str, float]]:
    """Rows of one feature set over all pairs: FPR, candidates per pair, and the share of what is kept that is wrong."""
    joined = {name: np.concatenate([e[name] for e in errors]) for name in errors[0]}
    wrong = joined["truth"] > WRONG
    passed = int((joined["geodesic"] <= GEODESIC).sum())
    rows: dict[str, dict[str, float]] = {}
    for name, error in [("none", np.zeros(len(wrong))), *((n, joined[n]) for n in FILTERS)]:
        limit = GEODESIC if name == "geodesic" else np.inf if name == "none" else np.partition(error, passed - 1)[passed - 1]
        kept = error <= limit
        rows[name] = {
            "fpr": float(kept[wrong].mean()) if wrong.any() else 0.0,
            "per_pair": float(kept.sum() / len(errors)),
            "wrong": float(wrong[kept].mean()) if kept.any() else 0.0,
            "right_kept": float(kept[~wrong].mean()),
            "limit": float(limit),
        }
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="+", default=list(FRONTED))
    parser.add_argument("--pairs", type=int, default=1, help="of each family and seed (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", nargs="+", default=["full", "gravity"], help="what descriptors know of the axes")
    parser.add_argument("--backbone", default="geoseg_tiny")
    parser.add_argument("--out", help="JSON")
    options = parser.parse_args(arguments)
    backbone, result = open_backbone(options.backbone), dict[str, Any]()
    for seed in options.seeds:
        result[f"seed {seed}"] = {}
        for frame in options.frames:
            material = prepared(make_pairs(options.families, options.pairs, seed), backbone, replace(QUICK, frame=frame))
            result[f"seed {seed}"][frame] = tables(material)
            if options.out:
                write_text(options.out, json.dumps({"options": vars(options), **result}, indent=1) + "\n")
    if not options.out:
        print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
