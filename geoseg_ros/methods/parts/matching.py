"""Candidates between two objects, and the checks that they pass: relaxed cycle consistency, and the bicyclic geodesic error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.geodesics import Geodesics, bicyclic_error
from geoseg_ros.settings import Settings, setting

Floats = NDArray[np.floating]
_BLOCK = 1024  # rows that are compared at once


@dataclass(frozen=True)
class MatchConfig(Settings):
    """Which candidates are kept."""

    cycle: float = setting(0.05, "largest distance to where the way back ends", unit="share of the diagonal", range=(0.0, 10.0))
    geodesic: float = setting(0.05, "largest bicyclic geodesic error", unit="share of the diagonal", range=(0.0, 10.0))


@dataclass(frozen=True)
class Matches:
    """K candidates, one for each row that was asked for.

    Attributes:
        source, target: int64 [K], rows of the two objects.
        score: float32 [K], cosine of their descriptors.
        cycle: float64 [K], distance between the source and where the way back ends, as a share of the source's diagonal; NaN: not checked.
        geodesic: float64 [K], bicyclic geodesic error; NaN: not checked; infinite across parts that are not connected.
        kept: bool [K], passed every check that was made.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    score: NDArray[np.float32]
    cycle: NDArray[np.float64]
    geodesic: NDArray[np.float64]
    kept: NDArray[np.bool_]


def nearest(query: Floats, target: Floats) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar row of ``target`` [V, D] for every row of ``query`` [M, D], int64 [M], and their cosine float32 [M].

    Both have unit rows. Of equal ones the first is taken.
    """
    query, target = np.asarray(query, np.float32), np.asarray(target, np.float32)
    if not len(target):
        raise ValueError("target: expected at least one row")
    best, score = np.empty(len(query), np.int64), np.empty(len(query), np.float32)
    for start in range(0, len(query), _BLOCK):
        cosine = query[start : start + _BLOCK] @ target.T
        best[start : start + _BLOCK] = cosine.argmax(axis=1)
        score[start : start + _BLOCK] = cosine.max(axis=1)
    return best, score


def match(
    query: Floats,
    target: Floats,
    *,
    rows: NDArray[np.integer] | None = None,
    query_xyz: Floats | None = None,
    query_geodesics: Geodesics | None = None,
    target_geodesics: Geodesics | None = None,
    check: tuple[Floats, Floats] | None = None,
    config: MatchConfig | None = None,
) -> Matches:
    """Candidates from one object to another by nearest descriptors, and their checks.

    Args:
        query: unit rows [M, D] of all points of the first object.
        target: unit rows [V, D] of all points of the second.
        rows: int [K], the points of the first object that are looked for; None: all.
        query_xyz: [M, 2 or 3], where the points of the first object are; with it the way back is checked.
        query_geodesics, target_geodesics: the two surfaces, of M and V points; with both the bicyclic geodesic error is checked.
        check: other descriptors [M, E] and [V, E] that the geodesic check finds its counterparts with, such as those of geometry alone;
            None: ``query`` and ``target``, so that only the way back can differ.
        config: thresholds.
    """
    config = config or MatchConfig()
    query, target = np.asarray(query, np.float32), np.asarray(target, np.float32)
    chosen = np.arange(len(query)) if rows is None else np.asarray(rows, np.int64)
    there, score = nearest(query[chosen], target)
    cycle = geodesic = np.full(len(chosen), np.nan)
    kept = np.ones(len(chosen), bool)
    if query_xyz is not None:
        places = np.asarray(query_xyz, np.float64)
        size = max(float(np.linalg.norm(np.ptp(places, axis=0))), 1e-12)
        reached, inverse = np.unique(there, return_inverse=True)
        back = nearest(target[reached], query)[0][inverse]
        cycle = np.linalg.norm(places[back] - places[chosen], axis=1) / size
        kept &= cycle <= config.cycle
    if query_geodesics is not None and target_geodesics is not None:
        geodesic = _geodesic(query_geodesics, target_geodesics, chosen, there, kept, check or (query, target))
        kept &= geodesic <= config.geodesic
    return Matches(chosen, there, score, cycle, geodesic, kept)


def _geodesic(
    source: Geodesics,
    target: Geodesics,
    rows: NDArray[np.int64],
    there: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    check: tuple[Floats, Floats],
) -> NDArray[np.float64]:
    """Bicyclic error float64 [K] of the candidates that are still ``wanted``, infinite for the others."""
    first, second = (np.asarray(c, np.float32) for c in check)
    error = np.full(len(rows), np.inf)
    pairs = np.stack([rows, there], axis=1)[wanted]
    if not len(pairs):
        return error
    forward, backward = np.full(len(first), -1, np.int64), np.full(len(second), -1, np.int64)
    for values, left, right, column in ((forward, first, second, 0), (backward, second, first, 1)):
        used = np.unique(pairs[:, column])
        values[used] = nearest(left[used], right)[0]
    error[wanted] = bicyclic_error(source, target, pairs, forward, backward)
    return error
