"""``geoseg evaluate --table parts``: are places found again on other instances?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, normalize

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import resize
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.keypoints import KeyPointPair, read_pairs
from geoseg_ros.evaluate.parts.pck import Found, by_kind, nearest_places, summary
from geoseg_ros.evaluate.parts.published import published_markdown
from geoseg_ros.evaluate.parts.world import SIDE, make_pairs
from geoseg_ros.io.folders import read_image
from geoseg_ros.simulation.part_truth import FRONTED

Floats = NDArray[np.floating]
Features = Callable[[torch.Tensor], torch.Tensor]
"""Tokens [1, D, h, w] to features [1, E, h, w]."""
_GRID = 60  # cells along a side, as in the papers
_FIRST = 50_000  # seeds of simulated instances from here on are for evaluation
_SPLITS = ("test", "test_cross_species", "test_cross_family")


def tokens_alone(tokens: torch.Tensor) -> torch.Tensor:
    """The backbone's tokens without the mean of the picture."""
    return tokens - tokens.mean(dim=(2, 3), keepdim=True)


def simulated(families: Sequence[str], seeds: Sequence[int], items: int) -> Iterator[tuple[str, Any]]:
    """Pairs of simulated instances, with the name of what they are counted under: the seed."""
    for seed in seeds:
        for pair in make_pairs(families or FRONTED, items, seed, _FIRST):
            yield f"seed {seed}", pair


def measure(
    pairs: Iterator[tuple[str, Any]], backbone: ImageBackbone, features: Features, log: Callable[[str], object]
) -> dict[str, list[Found]]:
    """Key points of every pair by nearest features, the whole target to choose from; by what they are counted under."""
    found: dict[str, list[Found]] = {}
    for name, pair in pairs:
        photographs = isinstance(pair, KeyPointPair)
        result = _photographs(pair, backbone, features) if photographs else _shots(pair, backbone, features)
        found.setdefault(name, []).append(result)
        if photographs and pair.geo_aware.any():
            kept = Found(result.found[pair.geo_aware], result.true[pair.geo_aware], result.extent, kind=result.kind)
            found.setdefault(f"{name}, geometry-aware", []).append(kept)
        if sum(map(len, found.values())) % 20 == 0:
            log(f"{sum(map(len, found.values()))} pairs")
    return found


def evaluate_parts(
    backbone: ImageBackbone,
    root: Path | None,
    families: Sequence[str],
    seeds: Sequence[int],
    items: int | None,
    log: Callable[[str], object],
    methods: dict[str, Features] | None = None,
) -> tuple[dict[str, Any], str]:
    """All rows of the table, and its Markdown.

    Args:
        root: folder of SPair-71k, SPair-U or AP-10K; None: simulated instances.
        items: pairs of each family or category.
        methods: name -> features; None: the backbone alone.

    Raises:
        InputError: an unknown family, or data that are not as expected.
    """
    unknown = [name for name in families if name not in FRONTED]
    if unknown:
        raise InputError(f"--families {unknown[0]}: --table parts has {', '.join(FRONTED)}")
    rows: dict[str, Any] = {}
    for name, features in (methods or {backbone.name: tokens_alone}).items():
        pairs = simulated(families, seeds, items or 4) if root is None else _real(root, items)
        for where, results in measure(pairs, backbone, features, log).items():
            rows[f"{name}, {where}"] = {**summary(results), "kinds": by_kind(results)}
    return {"table": "parts", "backbone": backbone.name, "rows": rows}, _markdown(rows, root is not None)


def _real(root: Path, items: int | None) -> Iterator[tuple[str, KeyPointPair]]:
    splits = [split for split in _SPLITS if (root / "PairAnnotation" / split).is_dir()] or ["test"]
    for split in splits:
        for pair in read_pairs(root, split, items):
            yield split, pair


def _shots(pair: Any, backbone: ImageBackbone, features: Features) -> Found:
    first, second = (_features(shot.image, backbone, features) for shot in (pair.source, pair.target))
    place = nearest_places(first, second, pair.source_at, (float(len(pair.source.mask)), float(len(pair.target.mask))))
    return Found(place, pair.target_at, pair.target.extent, pair.mirror_at, pair.source.object.family)


def _photographs(pair: KeyPointPair, backbone: ImageBackbone, features: Features) -> Found:
    """Pictures are padded to squares; features are compared on the whole square."""
    squares, offsets = zip(*(_square(read_image(file)) for file in (pair.source, pair.target)), strict=True)
    first, second = (_features(square, backbone, features) for square in squares)
    sides = (float(len(squares[0])), float(len(squares[1])))
    place = nearest_places(first, second, pair.source_at + offsets[0], sides) - offsets[1]
    return Found(place, pair.target_at, pair.extent, kind=pair.category)


def _square(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture in the middle of a square whose rest repeats its border, and where its corner (x, y) came."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.pad(image, ((top, side - height - top), (left, side - width - left), (0, 0)), mode="edge")
    return padded, np.array([left, top], np.float64)


def _features(image: NDArray[np.uint8], backbone: ImageBackbone, features: Features) -> Floats:
    side = round(SIDE / backbone.stride) * backbone.stride
    tokens = backbone.tokens(resize(image, side, side)[None])[0].float().cpu().permute(0, 3, 1, 2)
    with torch.inference_mode():
        dense = normalize(interpolate(features(tokens), (_GRID, _GRID), mode="bilinear", align_corners=False), dim=1)
    return dense[0].permute(1, 2, 0).numpy()


def _markdown(rows: dict[str, Any], photographs: bool) -> str:
    lines = ["# Places on other instances, PCK in percent", ""]
    lines += ["| | .10 image | .10 point | .05 point | .01 point | wrong side | key points |", "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        values = [row["pck0.1_image"], row["pck0.1_point"], row["pck0.05_point"], row["pck0.01_point"], row["wrong_side"]]
        cells = ["-" if np.isnan(v) else f"{100 * v:.1f}" for v in values]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['points']:.0f} |")
    return "\n".join([*lines, "", *([published_markdown()] if photographs else [])]) + "\n"
