"""Rows, their summary, and the tables."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import CosegSet, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.table import known, markdown, measure, summarise
from geoseg_ros.evaluate.trivial import TRIVIAL
from support.evaluate_worlds import PERFECT, SHIFTED, pictures, square


def _refuses(items: CosegSet, seed: int) -> Predictions:
    raise InputError("expected something else")


def test_seeds_and_rows() -> None:
    rows = measure([pictures()], [PERFECT, SHIFTED], [0, 1, 2])
    assert [(r["method"], r["seed"], r["modality"]) for r in rows] == [
        ("perfect", None, "images"),
        *[("shifted", seed, "images") for seed in (0, 1, 2)],
    ]
    # a square of 4 x 4 moved by s pixels has IoU (4 - s) / (4 + s)
    assert [r["iou"] for r in rows[1:]] == [1.0, 3 / 5, 2 / 6]
    assert rows[0]["group"] == "squares" and rows[0]["given"] == "pictures" and rows[0]["protocol"] == "robot"


def test_worst_seed_is_told() -> None:
    (row,) = summarise(measure([pictures("first"), pictures("second")], [SHIFTED], [0, 2, 1]))
    assert (row["seed"], row["iou"], row["seeds"]) == (2, pytest.approx(1 / 3), [0, 1, 2])
    assert row["iou_mean_of_seeds"] == pytest.approx((1 + 3 / 5 + 1 / 3) / 3)
    assert (row["sets"], row["items"], row["absent"]) == (2, 4, 2)
    assert row["set_iou"] == {"first": pytest.approx(1 / 3), "second": pytest.approx(1 / 3)}
    assert row["worst"]["iou"] == pytest.approx(1 / 3)


def test_a_method_that_does_not_learn_runs_once_per_items() -> None:
    sets = [pictures(given="pictures"), pictures(given="pictures + without")]
    rows = measure(sets, [PERFECT, TRIVIAL[0]], [0])
    assert [(r["method"], r["given"]) for r in rows] == [
        ("perfect", "pictures"),
        ("all foreground", "nothing (items as for: pictures)"),
        ("perfect", "pictures + without"),
    ]
    fewer = CosegSet("square", "squares", sets[0].own, images=sets[0].images[:2], given="less")
    assert len(measure([*sets, fewer], [TRIVIAL[0]], [0])) == 2  # other items, another row


def test_markdown_names_everything() -> None:
    sees = NamedMethod("seeing", PERFECT.run, backbone=True)
    rows = measure([pictures("first"), pictures("second")], [PERFECT, SHIFTED, sees, NamedMethod("shy", _refuses)], [0, 1])
    about = {"title": "Title", "backbone": "tiny", "supervision": "no labels", "command": "geoseg evaluate ..."}
    text = markdown({**about, "summary": summarise(rows), "rows": rows})
    lines = text.splitlines()
    assert "Command: `geoseg evaluate ...`" in lines and "## squares: images, protocol `robot`" in lines
    cells = [[cell.strip() for cell in x.split("|")[1:-1]] for x in lines if x.startswith("| ")]
    row = {c[0]: c[1:] for c in cells if len(c) > 9}
    assert row["perfect (oracle)"][:3] == ["pictures", "none", "none"]
    assert row["seeing"][1] == "`tiny` (no labels)"
    assert row["shifted"][2] == "worst of 2: 1 (mean 0.800)" and row["shifted"][4].startswith("0.600 [")
    assert "| perfect | pictures | 1.000 | 1.000 |" in lines
    assert "* shy on squares, first (pictures): expected something else" in lines
    header = next(x for x in lines if x.startswith("| method"))
    assert "| J [95 %] |" in header and all(x.count("|") == header.count("|") for x in lines if x.startswith("| perfect (oracle)"))


def test_summary_skips_what_is_unknown() -> None:
    (row,) = summarise(measure([pictures()], [TRIVIAL[0]], [0]))
    assert math.isnan(row["auroc"]) and row["false_found"] == 1.0
    assert summarise(measure([pictures()], [NamedMethod("shy", _refuses)], [0])) == []


def test_a_set_made_by_a_seed_is_measured_with_it() -> None:
    sets = [replace(pictures(), seed=seed) for seed in (1, 3)]
    rows = measure(sets, [PERFECT, SHIFTED, TRIVIAL[0]], [0, 5])
    assert [(r["method"], r["seed"]) for r in rows] == [(m, s) for s in (1, 3) for m in ("perfect", "shifted", "all foreground")]
    row = next(r for r in summarise(rows) if r["method"] == "shifted")
    assert (row["seed"], row["iou"], row["sets"]) == (3, pytest.approx(1 / 7), 1)  # the worst world, and that one alone


def _half(items: CosegSet, seed: int) -> Predictions:
    return Predictions(images=[Prediction(i.truth & ~square(4) & ~square(10)) for i in items.images])


@pytest.mark.parametrize(("trivial", "verdict"), [(PERFECT.run, "too easy"), (_half, "hard enough")])
def test_too_easy_is_said(trivial, verdict) -> None:
    rows = measure([pictures()], [PERFECT, NamedMethod("guess", trivial, learns=False)], [0])
    text = markdown({"title": "", "backbone": "", "supervision": "", "command": "", "summary": summarise(rows), "rows": rows})
    share = "100%" if trivial is PERFECT.run else "50%"
    assert f"Best trivial prediction: guess, {share} of the oracle's IoU" in text and verdict in text


def test_json_has_no_nan() -> None:
    assert known({"a": math.nan, "b": [1.0, math.inf], "c": ("x", None)}) == {"a": None, "b": [1.0, None], "c": ["x", None]}
