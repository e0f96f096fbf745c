"""Images only: the tokens of one picture in two groups, the one that keeps away from the border is the target."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from geoseg_ros.backbones.tokens import photo_tokens, unit
from geoseg_ros.evaluate.items import CosegSet, Mask, Method, Prediction, Predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.learning.foreground import inside

ROUNDS = 20
BORDER = 0.1


def groups(values: NDArray[np.floating], count: int, seed: int) -> NDArray[np.int64]:
    """k-means (k-means++ start by ``seed``) of values [n, D]: int64 [n], fewer than ``count`` groups where values repeat."""
    values = np.asarray(values, np.float64)
    count = min(count, len(np.unique(values, axis=0)))
    if count < 2:
        return np.zeros(len(values), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a group that went empty; it keeps its centre
        return kmeans2(values, count, iter=ROUNDS, minit="++", seed=np.random.default_rng(seed))[1].astype(np.int64)


def away_from_border(member: NDArray[np.bool_], border: float = BORDER) -> bool:
    """Whether the tokens ``member`` [h, w] are rarer in the frame of a picture than inside it."""
    interior = inside(member.shape[0], member.shape[1], border).numpy()
    return bool(member[~interior].mean() <= member[interior].mean()) if interior.any() else True


def resize_map(values: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h, w] at ``size`` (height, width), float32, bilinear."""
    return np.asarray(cv2.resize(np.asarray(values, np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def full_size(member: NDArray[np.bool_] | NDArray[np.float32], size: tuple[int, int]) -> Mask:
    """A token grid [h, w], bool or 0 .. 1, as a mask of ``size`` (height, width): interpolated, then cut at one half."""
    return resize_map(member, size) > 0.5


def two_means(tools: Tools) -> Method:
    """Token 2-means per image with the border rule."""

    def run(items: CosegSet, seed: int) -> Predictions:
        predictions = []
        for item in items.images:
            with torch.inference_mode():
                tokens, _ = photo_tokens(tools.backbone, item.data, tools.config.coseg.image_side)
                tokens = unit(tokens, tools.bank.mean)
            group = groups(tokens.flatten(0, 1).numpy(), 2, seed).reshape(tokens.shape[:2])
            member = group == 1
            predictions.append(Prediction(full_size(member if away_from_border(member) else ~member, item.truth.shape)))
        return Predictions(images=predictions)

    return run
