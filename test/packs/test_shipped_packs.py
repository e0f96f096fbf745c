"""The packs that ship: their names, and what those of real things find in photographs of another data set."""

from __future__ import annotations

import cv2
import pytest

from geoseg_ros.packs.pack import Pack, find_pack, shipped_packs
from geoseg_ros.runtime.pipeline import open_pipeline
from support.paths import SHARED

MSRC = SHARED / "data" / "images" / "msrc"
CAR, COW = 12, 4


def test_a_shipped_pack_is_named_without_its_backbone_where_that_is_clear():
    names = shipped_packs()
    assert (
        {"stool", "lamp", "car", "geoseg_base/stool"} <= set(names) and "geoseg_tiny/stool" not in names and "geoseg_base/car" not in names
    )
    assert Pack.load("stool").backbone == Pack.load("geoseg_tiny/stool").backbone == "geoseg_tiny"
    assert Pack.load("car").backbone == Pack.load("geoseg_base/stool").backbone == "geoseg_base"
    assert find_pack("car") == find_pack("geoseg_base/car")
    assert [Pack.load(name).labels[0] for name in names] == [name.split("/")[-1] for name in names]


@pytest.mark.slow
@pytest.mark.skipif(not MSRC.is_dir(), reason="needs the photographs of MSRC")
def test_the_pack_of_cars_finds_cars_in_other_photographs():
    pipeline = open_pipeline(["car"])
    found: dict[int, list[float]] = {CAR: [], COW: []}
    for path in sorted((MSRC / "images").iterdir()):
        label = cv2.imread(str(next((MSRC / "labels").glob(f"{path.stem}*"))), cv2.IMREAD_UNCHANGED)
        kind = next((kind for kind, masks in found.items() if (label == kind).mean() > 0.05 and len(masks) < 6), None)
        if kind is not None:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            mask, truth = pipeline.process_image(image).mask > 0, label == CAR
            found[kind].append(float((mask & truth).sum() / max((mask | truth).sum(), 1)) if kind == CAR else float(mask.any()))
    assert sorted(found[CAR])[2] > 0.4 and sum(found[COW]) <= 1
