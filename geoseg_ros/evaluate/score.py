"""The figures of one method on one set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geoseg_ros.evaluate.items import Item, Prediction, check_predictions
from geoseg_ros.evaluate.metrics import auroc, bootstrap, calibration_error, count, iou, mean, micro_interval, micro_iou

Figures = dict[str, Any]


def figures(items: Sequence[Item[Any]], predictions: Sequence[Prediction], *, seed: int = 0) -> Figures:
    """The figures of one modality.

    Means are over the items that show the target; the others only count for presence.

    Args:
        items: measured items of one modality.
        predictions: one per item, in order.
        seed: of the bootstrap intervals (95 %, over items).

    Returns:
        ``items``, ``absent``: number of items with and without the target.
        ``iou``: mean over items of the IoU (macro; J for images), ``iou_interval``, ``worst`` (name and IoU of the worst item).
        ``micro_iou``: over all pixels or points of all items together, so false marks in items without the target lower it;
        ``micro_interval``.
        ``item_iou``: IoU of each item that shows the target, by name.
        ``accuracy``, ``precision``: means of :meth:`~geoseg_ros.evaluate.metrics.Counts.accuracy` and ``precision``.
        ``other``: mean IoU with the object of another kind; NaN where no item has one.
        ``found``, ``false_found``: share of the items with, and without, the target in which something was marked.
        ``auroc``: of the presence score; ``ece``: calibration error of the presence confidence. NaN from a method without them.
    """
    check_predictions(items, predictions)
    pairs = list(zip(items, predictions, strict=True))
    counts = {item.name: count(prediction.mask, item.truth, item.counted) for item, prediction in pairs}
    if len(counts) < len(items):
        raise ValueError("items: expected different names")
    shown = [(item, prediction) for item, prediction in pairs if item.shown]
    absent = [(item, prediction) for item, prediction in pairs if not item.shown]
    own = {item.name: counts[item.name] for item, _ in shown}
    ious = {name: c.iou() for name, c in own.items()}
    result: Figures = {"items": len(shown), "absent": len(absent), "iou": mean(list(ious.values()))}
    result["item_iou"] = ious
    result["iou_interval"] = bootstrap(list(ious.values()), seed=seed)
    worst = min(ious, key=lambda name: ious[name], default=None)
    result["worst"] = None if worst is None else {"item": worst, "iou": ious[worst]}
    result["micro_iou"] = micro_iou(list(counts.values()))
    result["micro_interval"] = micro_interval(list(counts.values()), seed=seed)
    result["accuracy"] = mean([c.accuracy() for c in own.values()])
    result["precision"] = mean([c.precision() for c in own.values()])
    result["other"] = mean([iou(prediction.mask, item.other) for item, prediction in pairs if item.other is not None and item.other.any()])
    result["found"] = mean([bool(prediction.mask.any()) for _, prediction in shown])
    result["false_found"] = mean([bool(prediction.mask.any()) for _, prediction in absent])
    scores = [[prediction.score for _, prediction in side if prediction.score is not None] for side in (shown, absent)]
    complete = len(scores[0]) + len(scores[1]) == len(items)
    result["auroc"] = auroc(scores[0], scores[1]) if complete else float("nan")
    sure = [(prediction.confidence, item.shown) for item, prediction in pairs if prediction.confidence is not None]
    # with one kind of items alone a constant prediction would look calibrated
    useful = len(sure) == len(items) and bool(shown) and bool(absent)
    result["ece"] = calibration_error([c for c, _ in sure], [s for _, s in sure]) if useful else float("nan")
    return result
