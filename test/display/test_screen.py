"""Pictures of labelled frames: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.display.boxes import corners, draw_boxes
from geoseg_ros.display.frame import LabelledCloud, LabelledFrame, LabelledImage, Newest, paint
from geoseg_ros.display.pictures import draw_cloud, label_colours
from geoseg_ros.display.screen import draw_frame
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.results import LabelSpace, ObjectInstance

LABELS = LabelSpace(("mug", "can"))
PALETTE = LABELS.palette()


def block(label: int = 1, center: tuple[float, float, float] = (0, 0, 0.06), size: float = 0.2, track: int = 0) -> ObjectInstance:
    """0.6 times as high as it is wide."""
    lengths = size * np.array([1, 1, 0.6])
    return ObjectInstance(label, LABELS.names[label - 1], 1, 0.9, 0.01, np.array(center, float), np.eye(3), lengths, 10, track)


def table(seed: int = 0) -> Cloud:
    """A table top of 1 m at height 0."""
    rng = np.random.default_rng(seed)
    return Cloud(np.column_stack([rng.uniform(-0.5, 0.5, (60_000, 2)), rng.normal(0, 1e-3, 60_000)]).astype(np.float32))


def with_block(seed: int = 0) -> tuple[Cloud, np.ndarray]:
    """The table with the surface of the block on it, and the labels."""
    rng = np.random.default_rng(seed)
    top = np.column_stack([rng.uniform(-0.1, 0.1, (20_000, 2)), np.full(20_000, 0.12)])
    side = np.column_stack([np.full(20_000, -0.1), rng.uniform(-0.1, 0.1, 20_000), rng.uniform(0, 0.12, 20_000)])
    xyz = np.concatenate([table().xyz, top, side]).astype(np.float32)
    return Cloud(xyz), np.repeat(np.array([0, 1], np.uint32), [60_000, 40_000])


def is_colour(image: np.ndarray, label: int) -> np.ndarray:
    """bool [H, W]: the pixels in the colour of a label, however bright."""
    brightest = image.max(axis=2, keepdims=True).astype(float)
    near = np.abs(image / np.maximum(brightest, 1) - PALETTE[label] / PALETTE[label].max()) < 0.15
    return near.all(axis=2) & (brightest[..., 0] > 80)


def test_corners_by_hand() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # a quarter about z
    entry = ObjectInstance(1, "mug", 1, 0.9, 0.01, np.array([1.0, 2, 3]), turn, np.array([0.2, 0.4, 0.6]), 10)
    found = corners(entry)
    np.testing.assert_allclose(found.min(axis=0), [0.8, 1.9, 2.7])
    np.testing.assert_allclose(found.max(axis=0), [1.2, 2.1, 3.3])


def test_edges_in_front_are_drawn_and_edges_behind_are_faint() -> None:
    cloud, label = with_block()
    drawing = draw_cloud(cloud, label_colours(cloud, label * 0, PALETTE), (640, 480))
    assert drawing.camera is not None and not is_colour(drawing.image, 2).any()
    boxed = draw_boxes(drawing, [block(2)], PALETTE)
    assert not is_colour(drawing.image, 2).any(), "the drawing itself stays"
    pixels, _ = drawing.camera.project(corners(block(2)))
    upper, lower = pixels[corners(block(2))[:, 2] > 0.06], pixels[corners(block(2))[:, 2] < 0.06]

    def edge(a: np.ndarray, b: np.ndarray) -> float:
        """Share of the edge, without its ends, that has the full colour somewhere near."""
        middle = np.rint(a + np.linspace(0.2, 0.8, 30)[:, None] * (b - a)).astype(int)
        return float(np.mean([is_colour(boxed[v - 1 : v + 2, u - 1 : u + 2], 2).any() for u, v in middle]))

    nearest, farthest = upper[np.argsort(-upper[:, 1])], lower[np.argsort(lower[:, 1])]
    assert edge(nearest[0], nearest[1]) > 0.9, "the near upper edge"
    assert edge(farthest[0], farthest[1]) < 0.1, "the far lower edge is behind the block"
    changed = (boxed != drawing.image).any(axis=2)
    u, v = np.rint((farthest[0] + farthest[1]) / 2).astype(int)
    assert changed[v - 1 : v + 2, u - 1 : u + 2].any(), "but can be seen"


def test_names_do_not_cover_each_other() -> None:
    cloud = table()
    drawing = draw_cloud(cloud, np.full((len(cloud), 3), 200, np.uint8), (320, 240))
    objects = [block(1, (0.1 * i, 0.02 * i, 0.05), 0.02, track=i) for i in range(4)]
    boxed = draw_boxes(drawing, objects, PALETTE)
    alone = [is_colour(draw_boxes(drawing, [entry], PALETTE), 1).sum() for entry in objects]
    assert is_colour(boxed, 1).sum() > 0.9 * sum(alone)
    assert is_colour(draw_boxes(drawing, objects, PALETTE, names=False), 1).sum() < 0.5 * sum(alone)


@pytest.mark.parametrize("center", [(0.0, 0.0, 50.0), (-60.0, 0.0, 0.0), (0.0, 80.0, 0.0)], ids=["above", "behind", "beside"])
def test_objects_outside_the_picture_do_no_harm(center: tuple[float, float, float]) -> None:
    cloud = table()
    drawing = draw_cloud(cloud, np.full((len(cloud), 3), 200, np.uint8), (160, 120))
    assert (draw_boxes(drawing, [block(1, center)], PALETTE) == drawing.image).all()


def test_one_coloured_objects_show_their_shape() -> None:
    """A block of one colour has an edge that can be seen."""
    cloud, label = with_block()
    drawing = draw_cloud(cloud, label_colours(cloud, label, PALETTE), (320, 240))
    shown = np.where(is_colour(drawing.image, 1), drawing.image[..., 0], 0)
    rows = np.flatnonzero((shown > 0).any(axis=1))
    brightness = [float(np.median(shown[row][shown[row] > 0])) for row in rows[4:-4]]
    assert 2 < int(np.argmax(brightness)) < len(brightness) - 3, "the edge between its top and its side is the brightest"
    assert max(brightness) > 1.05 * np.median(brightness)


def test_labels_keep_light_and_shade_of_the_sensor() -> None:
    xyz = np.zeros((3, 3), np.float32)
    colours = label_colours(Cloud(xyz, np.array([[0] * 3, [255] * 3, [255, 0, 0]], np.uint8)), np.array([1, 1, 0]), PALETTE)
    assert (colours[1] == PALETTE[1]).all() and 0.4 < colours[0, 0] / PALETTE[1, 0] < 0.7
    assert colours[2, 0] > colours[2, 1] > 120, "pale, but still its own colour"


def test_a_frame_shows_what_is_there() -> None:
    cloud, label = with_block()
    labelled = LabelledCloud(12_345_000_000, "lidar", cloud, label, (block(1, track=7),))
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:40] = 2
    image = paint(5, mask, np.full((60, 80, 3), 90, np.uint8), LABELS)
    assert image.found == (2,) and (image.picture[0, 0] == 90).all() and (image.picture[30, 30] != 90).any()
    both, one, other = (draw_frame(LabelledFrame(LABELS, *parts)) for parts in ((labelled, image), (labelled, None), (None, image)))
    assert both.shape[0] == one.shape[0] == other.shape[0] and one.shape == other.shape
    assert both.shape[1] == 2 * one.shape[1] - 6
    half = both.shape[1] // 2
    np.testing.assert_array_equal(both[:, : half - 6], one[:, : half - 6])
    np.testing.assert_array_equal(both[:, half + 6 :], other[:, 9:])
    # the colours of the legend and of the objects
    assert is_colour(one, 1).sum() > 5000 and is_colour(other, 1).sum() == 0 and is_colour(other, 2).sum() > 100
    elsewhere = draw_frame(LabelledFrame(LABELS, LabelledCloud(12_345_000_000, "lidar", cloud, label, (), "odom")))
    assert (elsewhere[:40] != one[:40]).any(), "the caption says so"
    with pytest.raises(ValueError, match="expected a cloud or an image"):
        draw_frame(LabelledFrame(LABELS))


def test_a_labelled_object_near_the_ceiling_is_drawn() -> None:
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(-2, 2, (5000, 2)), np.zeros(5000)])
    lamp = np.column_stack([rng.uniform(-0.3, 0.3, (3000, 2)), np.full(3000, 2.5)])
    cloud = Cloud(np.concatenate([floor, lamp]).astype(np.float32))
    label = np.repeat(np.array([0, 2], np.uint32), [5000, 3000])
    shown = draw_cloud(cloud, label_colours(cloud, label, PALETTE), (160, 120), label > 0).image
    assert is_colour(shown, 2).any()
    assert not is_colour(draw_cloud(cloud, label_colours(cloud, label, PALETTE), (160, 120)).image, 2).any()


def test_a_mask_without_its_image_is_painted_on_grey() -> None:
    mask = np.eye(20, dtype=np.uint8)
    for image in (None, np.zeros((10, 10, 3), np.uint8)):
        picture = paint(5, mask, image, LABELS).picture
        assert picture.shape == (20, 20, 3) and (picture[0, 19] == picture[19, 0]).all() and picture[0, 19].max() > 50


def test_newest_keeps_one_of_each() -> None:
    newest = Newest()
    assert newest.frame is None
    newest.labels(LABELS)
    image = LabelledImage(1, np.zeros((4, 4, 3), np.uint8))
    cloud = LabelledCloud(2, "lidar", table(), np.zeros(60_000, np.uint32))
    newest.add(image)
    assert newest.frame == LabelledFrame(LABELS, None, image)
    newest.add(cloud)
    newer = LabelledImage(3, np.zeros((4, 4, 3), np.uint8))
    newest.add(newer)
    assert newest.frame is not None and newest.frame.cloud is cloud and newest.frame.image is newer
