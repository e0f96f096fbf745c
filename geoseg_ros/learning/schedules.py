"""Learning rates over a training.

A schedule gives the factor that the rate of every parameter group is multiplied with. It follows the progress and not the number of steps,
so that it also fits a training that is limited by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, float], float]
"""From the number of the step (0 for the first) and the progress of the training (0 .. 1) to the factor."""


def constant(step: int, progress: float) -> float:
    """The rates as they are."""
    return 1.0


def cosine(final: float = 0.0) -> Schedule:
    """From 1 to ``final`` along half a cosine (Loshchilov & Hutter, "SGDR", ICLR 2017)."""

    def factor(step: int, progress: float) -> float:
        return _between(1.0, final, progress)

    return factor


def one_cycle(rise: float = 0.3, first: float = 1 / 25, final: float = 4e-6) -> Schedule:
    """Up from ``first`` to 1 in the share ``rise`` of the training, then down to ``final``, both along half a cosine.

    Smith & Topin, "Super-Convergence" (2018); the defaults are those of ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    def factor(step: int, progress: float) -> float:
        if progress < rise:
            return _between(first, 1.0, progress / rise)
        return _between(1.0, final, (progress - rise) / (1 - rise))

    return factor


def with_warm_up(schedule: Schedule, steps: int) -> Schedule:
    """``schedule``, raised linearly from 0 over the first ``steps`` steps."""

    def factor(step: int, progress: float) -> float:
        return min(1.0, (step + 1) / steps) * schedule(step, progress)

    return factor


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
