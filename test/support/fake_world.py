"""A backbone that sees colours only, and pictures and clouds of coloured objects: quick, deterministic, and easy to reason about."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from geoseg_ros.backbones.base import check_images
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.observations import BuildConfig

torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine, and nothing here is large

CONFIG = BuildConfig(coseg=CosegConfig(image_side=256, image_margin=0.1))
COLOURS = {"red": (220, 30, 30), "blue": (30, 40, 220), "green": (40, 190, 50), "yellow": (220, 210, 40), "cyan": (40, 200, 210)}
OTHERS = ("green", "yellow", "cyan")


class FakeBackbone:
    """A token is the soft place of its cell's mean colour in a 3 x 3 x 3 grid."""

    name = "fake"
    stride = 16
    dim = 27
    hash = "fa4e" * 16
    supervision = "none"

    def tokens(self, images):
        check_images(images, self.stride)
        count, height, width, _ = images.shape
        cells = images.reshape(count, height // 16, 16, width // 16, 16, 3).astype(np.float32).mean((2, 4))
        grid = np.stack(np.meshgrid(*[[30, 128, 225]] * 3, indexing="ij"), -1).reshape(27, 3)
        distance = ((cells[..., None, :] - grid) ** 2).sum(-1)
        tokens = torch.from_numpy(np.exp(-distance / (2 * 60**2)).astype(np.float32))
        return tokens, tokens.mean((1, 2))


def _paint(rng, obj):
    """Objects of one colour are not of quite the same colour."""
    return np.array(COLOURS[obj]) + rng.normal(0, 18, 3)


def picture(seed, objects, size=(96, 128)):
    """uint8 RGB [H, W, 3]: a square of each colour in ``objects`` on a mottled grey ground; and bool [H, W] of the first one."""
    rng = np.random.default_rng(seed)
    height, width = size
    mottled = cv2.resize(rng.normal(0, 12, (6, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = rng.uniform(90, 160, 3) + mottled[..., None] + rng.normal(0, 4, (height, width, 3))
    side = height // 4
    slots = rng.permutation([(r, c) for r in (0.2, 0.5) for c in (0.15, 0.42, 0.68)])
    truth = np.zeros(size, bool)
    for k, obj in enumerate(objects):
        top, left = int(slots[k][0] * height), int(slots[k][1] * width)
        image[top : top + side, left : left + side] = _paint(rng, obj) + rng.normal(0, 6, (side, side, 3))
        if k == 0:
            truth[top : top + side, left : left + side] = True
    return np.clip(image, 0, 255).astype(np.uint8), truth


def table(seed, objects):
    """A coloured cloud (optical frame, metres) of a grey table top with a ball of each colour in ``objects``, and uint8 [N]: k + 1 on the
    k-th object."""
    rng = np.random.default_rng(seed)
    parts, colours, truth = [], [], []

    def add(xyz, colour, label):
        parts.append(xyz)
        colours.append(np.clip(colour + rng.normal(0, 5, (len(xyz), 3)), 0, 255))
        truth.append(np.full(len(xyz), label, np.uint8))

    x, z = np.meshgrid(np.linspace(-0.6, 0.6, 70), np.linspace(0.8, 1.8, 60))
    add(np.stack([x.ravel(), np.full(x.size, 0.4) + rng.normal(0, 0.001, x.size), z.ravel()], 1), rng.uniform(90, 160, 3), 0)
    places = rng.permutation([(-0.4, 1.05), (0.0, 1.05), (0.4, 1.05), (-0.4, 1.5), (0.0, 1.5), (0.4, 1.5)])
    for k, obj in enumerate(objects):
        direction = rng.normal(size=(700, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        direction[:, 2] = -np.abs(direction[:, 2])  # the side that the sensor sees
        centre = np.array([places[k][0], 0.4 - 0.13, places[k][1]])
        add(centre + 0.1 * direction, _paint(rng, obj), k + 1)
    xyz = np.concatenate(parts).astype(np.float32)
    return Cloud(xyz, np.concatenate(colours).astype(np.uint8)), np.concatenate(truth)
