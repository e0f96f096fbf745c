"""Pictures of the best and the worst items of a row."""

import cv2
import numpy as np

from benchmarks.tables.best_and_worst import Extremes
from geoseg_ros.evaluate.items import CosegSet, Item, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.table import measure
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material


def _items():
    """Seven pictures: in picture k the object covers the first 10 + k columns of 20; 6 does not show it. Two clouds."""
    pictures = []
    for k in range(7):
        truth = np.zeros((12, 20), bool)
        truth[:, : 10 + k] = k < 6
        pictures.append(Item(f"p{k}", np.full((12, 20, 3), 100, np.uint8), truth))
    xyz = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) + (3, 0, 0)
    clouds = [Item(f"c{k}", Cloud(xyz.astype(np.float32)), np.arange(200) < 50) for k in range(2)]
    return CosegSet("mug", "objects", Material("mug"), images=pictures, clouds=clouds, given="pictures")


def _ten_columns(items, seed):
    columns = np.tile(np.arange(20) < 10, (12, 1))
    return Predictions([Prediction(columns) for _ in items.images], [Prediction(item.truth) for item in items.clouds])


def test_the_best_and_the_worst_are_kept_and_drawn(tmp_path):
    extremes = Extremes(2)
    measure([_items()], [NamedMethod("ten columns", _ten_columns, random=True)], [3, 4], look=extremes.look)
    (key, judged), (_, clouds) = extremes._found.items()
    assert key == ("objects", "pictures", "robot", "images", "ten columns")
    assert [one.name for one in judged] == ["mug, p0", "mug, p1", "mug, p4", "mug, p5"]  # not p6, which does not show it; one seed
    np.testing.assert_allclose([one.iou for one in judged], [1, 10 / 11, 10 / 14, 10 / 15])
    assert [one.iou for one in clouds] == [1, 1]
    paths = extremes.write(tmp_path)
    assert [path.name for path in paths] == [f"objects_pictures_robot_{kind}_ten_columns.jpg" for kind in ("images", "clouds")]
    drawn = [cv2.imread(str(path)) for path in paths]
    assert drawn[0].shape[0] > 700 and len(np.unique(drawn[0].reshape(-1, 3), axis=0)) > 50  # two rows, in colour


def test_without_what_shows_the_object_nothing_is_written(tmp_path):
    items = _items()
    extremes = Extremes()
    absent = CosegSet("mug", "objects", Material("mug"), images=items.images[6:], given="pictures")
    measure([absent], [NamedMethod("ten columns", _ten_columns)], [0], look=extremes.look)
    assert extremes.write(tmp_path) == [] and list(tmp_path.iterdir()) == []
