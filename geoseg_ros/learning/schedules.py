"""Learning rates over a training.

A schedule gives the factor by which the rate of every parameter group is multiplied. It depends on the progress rather than on the number
of steps, so it also suits a training that is limited by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, float], float]
"""From the number of the step (0 for the first) and the progress of the training (0 .. 1) to the factor."""


def constant(step: int, progress: float) -> float:
    """Factor 1: the rates stay as they are."""
    return 1.0


def cosine(final: float = 0.0) -> Schedule:
    """From 1 to ``final`` along half a cosine (Loshchilov & Hutter, "SGDR", ICLR 2017)."""

    def factor(step: int, progress: float) -> float:
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def with_warm_up(schedule: Schedule, steps: int) -> Schedule:
    """``schedule``, raised linearly from 0 over the first ``steps`` steps."""

    def factor(step: int, progress: float) -> float:
        return min(1.0, (step + 1) / steps) * schedule(step, progress)

    return factor


def one_cycle(warm_up: float = 0.3, first: float = 1 / 25, last: float = 1e-4) -> Schedule:
    """From ``first`` up to 1 over the share ``warm_up`` of the training, then down to ``last``, both along half a cosine (Smith & Topin,
    "Super-convergence", 2018)."""

    def factor(step: int, progress: float) -> float:
        begin, end, share = (first, 1.0, progress / warm_up) if progress < warm_up else (1.0, last, (progress - warm_up) / (1 - warm_up))
        return begin + (end - begin) * 0.5 * (1 - math.cos(math.pi * share))

    return factor
