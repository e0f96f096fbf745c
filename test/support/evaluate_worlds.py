"""Small sets whose figures can be worked out by hand."""

from __future__ import annotations

import numpy as np

from geoseg_ros.evaluate.items import CosegSet, Item, NamedMethod, Prediction, Predictions
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material

SIZE = (12, 16)


def square(left: int, side: int = 4) -> np.ndarray:
    """bool SIZE, a square whose upper left corner is in row 4."""
    mask = np.zeros(SIZE, bool)
    mask[4 : 4 + side, left : left + side] = True
    return mask


def image_item(name: str, truth: np.ndarray, **more) -> Item:
    """A picture that is white where the truth is."""
    return Item(name, np.repeat(np.where(truth, 255, 0).astype(np.uint8)[..., None], 3, axis=2), truth, **more)


def pictures(name: str = "square", group: str = "squares", given: str = "pictures") -> CosegSet:
    """Two pictures with a square and one without."""
    items = [image_item("a", square(2)), image_item("b", square(8)), image_item("none", np.zeros(SIZE, bool))]
    return CosegSet(name, group, Material(name, [i.data for i in items[:2]]), images=items, given=given)


def perfect(items: CosegSet, seed: int) -> Predictions:
    """The truth itself, and sure of it."""
    images = [Prediction(i.truth, float(i.shown), float(i.shown)) for i in items.images]
    clouds = [Prediction(c.truth, float(c.shown), float(c.shown)) for c in items.clouds]
    return Predictions(images, clouds)


def shifted(items: CosegSet, seed: int) -> Predictions:
    """The truth of the pictures moved right by ``seed`` pixels."""
    return Predictions(images=[Prediction(np.roll(i.truth, seed, axis=1)) for i in items.images])


PERFECT = NamedMethod("perfect", perfect, oracle=True)
SHIFTED = NamedMethod("shifted", shifted, random=True)


def table_cloud(seed: int = 0) -> tuple[Cloud, np.ndarray]:
    """Grey points of a table top (optical frame, metres) with a cube and a ball; and int32 [N], 1 on the cube, 2 on the ball."""
    rng = np.random.default_rng(seed)
    x, z = (a.ravel() for a in np.meshgrid(np.arange(-0.5, 0.5, 0.01), np.arange(0.8, 1.7, 0.01)))
    table = np.stack([x, np.full_like(x, 0.4), z], axis=1) + rng.normal(0, 0.0005, (len(x), 3))
    u, v = (a.ravel() for a in np.meshgrid(*[np.arange(0, 0.12, 0.006)] * 2))
    cube = np.concatenate([np.stack([u - 0.3, 0.4 - v, np.full_like(u, 1.1)], 1), np.stack([u - 0.3, np.full_like(u, 0.28), v + 1.1], 1)])
    ball = rng.normal(size=(900, 3))
    ball = np.array([0.2, 0.33, 1.2]) + 0.07 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    xyz = np.concatenate([table, cube, ball]).astype(np.float32)
    return Cloud(xyz, np.full(xyz.shape, 120, np.uint8)), np.repeat([0, 1, 2], [len(table), len(cube), len(ball)]).astype(np.int32)
