"""Every method on every set: rows for machines, tables for people."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, NamedMethod, Predictions
from geoseg_ros.evaluate.metrics import grouped_interval, mean
from geoseg_ros.evaluate.score import figures

Row = dict[str, Any]
Look = Callable[[CosegSet, NamedMethod, int, Predictions], object]
TOO_EASY = 0.6
_KEYS = ("group", "protocol", "modality", "given", "method", "oracle", "trivial", "backbone")
_MEANS = ("iou", "micro_iou", "accuracy", "precision", "other", "found", "false_found", "auroc", "ece")


def measure(
    sets: Sequence[CosegSet],
    methods: Sequence[NamedMethod],
    seeds: Sequence[int],
    log: Callable[[str], object] = lambda text: None,
    look: Look | None = None,
) -> list[Row]:
    """One row per set, method, modality and seed.

    A set that was made by a seed is measured with this one; else a method that is not random runs with the first seed only. A method that
    does not learn runs once per items: on the first set that measures them. A method that cannot do a set
    (:class:`~geoseg_ros.errors.InputError`) gives a row with ``error``. ``look``, where
    given, is called with the predictions of each run.
    """
    rows: list[Row] = []
    done: set[tuple[object, ...]] = set()
    for items in sets:
        for method in methods:
            measured = tuple(item.name for item in items.images), tuple(item.name for item in items.clouds)
            key = (items.group, items.name, items.seed, items.protocol, method.name, measured)
            if not method.learns and key in done:
                continue
            done.add(key)
            log(f"{items.group}, {items.name}, {items.given}, {items.protocol}: {method.name}")
            tried = seeds if items.seed is None else [items.seed]
            for seed in tried if method.random else tried[:1]:
                rows += _rows(items, method, seed, look)
    return rows


def _rows(items: CosegSet, method: NamedMethod, seed: int, look: Look | None) -> list[Row]:
    head = {
        "group": items.group,
        "set": items.name,
        "protocol": items.protocol,
        "given": items.given if method.learns else f"nothing (items as for: {items.given})",
        "method": method.name,
        "oracle": method.oracle,
        "trivial": not (method.learns or method.backbone or method.oracle),
        "backbone": method.backbone,
        "seed": seed if method.random or items.seed is not None else None,
    }
    start = time.perf_counter()
    try:
        predictions = method.run(items, seed)
    except InputError as error:
        return [{**head, "error": str(error)}]
    head["seconds"] = round(time.perf_counter() - start, 2)
    if look is not None:
        look(items, method, seed, predictions)
    if predictions.notes:
        head["notes"] = predictions.notes
    rows = []
    if items.images and predictions.images is not None:
        rows.append({**head, "modality": "images", **figures(items.images, predictions.images)})
    if items.clouds and predictions.clouds is not None:
        rows.append({**head, "modality": "clouds", **figures(items.clouds, predictions.clouds)})
    return rows


def summarise(rows: Iterable[Row]) -> list[Row]:
    """Rows averaged over the sets of a group, with a bootstrap interval of ``iou`` over items within sets. Of several seeds the worst (by
    ``iou``) is reported, and the mean over seeds."""
    groups: dict[tuple[Any, ...], dict[int | None, list[Row]]] = {}
    for row in rows:
        if "error" not in row:
            key = tuple(row[k] for k in _KEYS)
            groups.setdefault(key, {}).setdefault(row["seed"], []).append(row)
    result = []
    for key, by_seed in groups.items():
        means = {seed: _mean(row["iou"] for row in of) for seed, of in by_seed.items()}
        worst = min(means, key=lambda seed: -math.inf if math.isnan(means[seed]) else means[seed])
        chosen = by_seed[worst]
        items = {f"{row['set']} {name}": value for row in chosen for name, value in row["item_iou"].items()}
        low = min(items, key=lambda name: items[name], default=None)
        summary: Row = dict(zip(_KEYS, key, strict=True))
        summary |= {"seeds": sorted(s for s in by_seed if s is not None), "seed": worst}
        summary |= {"sets": len(chosen), "items": sum(r["items"] for r in chosen), "absent": sum(r["absent"] for r in chosen)}
        summary |= {name: _mean(row[name] for row in chosen) for name in _MEANS}
        summary["iou_interval"] = grouped_interval([list(row["item_iou"].values()) for row in chosen])
        summary["iou_mean_of_seeds"] = _mean(means.values())
        summary["set_iou"] = {row["set"]: row["iou"] for row in chosen}
        summary["worst"] = None if low is None else {"item": low, "iou": items[low]}
        summary["seconds"] = sum(row["seconds"] for row in chosen)
        result.append(summary)
    return result


def _mean(values: Iterable[float]) -> float:
    return mean([value for value in values if not math.isnan(value)])


def known(value: Any) -> Any:
    """The value with None in place of every NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: known(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [known(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(result: dict[str, Any]) -> str:
    """The summary as Markdown, a table per group, protocol and modality.

    Args:
        result: ``title``, ``backbone``, ``supervision``, ``command``, ``summary`` and ``rows``.
    """
    lines = [f"# {result['title']}", "", f"Backbone `{result['backbone']}` (trained with: {result['supervision']})."]
    lines += ["", f"Command: `{result['command']}`"]
    tables: dict[tuple[str, str, str], list[Row]] = {}
    for row in result["summary"]:
        tables.setdefault((row["group"], row["protocol"], row["modality"]), []).append(row)
    for (group, protocol, modality), of in tables.items():
        lines += ["", f"## {group}: {modality}, protocol `{protocol}`", ""]
        lines += _figures_table(of, modality, result["backbone"], result["supervision"])
        lines += _hardness(of)
        if max(len(row["set_iou"]) for row in of) > 1:
            lines += ["", "By set:", "", *_sets_table(of)]
    errors = [row for row in result["rows"] if "error" in row]
    if errors:
        lines += ["", "Not done:", ""]
        lines += [f"* {row['method']} on {row['group']}, {row['set']} ({row['given']}): {row['error']}" for row in errors]
    return "\n".join(lines) + "\n"


def _figures_table(rows: Sequence[Row], modality: str, backbone: str, supervision: str) -> list[str]:
    overlap = "J" if modality == "images" else "IoU"
    columns = ["method", "learnt from", "backbone (labels seen)", "seed", "sets, items + absent", f"{overlap} [95 %]", "worst item"]
    columns += [f"micro {overlap}", "P accuracy", "P precision", "other kind", "found", "false found", "AUROC", "ECE", "seconds"]
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for row in rows:
        low, high = row["iou_interval"]
        seed = "none" if row["seed"] is None else f"worst of {len(row['seeds'])}: {row['seed']} (mean {_cell(row['iou_mean_of_seeds'])})"
        worst = "-" if row["worst"] is None else f"{_cell(row['worst']['iou'])} {row['worst']['item']}"
        sees = f"`{backbone}` ({supervision})" if row["backbone"] else "none"
        cells = [row["method"] + (" (oracle)" if row["oracle"] else ""), row["given"], sees, seed]
        cells += [f"{row['sets']}, {row['items']} + {row['absent']}", f"{_cell(row['iou'])} [{_cell(low)}, {_cell(high)}]", worst]
        cells += [_cell(row[name]) for name in _MEANS[1:]]
        lines.append(_line([*cells, f"{row['seconds']:.0f}"]))
    return lines


def _hardness(rows: Sequence[Row]) -> list[str]:
    """Result of the best trivial prediction relative to the oracle; a set on which it is close to the oracle is too easy."""
    oracle = max((row["iou"] for row in rows if row["oracle"]), default=math.nan)
    trivial = {row["method"]: row["iou"] for row in rows if row["trivial"]}
    if not trivial or not oracle > 0:
        return []
    best = max(trivial, key=lambda name: trivial[name])
    share = trivial[best] / oracle
    verdict = f"more than {TOO_EASY:.0%}: the set is too easy to prove anything by this figure" if share > TOO_EASY else "hard enough"
    return ["", f"Best trivial prediction: {best}, {share:.0%} of the oracle's IoU ({verdict})."]


def _sets_table(rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row["set_iou"]))
    lines = [_line(["method", "learnt from", *names]), "|---" * (len(names) + 2) + "|"]
    return lines + [_line([row["method"], row["given"], *(_cell(row["set_iou"].get(name, math.nan)) for name in names)]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
