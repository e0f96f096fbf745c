"""Percentage of correct key points (PCK), and how often left and right are confused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
SHARES = (0.1, 0.05, 0.01)
_APART = 0.2  # share of the extent that a place and its mirror image are apart where sides are counted


@dataclass(frozen=True, eq=False)
class Found:
    """The key points of one pair of pictures.

    Attributes:
        found, true: float64 [K, 2], pixels in the target. extent: longer side of the target's box, pixels.
        mirror: float64 [K, 2], where the mirror images are, NaN where unknown; None: sides are not counted.
        kind: category.
    """

    found: Floats
    true: Floats
    extent: float
    mirror: Floats | None = None
    kind: str = ""

    @property
    def error(self) -> Floats:
        """float64 [K], shares of the extent."""
        return np.linalg.norm(np.asarray(self.found) - self.true, axis=1) / self.extent

    @property
    def wrong_side(self) -> NDArray[np.bool_]:
        """bool [S], of the key points far from their mirror images: nearer to that than to the true place."""
        if self.mirror is None:
            return np.zeros(0, bool)
        counted = np.linalg.norm(self.mirror - self.true, axis=1) > _APART * self.extent  # NaN is not counted
        to_mirror = np.linalg.norm(self.found - self.mirror, axis=1) / self.extent
        return np.asarray((to_mirror < self.error)[counted])


def pck(results: Sequence[Found], share: float = 0.1) -> dict[str, float]:
    """PCK of the share per key point (all in one, as DIY-SC) and per image (mean of the pairs' means, as 3D-SC). NaN without key points."""
    right = [found.error <= share for found in results if len(found.true)]
    if not right:
        return {"point": float("nan"), "image": float("nan")}
    return {"point": float(np.concatenate(right).mean()), "image": float(np.mean([r.mean() for r in right]))}


def summary(results: Sequence[Found]) -> dict[str, float]:
    """PCK at the three shares both ways, share of key points on the wrong side, and their number."""
    row: dict[str, float] = {}
    for share in SHARES:
        row |= {f"pck{share:g}_{way}": value for way, value in pck(results, share).items()}
    sides = np.concatenate([found.wrong_side for found in results]) if results else np.zeros(0, bool)
    return {**row, "wrong_side": float(sides.mean()) if len(sides) else float("nan"), "points": float(sum(len(f.true) for f in results))}


def by_kind(results: Sequence[Found]) -> dict[str, dict[str, float]]:
    """:func:`summary` of each category, in the order of their names."""
    return {kind: summary([f for f in results if f.kind == kind]) for kind in sorted({f.kind for f in results})}


def nearest_places(source: Floats, target: Floats, at: Floats, sides: tuple[float, float], mask: NDArray[np.bool_] | None = None) -> Floats:
    """Where key points are in the target, by the nearest feature.

    Args:
        source, target: feature maps [h, w, D] with unit features.
        at: [K, 2], pixels (u, v) in the source.
        sides: of the two square pictures, pixels.
        mask: bool [h, w], cells of the target that may be chosen; None: all.

    Returns:
        float64 [K, 2], pixels (u, v) of the middles of cells.
    """
    height, width = source.shape[:2]
    place = np.asarray(at) + 0.5
    row = (place[:, 1] / sides[0] * height).astype(int).clip(0, height - 1)
    column = (place[:, 0] / sides[0] * width).astype(int).clip(0, width - 1)
    score = source[row, column] @ target.reshape(-1, target.shape[2]).T
    if mask is not None:
        score[:, ~mask.ravel()] = -np.inf
    best = score.argmax(axis=1)
    cell = np.stack([best % target.shape[1], best // target.shape[1]], axis=1)
    return np.asarray((cell + 0.5) * sides[1] / (target.shape[1], target.shape[0]) - 0.5)


Matcher = Callable[[Floats], Floats]
"""Tokens [h, w, D] of a picture to unit features [H, W, E] of it."""
