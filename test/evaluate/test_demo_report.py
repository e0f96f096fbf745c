"""Figures and pictures of a demo run."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.display.pictures import contact_sheet, draw_cloud, fit, input_colours, label_colours
from geoseg_ros.evaluate.demo_report import Scores, cloud_sheet, format_table, image_sheet
from geoseg_ros.evaluate.items import spread
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.results import LabelSpace

NAMES = ("mug", "can")
PALETTE = LabelSpace(NAMES).palette()


def test_figures_by_hand() -> None:
    scores = Scores(NAMES)
    scores.add_cloud(np.array([1, 1, 0, 2]), np.array([1, 0, 0, 2]))  # mug 1 of 2, can 1 of 1
    scores.add_cloud(np.array([1, 0, 0, 0]), np.array([1, 1, 0, 0]))  # mug 1 of 2, no can and none found
    scores.add_image(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]]))  # mug 0.5, no can and none found
    scores.add_image(np.array([[0, 2, 0, 0]]), np.array([[1, 0, 0, 0]]))  # mug 0, no can but found
    figures = scores.figures()
    assert figures["mug"] == {"cloud_iou": 0.5, "image_j": 0.25, "cloud_false": None, "image_false": None}
    assert (scores.clouds, scores.images) == (2, 2)
    assert figures["can"] == {"cloud_iou": 1.0, "image_j": None, "cloud_false": 0.0, "image_false": 0.5}
    with pytest.raises(ValueError, match="shape"):
        scores.add_cloud(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(("count", "wanted", "expected"), [(0, 3, []), (1, 3, [0]), (3, 5, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_spread(count: int, wanted: int, expected: list[int]) -> None:
    assert spread(count, wanted) == expected


def test_nearer_points_hide_farther_ones_and_labels_have_their_colour() -> None:
    """Two walls of an organised cloud, the larger one behind the other."""
    x, y = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(-1, 1, 80))
    walls = [np.stack([s * x, s * y, np.full_like(x, z)], axis=-1).reshape(-1, 3) for s, z in ((1.0, 2.0), (1.6, 2.5))]
    cloud = Cloud(np.concatenate(walls).astype(np.float32), None, (160, 80))
    label = np.repeat(np.array([1, 2], np.uint32), 6400)
    drawn = draw_cloud(cloud, label_colours(cloud, label, PALETTE), (200, 160)).image
    assert drawn.shape == (160, 200, 3)
    red, blue = (drawn.argmax(axis=2) == PALETTE[i].argmax() for i in (1, 2))
    coloured = np.ptp(drawn, axis=2) > 80
    assert (red & coloured)[80, 100]
    assert (red & coloured).mean() > 0.2, "the near wall is whole"
    assert (blue & coloured).mean() > 0.1, "the far one shows around it"


@pytest.mark.parametrize(
    "cloud",
    [
        Cloud(np.zeros((0, 3), np.float32)),
        Cloud(np.full((5, 3), np.nan, np.float32)),
        Cloud(np.zeros((1, 3), np.float32)),
        Cloud(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), np.zeros((50, 3), np.uint8)),
    ],
    ids=["empty", "invalid", "single", "coloured"],
)
def test_any_cloud_can_be_drawn(cloud: Cloud) -> None:
    label = np.zeros(len(cloud), np.uint32)
    for colours in (input_colours(cloud), label_colours(cloud, label, PALETTE)):
        assert colours.shape == (len(cloud), 3) and colours.dtype == np.uint8
        assert draw_cloud(cloud, colours, (64, 48)).image.shape == (48, 64, 3)


def test_sheets() -> None:
    cloud = Cloud(np.random.default_rng(0).random((500, 3), np.float32))
    label = np.arange(500, dtype=np.uint32) % 3
    known, unknown = cloud_sheet([(cloud, label, label)], NAMES, PALETTE), cloud_sheet([(cloud, label, None)], NAMES, PALETTE)
    assert known is not None and unknown is not None and known.shape[1] > 1.4 * unknown.shape[1]
    image, mask = np.full((40, 60, 3), 90, np.uint8), np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 2
    sheet = image_sheet([(image, mask, None), (image, mask * 0, mask)], NAMES, PALETTE)
    assert sheet is not None and (sheet == PALETTE[2]).all(axis=2).any()
    assert cloud_sheet([], NAMES, PALETTE) is None and image_sheet([], NAMES, PALETTE) is None
    cells = [np.full((4, 5, 3), i, np.uint8) for i in range(3)]
    assert contact_sheet(cells, 2, gap=1).shape == (11, 13, 3)
    assert fit(np.zeros((10, 1000, 3), np.uint8), (100, 50)).shape == (50, 100, 3)


def test_table_shows_what_is_known() -> None:
    stream = {"played": 9, "received": 8, "processed": 5, "dropped": 2, "rejected": 1, "latency_p50_ms": 12.3, "latency_p95_ms": None}
    figures = {"cloud_iou": 0.512, "image_j": None, "cloud_false": 0.25, "image_false": None}
    lines = format_table({"streams": {"cloud": stream}, "concepts": {"mug": figures}, "judged": {"clouds": 7, "images": 0}}).splitlines()
    assert lines[1].split() == ["cloud", "9", "8", "5", "2", "1", "12", "-"]
    assert "7 clouds and 0 images" in lines[-3]
    assert lines[-1].split() == ["mug", "0.51", "-", "25%", "-"]
