"""A presence test in front of a method whose foreground is forced: its masks, only where another method marks something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from geoseg_ros.evaluate.items import CosegSet, Method, Prediction, Predictions


class Judge:
    """A method whose predictions do not depend on the seed, asked once per set; those of the last set are kept."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._last: tuple[CosegSet, Predictions] | None = None

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """The predictions of the method."""
        if self._last is None or self._last[0] is not items:
            self._last = items, self._method(items, seed)
        return self._last[1]


class Gated:
    """``method`` where ``judge`` marks something, nothing where it does not; score and confidence of presence are the judge's."""

    def __init__(self, method: Method, judge: Method) -> None:
        self._method, self._judge = method, judge

    def __call__(self, items: CosegSet, seed: int) -> Predictions:
        """Predictions in the modalities that both of them do."""
        found = self._method(items, seed)
        if found.images is None and found.clouds is None:
            return found
        judged = self._judge(items, seed)
        return Predictions(_gated(found.images, judged.images), _gated(found.clouds, judged.clouds), found.notes)


def _gated(predictions: Sequence[Prediction] | None, judged: Sequence[Prediction] | None) -> list[Prediction] | None:
    if predictions is None or judged is None:
        return None
    return [replace(judge, mask=prediction.mask & bool(judge.mask.any())) for prediction, judge in zip(predictions, judged, strict=True)]
